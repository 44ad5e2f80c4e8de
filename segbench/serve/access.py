"""Under which names a server may be asked, and by whom: the same for the API and for its page.

A page elsewhere must not reach a server on its visitor's machine: requests that name another host (DNS rebinding) or
come from another origin are refused.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Access(NamedTuple):
    """Who may ask."""

    hosts: Collection[str] = LOOPBACK  # names under which this server is asked
    token: str = ""  # that requests must bear, if any


def refusal(headers: Mapping[str, str], hosts: Collection[str]) -> str | None:
    """Why a request with these headers, names in lower case, is refused; None where it is not."""
    if _name(f"//{headers.get('host', '')}") not in hosts:
        return "this server is not asked under that name; see --allow-host"
    origin = headers.get("origin")
    if origin is not None and _name(origin) not in hosts:
        return "pages of another origin may not use this server"
    return None


def names(host: str) -> list[str]:
    """What a machine that listens on `host` is called by those who reach it there, beside LOOPBACK."""
    if host in LOOPBACK:
        return []
    if host not in ("0.0.0.0", "::"):
        return [host]
    import psutil

    addresses = [one.address for several in psutil.net_if_addrs().values() for one in several]
    return [socket.gethostname().lower(), *(address.partition("%")[0] for address in addresses)]


def address(host: str, port: int) -> str:
    """Of a server on this machine, as its browser takes it."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)
    return f"http://{reached}:{port}/"


def reach(host: str, port: int, token: bool = False) -> str:
    """Who on other machines can use a server that listens there, in a sentence; "" if nobody can."""
    if host in LOOPBACK:
        return ""
    return f"anyone{' with the token' if token else ''} who reaches port {port} of {host} can use it"


def _name(address: str) -> str | None:
    """The host of an address, in lower case; None where it is none."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
