"""What goes wrong, as RFC 9457's application/problem+json: found, expected, how to fix."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from segbench.core.errors import UserError
from segbench.serve.metrics import GONE
from segbench.serve.photographs import WrongFormat
from segbench.serve.scheduler import Expired, Refused

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is an error. `close`: the rest of the request is not read."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """As sent."""
        content = {"type": "about:blank", "title": HTTPStatus(self.status).phrase, "status": self.status}
        body = json.dumps({**content, "detail": self.detail}, ensure_ascii=False)
        return Response(body, self.status, self.headers, MEDIA_TYPE)


class Gone(Exception):
    """The client has left: there is nobody to answer."""


def of(error: Exception) -> Problem:
    """The problem that an exception of ours, or of FastAPI's, is to the client."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Refused):
        return Problem(503, str(error), {"retry-after": str(error.retry_after)})
    if isinstance(error, Expired):
        return Problem(504, "not answered by the request's deadline; send a smaller photograph or try again later")
    if isinstance(error, WrongFormat):
        return Problem(415, str(error))
    if isinstance(error, UserError):
        return Problem(422, str(error))
    if isinstance(error, RequestValidationError):
        where = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        return Problem(422, where)
    if isinstance(error, HTTPException):
        return Problem(error.status_code, str(error.detail), error.headers)
    return Problem(500, "an error of the server; its log has the request's id and says more")


def install(app: FastAPI) -> None:
    """Makes `app` answer the errors it expects so; the guard answers for the others."""

    async def handle(request: Request, error: Exception) -> Response:
        return Response(status_code=GONE) if isinstance(error, Gone) else of(error).response()

    for kind in (Problem, Gone, Refused, Expired, UserError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle)
