"""Answers that are fetched later: `Prefer: respond-async` (RFC 7240)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from typing import NamedTuple

from starlette.responses import Response

from segbench.serve import problems
from segbench.serve.problems import Problem

SECONDS_KEPT = 600.0
_LAST_SECONDS = 10  # that clients have to fetch answers from a server that stops
_LARGEST_BYTES = 256_000_000  # of all kept answers


class Job(NamedTuple):
    """An answer that is made, or being made."""

    name: str
    task: asyncio.Task[Response]
    fetched: bool = False


class Jobs:
    """Kept in memory: each answer for SECONDS_KEPT, all of them together within a number of bytes."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def start(self, work: Coroutine[None, None, Response]) -> str:
        """Makes the answer in the background. Returns the job's name."""
        name = secrets.token_urlsafe(16)
        self._jobs[name] = Job(name, asyncio.create_task(_answered(work)))
        self._jobs[name].task.add_done_callback(lambda task: self._expire_later(name))
        return name

    def check(self) -> None:
        """Raises Problem 429 where the kept answers leave no room for another job."""
        kept = sum(len(job.task.result().body) for job in self._jobs.values() if _is_answered(job))
        if kept > _LARGEST_BYTES:
            detail = f"answers of {kept:,} bytes wait to be fetched; fetch and DELETE jobs first"
            raise Problem(429, detail, {"retry-after": "60"})

    def get(self, name: str) -> Response | None:
        """The answer, or None where it is still being made. Raises Problem 404 for an unknown job."""
        job = self._find(name)
        if not job.task.done():
            return None
        self._jobs[name] = job._replace(fetched=True)
        return job.task.result()

    def delete(self, name: str) -> None:
        """Forgets a job; one that still runs costs nothing more. Raises Problem 404 for an unknown job."""
        self._find(name).task.cancel()
        self._jobs.pop(name, None)

    async def fetched(self) -> None:
        """Returns once no answer waits for its client, or after a few seconds."""
        for _ in range(10 * _LAST_SECONDS):
            if all(job.fetched for job in self._jobs.values()):
                return
            await asyncio.sleep(0.1)

    def _find(self, name: str) -> Job:
        if name not in self._jobs:
            raise Problem(404, f"no such job; answers are kept for {SECONDS_KEPT / 60:.0f} minutes")
        return self._jobs[name]

    def _expire_later(self, name: str) -> None:
        asyncio.get_running_loop().call_later(SECONDS_KEPT, self._jobs.pop, name, None)


def _is_answered(job: Job) -> bool:
    return job.task.done() and not job.task.cancelled()


async def _answered(work: Coroutine[None, None, Response]) -> Response:
    try:
        return await work
    except Exception as error:
        return problems.of(error).response()
