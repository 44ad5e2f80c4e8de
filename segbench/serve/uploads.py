"""Reads an upload: within its limits of bytes and time, and never on to the disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from segbench.serve.problems import Problem

Answer = TypeVar("Answer")

_BODY_SECONDS = 30.0  # that an upload may take
_FORM_BYTES = 4096  # of a form's boundaries and headers, beside the photograph


class Gone(Exception):
    """The client has left."""


async def photograph(request: Request, largest: int) -> bytes:
    """The bytes of the photograph that is the request's body, or its form field `image`.

    Raises Problem: 408 where it comes too slowly, 413 where it has more than `largest` bytes, 415 for another kind of
    body, 422 for a form without the field.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_form = kind == "multipart/form-data"
    if not is_form and kind and not kind.startswith("image/") and kind != "application/octet-stream":
        raise Problem(415, f"the body is {kind}; send the photograph itself, as image/jpeg or image/png", close=True)
    stream = _limited(request, largest + is_form * _FORM_BYTES)
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            if is_form:
                return await _field(request, stream)
            return b"".join([chunk async for chunk in stream])
    except TimeoutError:
        raise Problem(408, f"the upload did not arrive within {_BODY_SECONDS:.0f} seconds", close=True) from None


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


async def _limited(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body's parts. Raises Problem 413 as soon as it is known to have more than `most` bytes."""
    too_large = Problem(413, f"the upload has more than {most:,} bytes, the most that is taken", close=True)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise too_large
    got = 0
    async with contextlib.aclosing(request.stream()) as stream:
        async for chunk in stream:
            got += len(chunk)
            if got > most:
                raise too_large
            yield chunk


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 62  # `_limited` bounds what there is to keep


async def _field(request: Request, stream: AsyncIterator[bytes]) -> bytes:
    try:
        form = await _InMemory(request.headers, stream, max_files=1, max_fields=0).parse()  # type: ignore[arg-type]
    except MultiPartException as error:
        raise Problem(422, f"the form cannot be read ({error.message}); send one file, as the field `image`") from error
    file = form.get("image")
    if not isinstance(file, UploadFile):
        raise Problem(422, "the form has no file `image`; send the photograph as the field `image`")
    return await file.read()
