"""uvicorn as it is needed here: it cuts slow connections, and stops only when what was admitted is answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from segbench.serve.service import Service

_HEADER_SECONDS = 10.0  # that a request's headers may take, and the rest of an upload that is refused already
_STALL_SECONDS = 30.0  # after which a client that has read nothing of its answer is cut off
_CONNECTIONS = 512
_STOP_SECONDS = 10  # that clients have to read their answers when the server stops
_MESSAGE = b"\nsegbench: answering what was admitted, then stopping; press Ctrl-C again to stop at once\n"


async def serve(app: FastAPI, service: Service, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Listens at once, loads the models, calls `ready` when they are warm, and serves until a signal.

    Raises UserError where a model cannot be loaded.
    """
    server = Server(app, service)
    async with service.running():
        loading = asyncio.create_task(service.load())
        serving = asyncio.create_task(server.serve([listener]))
        await asyncio.wait((loading, serving), return_when=asyncio.FIRST_COMPLETED)
        failed = loading.done() and loading.exception() is not None
        if failed:
            server.should_exit = True
        elif loading.done():
            ready()
        await serving
        loading.cancel()
        if failed:
            loading.result()


class Server(uvicorn.Server):
    """At the first SIGINT or SIGTERM it answers what was admitted and refuses the rest; the second ends the process."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        config = uvicorn.Config(
            app,
            http=Impatient,
            loop="asyncio",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        super().__init__(config)
        self._service = service
        self._stopping: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Instead of uvicorn's own handlers, which stop listening at once."""
        numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        loop = asyncio.get_running_loop()
        for number in numbers:
            loop.add_signal_handler(number, self._signalled, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def stop(self) -> None:
        """Answers what was admitted, then ends."""
        await self._service.drain()
        self.should_exit = True

    def _signalled(self, number: int) -> None:
        if self._stopping:
            os._exit(128 + number)  # a forward pass cannot be interrupted, and Python would wait for its thread
        os.write(2, _MESSAGE)
        self._stopping = asyncio.create_task(self.stop())


class Impatient(H11Protocol):
    """A connection that is cut off when its client takes too long; uvicorn itself waits without end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio."""
        self.access_log = False  # it would hold what follows a `?`; uvicorn asks whether the root logger has a handler
        self._limits: dict[str, asyncio.TimerHandle] = {}  # by what the client is waited for
        super().connection_made(transport)
        if len(self.connections) > _CONNECTIONS:
            transport.abort()
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        super().data_received(data)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        super().connection_lost(exc)
        for kind in list(self._limits):
            self._lift(kind)  # a timer would keep the connection in memory

    def on_response_complete(self) -> None:
        """Called by uvicorn when the whole answer is in the transport's hands."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:  # refused without being read: the rest is thrown away
            self._limit("rest", _HEADER_SECONDS, self._cut_if_sending, self.cycle)
        self._limit("answer", _STALL_SECONDS, self._cut_if_stalled, self.transport.get_write_buffer_size())

    def _wait_for_headers(self) -> None:
        """The first byte of a request's headers, or the connection itself, starts the clock; their end stops it."""
        if self.conn.their_state is not h11.IDLE:
            self._lift("headers")
        elif "headers" not in self._limits:
            self._limit("headers", _HEADER_SECONDS, self.transport.abort)

    def _cut_if_sending(self, cycle: object) -> None:
        if self.cycle is cycle and self.conn.their_state is h11.SEND_BODY:
            self.transport.abort()

    def _cut_if_stalled(self, unread: int) -> None:
        now = self.transport.get_write_buffer_size()
        if now and now >= unread:
            self.transport.abort()
        elif now:
            self._limit("answer", _STALL_SECONDS, self._cut_if_stalled, now)

    def _limit(self, kind: str, seconds: float, act: Callable[..., None], *arguments: object) -> None:
        self._lift(kind)
        self._limits[kind] = self.loop.call_later(seconds, act, *arguments)

    def _lift(self, kind: str) -> None:
        if kind in self._limits:
            self._limits.pop(kind).cancel()
