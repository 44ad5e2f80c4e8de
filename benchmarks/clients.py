"""Clients of a server on this machine, for `benchmarks.serving`, in a process of their own."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple


class Load(NamedTuple):
    """What some clients saw."""

    clients: int
    rate: float  # answers of status 200 a second
    p50: float  # seconds
    p95: float
    p99: float
    statuses: dict[int, int]

    def shown(self) -> list[str]:
        return [f"{value * 1000:.0f} ms" for value in (self.p50, self.p95, self.p99)]

    @classmethod
    def of(cls, clients: int, seconds: float, seen: Sequence[tuple[int, float]]) -> Load:
        good = sorted(took for status, took in seen if status == 200) or [float("nan")]
        p50, p95, p99 = (good[min(len(good) - 1, int(len(good) * share))] for share in (0.5, 0.95, 0.99))
        statuses = dict(sorted(Counter(status for status, _ in seen).items()))
        return cls(clients, statuses.get(200, 0) / seconds, p50, p95, p99, statuses)


def request_head(path: str, body: bytes) -> bytes:
    about = f"Host: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}"
    return f"POST {path} HTTP/1.1\r\n{about}\r\n\r\n".encode()


async def ask(port: int, path: str, body: bytes, connection: Any = None) -> tuple[int, Any]:
    """One request; returns its status and the connection for the next one."""
    reader, writer = connection or await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_head(path, body) + body)
    await writer.drain()
    headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(headers.partition("content-length: ")[2].split("\r\n")[0])
    await reader.readexactly(length)
    return int(headers.split()[1]), (reader, writer)


async def closed(port: int, path: str, body: bytes, clients: int, seconds: float) -> list[tuple[int, float]]:
    seen: list[tuple[int, float]] = []
    ends = time.perf_counter() + seconds

    async def client() -> None:
        connection = None
        while (started := time.perf_counter()) < ends:
            status, connection = await ask(port, path, body, connection)
            if time.perf_counter() < ends:  # the rest is of no full window
                seen.append((status, time.perf_counter() - started))
        if connection:
            connection[1].close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return seen


async def opened(port: int, path: str, body: bytes, rate: float, seconds: float) -> list[tuple[int, float]]:
    chance, started = random.Random(0), time.perf_counter()
    seen: list[tuple[int, float]] = []

    async def request(due: float) -> None:
        try:
            status, (_, writer) = await ask(port, path, body)
            writer.close()
        except (OSError, asyncio.IncompleteReadError):
            status = 0
        seen.append((status, time.perf_counter() - due))

    tasks, due = [], started
    while (due := due + chance.expovariate(rate)) < started + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(request(due)))
    await asyncio.gather(*tasks)
    return seen


async def leave(port: int, path: str, body: bytes, clients: int, seconds: float) -> list[tuple[int, float]]:
    """Asks, and after `seconds` leaves without the answer."""
    connections = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(clients)]
    for writer in connections:
        writer.write(request_head(path, body) + body)
        await writer.drain()
    await asyncio.sleep(seconds)
    for writer in connections:
        writer.transport.abort()
    return []


def _client(work: str, arguments: tuple[Any, ...], answer: Any) -> None:
    answer.put(asyncio.run({"closed": closed, "opened": opened, "leave": leave}[work](*arguments)))


def load(work: str, *arguments: Any) -> list[tuple[int, float]]:
    """Runs clients in a process of their own, so that they share no interpreter with the server."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_client, args=(work, arguments, answer))
    process.start()
    return list(answer.get())
