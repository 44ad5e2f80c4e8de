"""The socket a server listens on, which is had before anything heavy is imported."""

from __future__ import annotations

import socket

from segbench.core.errors import UserError

_BACKLOG = 512


def listen(host: str, port: int) -> socket.socket:
    """Listens on an address of this machine; port 0 takes any that is free. Raises UserError where that cannot be."""
    if not 0 <= port < 65536:
        raise UserError(f"--port is {port}: expected 0 to 65535")
    made = None
    try:
        # The protocol must be named: of sockets without it asyncio does not switch Nagle's algorithm off, and every
        # answer waits 40 ms for the client's acknowledgement.
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(_BACKLOG)
    except OSError as error:
        if made:
            made.close()
        raise UserError(
            f"{host}:{port} cannot be listened on ({error.strerror}); give another --port or --host"
        ) from None
    return made
