"""Starts the page beside the API, as a process of its own: every touch of a visitor runs a script, which would hold up
the API's event loop."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from segbench.core.errors import UserError
from segbench.runtime import local_server
from segbench.serve import access, listening
from segbench.serve.page.client import API_VARIABLE


class Page(NamedTuple):
    """A page that is starting. `wait` returns when it answers, and raises UserError where it does not start."""

    address: str
    wait: Callable[[], None]


@contextlib.contextmanager
def beside(api: str, host: str, port: int, allowed: Sequence[str]) -> Iterator[Page]:
    """Inside, the page of the API at the address `api` is served on `host`, on `port` or, where that is taken or 0, on
    any that is free. Raises UserError without Streamlit."""
    if importlib.util.find_spec("streamlit") is None:
        raise UserError("the page needs Streamlit: pip install 'segbench[serve]', or give --no-page")
    port = _free(host, port)
    names = [option for name in allowed for option in ("--allow-host", name)]
    command = [sys.executable, "-m", "segbench.serve.page", "--host", host, "--port", str(port), *names]
    address = access.address(host, port)
    with local_server.starting(command, {API_VARIABLE: api}, f"{address}_stcore/health") as (_, wait):
        yield Page(address, wait)


def _free(host: str, port: int) -> int:
    try:
        listener = listening.listen(host, port)
    except UserError:
        listener = listening.listen(host, 0)
    with listener:
        return int(listener.getsockname()[1])
