"""Serve the promoted models over HTTP: photographs in, class maps out.

    python -m segbench.serve --open
    python -m segbench.serve --model demo-deeplab --port 0
    curl -F image=@street.jpg http://127.0.0.1:8000/v1/segment

A page to try photographs on is served beside it, by Streamlit, on the port after the API's. Both are for this machine
only, unless --host says otherwise. /openapi.json describes every route. Ctrl-C answers what was admitted, then stops.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from segbench import predict
from segbench.core.errors import UserError
from segbench.ledger.models import Promoted
from segbench.runtime import local_server, options, terminal
from segbench.serve import access, listening
from segbench.serve.page.command import Page, beside

if TYPE_CHECKING:
    from segbench.serve.service import Settings

PORT = 8000
TOKEN_VARIABLE = "SEGBENCH_TOKEN"
_SHORTEST_TOKEN = 16  # characters


def main(argv: list[str] | None = None) -> int:
    """Serves until Ctrl-C. Raises UserError where there is no model, or no port."""
    arguments = options.parse(_parser(), argv)
    _check(arguments)
    token = _token(arguments)

    def chosen() -> Sequence[Promoted]:
        return predict.choose(arguments.model)

    chosen()  # what is wrong is said before the seconds that importing takes
    with listening.listen(arguments.host, arguments.port) as listener, _page(arguments, listener) as page:
        from segbench.serve import guard

        guard.log(arguments.quiet)
        hosts = (*access.LOOPBACK, *access.names(arguments.host), *arguments.allow_host)
        port = listener.getsockname()[1]  # where 0 was asked for, the one that was had

        def ready(what: str) -> None:
            _announce(arguments, port, page, what)

        serve = _serve_on_ray if arguments.launcher == "ray" else _serve
        serve(arguments, chosen, access.Access(hosts, token), listener, page, ready)
    return 0


def _serve(
    arguments: argparse.Namespace,
    chosen: Callable[[], Sequence[Promoted]],
    who: access.Access,
    listener: socket.socket,
    page: Page | None,
    ready: Callable[[str], None],
) -> None:
    """In this process."""
    import asyncio

    from segbench.serve import api, server
    from segbench.serve.service import Service

    service = Service(chosen, _settings(arguments))
    app = api.create(service, who, arguments.admin)
    if page:
        page.wait()  # it started while torch was imported

    def warm() -> None:
        ready(f"{', '.join(service.networks)} on {service.device}")

    asyncio.run(server.serve(app, service, listener, warm))


def _serve_on_ray(
    arguments: argparse.Namespace,
    chosen: Callable[[], Sequence[Promoted]],
    who: access.Access,
    listener: socket.socket,
    page: Page | None,
    ready: Callable[[str], None],
) -> None:
    """In Ray's processes; this one waits for Ctrl-C."""
    from segbench.experiment import ray_launcher

    models, replicas = chosen(), arguments.replicas or 1
    address = listener.getsockname()[:2]
    listener.close()  # Ray's proxy listens there itself
    with ray_launcher.connected(len(models) * replicas + 1, forwarded=False) as ray:
        from segbench.serve import ray_serve

        if page:
            page.wait()
        plan = ray_serve.Plan(_settings(arguments), who, replicas, address, arguments.quiet)
        ray_serve.run(ray, models, plan, ready)


def _settings(arguments: argparse.Namespace) -> Settings:
    from segbench.serve.service import Settings

    return Settings(
        devices=tuple(arguments.device or ("auto",)),
        largest_batch=arguments.largest_batch,
        queue=arguments.queue,
        deadline=arguments.deadline,
        megapixels=arguments.megapixels,
    )


