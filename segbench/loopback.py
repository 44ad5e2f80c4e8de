"""Pages served to this machine alone: the options of the commands that serve one, their port, and their browser."""

from __future__ import annotations

import argparse
import socket
import webbrowser

from segbench import terminal
from segbench.errors import UserError

HOST = "127.0.0.1"  # neither page asks who is there


def parser(description: str | None, port: int) -> argparse.ArgumentParser:
    """For a command that serves a page."""
    made = terminal.parser(description)
    made.add_argument("--port", type=int, default=port, metavar="N", help=f"0 takes any that is free; default: {port}")
    made.add_argument("--open", action="store_true", help="open the page in the browser")
    return made


def free_port(asked: int) -> int:
    """The port, or any where 0 is asked. Raises UserError where it cannot be had."""
    if not 0 <= asked < 65536:
        raise UserError(f"--port is {asked}: expected 0 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, asked))
        except OSError as error:
            raise UserError(f"port {asked} cannot be used ({error.strerror}); give another with --port") from None
        return int(probe.getsockname()[1])


def announce(what: str, address: str, browse: bool) -> None:
    """Says where the page is, once it is there; shown with --quiet too, for it is the result."""
    print(f"{what}: {address}", flush=True)
    terminal.say("for this machine only; Ctrl-C ends it")
    if browse:
        webbrowser.open(address)
