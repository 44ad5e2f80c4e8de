"""A few threads for what is neither the network's nor the event loop's: decoding, class maps, encoding."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Answer = TypeVar("Answer")


class Pool:
    """As many threads as cores, at most four: more would only keep more photographs in memory."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "pool", _one_thread_each)

    async def run(self, function: Callable[..., Answer], *arguments: object) -> Answer:
        """Calls `function` in one of the threads. If the caller is cancelled, it waits for a call that has begun, so
        that its memory counts as in use for as long as it is."""
        call = self._threads.submit(function, *arguments)
        answer = asyncio.wrap_future(call)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if not call.cancel():
                await asyncio.gather(answer, return_exceptions=True)
            raise

    def close(self) -> None:
        """Ends the threads after what they do now."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _one_thread_each() -> None:
    """The lane has the cores: a call in the pool keeps to its own."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