def _parser() -> argparse.ArgumentParser:
    made = local_server.parser(__doc__, PORT)
    made.add_argument("--model", action="append", metavar="STUDY|DIR", help="as in predict; repeatable; default: all")
    made.add_argument("--host", default=local_server.HOST, help="which of this machine's addresses to listen on")
    made.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a further name it is asked under; repeatable"
    )
    tokens = made.add_mutually_exclusive_group()
    tokens.add_argument("--token", action="store_true", help=f"requests must bear the token in ${TOKEN_VARIABLE}")
    tokens.add_argument("--no-token", action="store_true", help="whoever reaches --host may use it")
    made.add_argument(
        "--page", action=argparse.BooleanOptionalAction, default=True, help="serve a page to try photographs on, too"
    )
    made.add_argument("--admin", action="store_true", help="allow POST /v1/models/reload")
    made.add_argument("--device", action="append", help="auto, cpu, cuda, cuda:1; repeatable: one lane each")
    made.add_argument("--launcher", choices=("local", "ray"), default="local", help="who computes; default: local")
    made.add_argument("--replicas", type=int, metavar="N", help="of each model, with --launcher ray; default: 1")
    made.add_argument(
        "--largest-batch", type=int, default=8, metavar="N", help="photographs in one forward; default: 8"
    )
    made.add_argument("--queue", type=int, default=64, metavar="N", help="requests in progress; default: 64")
    made.add_argument("--deadline", type=float, default=60, metavar="SECONDS", help="of a request; default: 60")
    made.add_argument("--megapixels", type=float, default=40, metavar="N", help="of one photograph; default: 40")
    return made


def _check(arguments: argparse.Namespace) -> None:
    for name in ("largest_batch", "queue", "deadline", "megapixels", "replicas"):
        given = getattr(arguments, name)
        if given is not None and not given > 0:
            raise UserError(f"--{name.replace('_', '-')} is {given}: expected more than 0")
    if arguments.launcher != "ray" and arguments.replicas is not None:
        raise UserError("--replicas is for --launcher ray; here give --device once for each GPU")
    if arguments.launcher == "ray" and arguments.device:
        raise UserError("Ray assigns the GPUs itself: instead of --device give --replicas with --launcher ray")
    if arguments.launcher == "ray" and arguments.admin:
        raise UserError("--admin is not for --launcher ray: to serve other models, stop the command and run it again")


def _token(arguments: argparse.Namespace) -> str:
    """What requests must bear; "" for nothing. On the command line every user of the machine could read it."""
    if not arguments.token:
        if arguments.host not in access.LOOPBACK and not arguments.no_token:
            raise UserError(
                f"--host {arguments.host} lets other machines in: add --token (and set {TOKEN_VARIABLE}), or --no-token"
            )
        return ""
    token = os.environ.get(TOKEN_VARIABLE, "")
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise UserError(
            f"--token wants at least {_SHORTEST_TOKEN} plain characters in {TOKEN_VARIABLE}, found {len(token)}: "
            f"export {TOKEN_VARIABLE}=$(openssl rand -hex 16)"
        )
    return token


@contextlib.contextmanager
def _page(arguments: argparse.Namespace, listener: socket.socket) -> Iterator[Page | None]:
    """The page, unless there is to be none. It knows no token: where the API asks for one, it is for this machine."""
    if not arguments.page:
        yield None
        return
    host = local_server.HOST if arguments.token else arguments.host
    port = listener.getsockname()[1]
    api = access.address(arguments.host, port)
    with beside(api, host, (port + 1) % 65536 if arguments.port else 0, arguments.allow_host) as page:
        yield page


def _announce(arguments: argparse.Namespace, port: int, page: Page | None, what: str) -> None:
    """Says where it is, now that it is ready; shown with --quiet too, for it is the result."""
    address = access.address(arguments.host, port)
    bearer = f' -H "Authorization: Bearer ${TOKEN_VARIABLE}"' if arguments.token else ""
    print(f"segbench serves {what}: {address}", flush=True)
    if page:
        print(f"a page to try photographs on: {page.address}", flush=True)
    terminal.say(f"try:  curl{bearer} -F image=@street.jpg {address}v1/segment")
    if reach := access.reach(arguments.host, port, arguments.token):
        terminal.banner(reach)
    else:
        terminal.say("for this machine only; Ctrl-C ends it")
    if arguments.open:
        webbrowser.open(page.address if page else address)


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
