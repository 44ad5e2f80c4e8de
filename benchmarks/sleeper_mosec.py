"""mosec with the fake model, in a file of its own: mosec's workers import it anew.

python -m benchmarks.sleeper_mosec 8123
"""

from __future__ import annotations

import sys
import time

from mosec import Server, Worker

from benchmarks.peer import EACH, FIRST, LARGEST, WAIT


class Sleeper(Worker):  # type: ignore[misc]
    """Answers each request with its own bytes."""

    def deserialize(self, data: bytes) -> bytes:
        return data

    def serialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes]) -> list[bytes]:
        time.sleep(FIRST + EACH * len(data))
        return data


if __name__ == "__main__":
    port = sys.argv[1]
    sys.argv = ["mosec", "--address", "127.0.0.1", "--port", port]
    server = Server()
    server.append_worker(Sleeper, num=1, max_batch_size=LARGEST, max_wait_time=round(1000 * WAIT))
    server.run()
