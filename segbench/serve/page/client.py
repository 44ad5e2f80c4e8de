"""The API, as the page uses it: over HTTP, without any proxy."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any

from segbench.core.errors import UserError

API_VARIABLE = "SEGBENCH_API"
TOKEN_VARIABLE = "SEGBENCH_TOKEN"
DEFAULT = "http://127.0.0.1:8000"
_SECONDS = 120  # the server's own deadline is shorter

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # photographs go to the API and nowhere else


class Unavailable(UserError):
    """The API does not answer, or not now: the same request may succeed later."""


def models() -> dict[str, Any]:
    """The models' cards and the legend. Raises UserError."""
    content: dict[str, Any] = json.loads(_ask("/v1/models"))
    return content


def segment(photograph: bytes) -> bytes:
    """Every model's answer, as the API's JSON. Raises UserError."""
    return _ask("/v1/segment", photograph)


def _ask(path: str, body: bytes | None = None) -> bytes:
    address = os.environ.get(API_VARIABLE, DEFAULT).rstrip("/")
    headers = {"Content-Type": "application/octet-stream"}
    if token := os.environ.get(TOKEN_VARIABLE):
        headers["Authorization"] = f"Bearer {token}"
    try:
        with _opener.open(urllib.request.Request(address + path, body, headers), timeout=_SECONDS) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        kind = Unavailable if error.code in (429, 503, 504) else UserError
        raise kind(_detail(error)) from None
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(f"{address} does not answer ({reason}); start it: python -m segbench.serve") from None


def _detail(error: urllib.error.HTTPError) -> str:
    """What went wrong, in the API's own words."""
    try:
        return str(json.loads(error.read())["detail"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"the server answered {error.code}"
