"""uvicorn as it is needed here: it cuts slow connections, and stops only when what was admitted is answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from segbench.serve.service import Service

_HEADER_SECONDS = 10.0  # that a connection may take until its request's headers are complete
_MESSAGE = b"\nsegbench: answering what was admitted, then stopping; press Ctrl-C again to stop at once\n"


class Server(uvicorn.Server):
    """`drain` is called at the first SIGINT or SIGTERM and returns when all is answered; the server listens until then.
    The second signal ends the process at once."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._drain = drain
        self._stopping: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Instead of uvicorn's own handlers, which stop listening at once."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _stop(self, number: int) -> None:
        if self._stopping:
            os._exit(128 + number)  # a forward pass cannot be interrupted, and Python would wait for its thread
        os.write(2, _MESSAGE)
        self._stopping = asyncio.create_task(self._drained())

    async def _drained(self) -> None:
        await self._drain()
        self.should_exit = True


class Impatient(H11Protocol):
    """Closes a connection that does not ask: uvicorn itself waits for headers without end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """asyncio calls it."""
        super().connection_made(transport)
        self._asked = self.loop.call_later(_HEADER_SECONDS, transport.abort)

    def handle_events(self) -> None:
        """uvicorn calls it for what was received."""
        super().handle_events()
        if self.cycle is not None:
            self._asked.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio calls it."""
        self._asked.cancel()
        super().connection_lost(exc)


def _config(app: FastAPI) -> uvicorn.Config:
    """One process, no colours, no log of its own, no outside software named in the answers."""
    return uvicorn.Config(
        app, http=Impatient, loop="asyncio", ws="none", log_config=None, access_log=False, server_header=False
    )


async def serve(app: FastAPI, service: Service, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Listens at once, loads the models, calls `ready` when they are warm, and serves until a signal.

    Raises UserError where a model cannot be loaded.
    """
    server = Server(_config(app), service.scheduler.drain)
    async with service.running():
        loading = asyncio.create_task(service.load())
        serving = asyncio.create_task(server.serve([listener]))
        await asyncio.wait((loading, serving), return_when=asyncio.FIRST_COMPLETED)
        if loading.done() and not loading.exception() and not serving.done():
            ready()
        server.should_exit |= loading.done() and loading.exception() is not None
        await serving
        if loading.done():
            loading.result()
        loading.cancel()
