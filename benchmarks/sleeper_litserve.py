"""LitServe with the fake model, in a file of its own: LitServe's workers import it anew.

python -m benchmarks.sleeper_litserve 8123
"""

from __future__ import annotations

import sys
import time
from typing import Any

import litserve

from benchmarks.peer import EACH, FIRST, LARGEST, ROUTE, WAIT


class Sleeper(litserve.LitAPI):  # type: ignore[misc]
    """Answers each request with its own content."""

    def setup(self, device: str) -> None:
        pass

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def predict(self, data: list[Any]) -> list[Any]:
        time.sleep(FIRST + EACH * len(data))
        return data


if __name__ == "__main__":
    api = Sleeper(max_batch_size=LARGEST, batch_timeout=WAIT, api_path=ROUTE)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
