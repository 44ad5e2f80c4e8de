"""Who may ask for the page."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segbench.serve.access import refusal

# The browser itself refuses whatever would leave this server, and to show the page inside another one. Streamlit writes
# styles into the page, and loads a component's script from the page's own memory.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' blob: 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class Guard:
    """Around Streamlit: refuses other hosts and origins, with the API's rules, and forbids the page to ask others.

    An origin that passed is not handed on: Streamlit would compare it with this machine's public address, and ask a
    server elsewhere what that is.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = MutableHeaders(scope=message)
                own["content-security-policy"] = _POLICY
                own["referrer-policy"] = "no-referrer"
                own["x-content-type-options"] = "nosniff"
            await send(message)

        reason = refusal(Headers(scope=scope), self._hosts)
        if reason is None:
            kept = [(name, value) for name, value in scope["headers"] if name != b"origin"]
            await self._app({**scope, "headers": kept}, receive, answer)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            await PlainTextResponse(reason, 403)(scope, receive, send)
