"""Lets in who may ask, and writes down what was asked: the outermost layer of the application.

Logs hold neither pictures nor tokens nor what follows a `?`.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segbench.serve import problems
from segbench.serve.access import Access, refusal
from segbench.serve.metrics import GONE, Metrics
from segbench.serve.problems import Problem

LOG = logging.getLogger("segbench.serve")
_OPEN = ("/health/", "/v2/health/")  # what an orchestrator's probe may ask without a token
_PROBES = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics")  # asked all the time
_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_OWN = "unknown"  # what requests that match no route count as


def log(quiet: bool) -> None:
    """From now on, a line a request on stderr, and what goes wrong; the latter only where it is to be quiet."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.ERROR)
    LOG.setLevel(logging.ERROR if quiet else logging.INFO)


class Guard:
    """Around the application: checks each request, gives it an id, logs and counts it."""

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics) -> None:
        self._app, self._access, self._metrics = app, access, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, started, status = Headers(scope=scope), time.perf_counter(), 0
        given = headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = MutableHeaders(scope=message)
                own["x-request-id"] = request_id
                own["x-content-type-options"] = "nosniff"
            await send(message)

        try:
            if problem := self._refusal(scope["path"], headers):
                await problem.response()(scope, receive, answer)
            else:
                await self._app(scope, receive, answer)
        except Exception as error:
            LOG.exception("%s failed", request_id)
            if not status:
                await problems.of(error).response()(scope, receive, answer)
        finally:
            status = status or GONE
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", _OWN)
            self._metrics.answered(route, status, seconds)
            level = logging.DEBUG if route in _PROBES else logging.INFO
            LOG.log(level, "%s %s %s %d %.0f ms", request_id, scope["method"], route, status, seconds * 1000)

    def _refusal(self, path: str, headers: Headers) -> Problem | None:
        if reason := refusal(headers, self._access.hosts):
            return Problem(403, reason)
        if self._access.token and not path.startswith(_OPEN):
            given = headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self._access.token}".encode()):
                wanted = {"www-authenticate": "Bearer"}
                return Problem(401, "send the token: Authorization: Bearer ...", wanted)
        return None
