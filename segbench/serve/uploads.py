"""Reads uploads: within their limits of bytes and time, and never on to the disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable
from typing import TypeVar

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from segbench.serve.problems import Gone, Problem
from segbench.serve.scheduler import Refused

Answer = TypeVar("Answer")

_PATIENCE = 10.0  # seconds an upload may take whatever its size, and then
_SLOWEST = 100_000  # bytes a second
_AT_ONCE = 2  # uploads of the largest size that may be under way together
_FORM_BYTES = 4096  # of a form's boundaries and headers, beside the photograph


class Uploads:
    """Those under way. `largest`: bytes of one photograph."""

    def __init__(self, largest: int) -> None:
        self._largest, self._arrived = largest, 0

    async def photograph(self, request: Request) -> bytes:
        """The bytes of the photograph that is the request's body, or its form field `image`.

        Raises Gone, and Problem: 408 where it comes too slowly, 413 where it is too large, 415 for another kind of
        body, 422 for a form without the field.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_form = kind == "multipart/form-data"
        if not is_form and kind and not kind.startswith("image/") and kind != "application/octet-stream":
            raise Problem(415, f"the body is {kind}; send the photograph itself, as image/jpeg or image/png")
        most = self._largest + is_form * _FORM_BYTES
        try:
            async with asyncio.timeout(_PATIENCE) as limit:
                stream = self._stream(request, most, limit)
                return await (_field(request, stream) if is_form else _joined(stream))
        except TimeoutError:
            raise Problem(
                408, f"the upload is slower than {_SLOWEST / 1000:.0f} kB a second; try from a faster connection"
            ) from None
        except ClientDisconnect:
            raise Gone from None

    async def _stream(self, request: Request, most: int, limit: asyncio.Timeout) -> AsyncGenerator[bytes, None]:
        """The body's parts. Raises Problem 413 as soon as it is known to have more than `most` bytes."""
        too_large = Problem(413, f"the upload has more than {most:,} bytes, the most that is taken")
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > most:
            raise too_large
        started, got = asyncio.get_running_loop().time(), 0
        try:
            async for chunk in request.stream():
                got += len(chunk)
                self._arrived += len(chunk)
                if got > most:
                    raise too_large
                if self._arrived > _AT_ONCE * (self._largest + _FORM_BYTES):
                    raise Refused("too many large uploads are under way", 5)
                limit.reschedule(started + _PATIENCE + got / _SLOWEST)
                yield chunk
        finally:
            self._arrived -= got


async def unless_gone(request: Request, work: Awaitable[Answer]) -> Answer:
    """The answer of `work`, which is cancelled if the client leaves meanwhile. Raises Gone then.

    The request's body must have been read.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.create_task(_until_gone(request))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Gone
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _joined(stream: AsyncGenerator[bytes, None]) -> bytes:
    async with contextlib.aclosing(stream):
        return b"".join([chunk async for chunk in stream])


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 62  # what there is to keep is bounded already


async def _field(request: Request, stream: AsyncGenerator[bytes, None]) -> bytes:
    try:
        async with contextlib.aclosing(stream):
            form = await _InMemory(request.headers, stream, max_files=1, max_fields=0).parse()
    except MultiPartException as error:
        raise Problem(422, f"the form cannot be read ({error.message}); send one file, as the field `image`") from error
    file = form.get("image")
    if not isinstance(file, UploadFile):
        raise Problem(422, "the form has no file `image`; send the photograph as the field `image`")
    return await file.read()
