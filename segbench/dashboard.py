"""Watch searches while they run: optuna-dashboard on the studies' database, with each trial's pictures and notes.

    python -m segbench.dashboard --open
    python -m segbench.dashboard --study-db postgresql+psycopg://USER@HOST/DATABASE --port 8081

It is served to this machine only, because it has no login and can delete studies.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from segbench.core import paths
from segbench.core.errors import UserError
from segbench.runtime import local_server, options, terminal

PORT = 8080  # optuna-dashboard's own
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def main(argv: list[str] | None = None) -> int:
    """Serves the dashboard until Ctrl-C. Raises UserError if there is no study."""
    parser = local_server.parser(__doc__, PORT)
    options.add_study_db(parser)
    arguments = options.parse(parser, argv)
    port = local_server.free_port(arguments.port)

    from segbench.core import urls
    from segbench.ledger import database, showcase

    where = paths.studies_database(arguments.study_db)
    if not database.is_there(where):
        raise UserError(
            f"no study to show: {urls.shown(where)} does not exist. Search first: python -m segbench.search"
        )
    import optuna_dashboard

    logging.getLogger("optuna_dashboard").setLevel(logging.CRITICAL)  # it logs a traceback for a bad request
    application = optuna_dashboard.wsgi(database.connect(where), showcase.store())
    with make_server(local_server.HOST, port, guarded(application), _Server, _Handler) as server:
        local_server.announce(
            f"optuna-dashboard of {urls.shown(where)}", f"http://{local_server.HOST}:{port}/", arguments.open
        )
        terminal.next_command("python -m segbench.runs")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def guarded(application: Application) -> Application:
    """Refuses requests for another host name: otherwise a web page whose name resolves to this machine could read and
    delete studies through the visitor's browser (DNS rebinding). Answers bad requests without a traceback."""

    def guard(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        host = str(environ.get("HTTP_HOST", "")).rpartition(":")[0] or str(environ.get("HTTP_HOST", ""))
        if host not in (local_server.HOST, "localhost"):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"this page is served only to the machine it runs on\n"]
        try:
            return application(environ, start_response)
        except Exception as error:  # such as for an invalid length; bottle answers most bad requests itself
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")], sys.exc_info())
            return [f"this request cannot be answered ({type(error).__name__})\n".encode()]

    return guard


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prints no traceback when a browser disconnects or a request is not HTTP."""


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  (the base's own name)
        """Prints no line per request."""

    def get_stderr(self) -> io.StringIO:
        """Discards the tracebacks of bad requests."""
        return io.StringIO()


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
