"""Serve the page to try a photograph on, in front of an API that runs already.

    python -m segbench.serve.page --api http://127.0.0.1:8000 --port 8001

`python -m segbench.serve` starts it by itself. An API that wants a token finds it in $SEGBENCH_TOKEN.
"""

from __future__ import annotations

import os
from pathlib import Path

from segbench.runtime import local_server, options, terminal
from segbench.serve import access, listening
from segbench.serve.page.client import API_VARIABLE, DEFAULT

PORT = 8001
_STOP_SECONDS = 1  # an open page holds a connection for as long as it is open


def main(argv: list[str] | None = None) -> int:
    """Serves until Ctrl-C. Raises UserError where there is no port."""
    made = local_server.parser(__doc__, PORT)
    made.add_argument(
        "--api", default=os.environ.get(API_VARIABLE, DEFAULT), metavar="URL", help="default: %(default)s"
    )
    made.add_argument("--host", default=local_server.HOST, help="which of this machine's addresses to listen on")
    made.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a further name it is asked under; repeatable"
    )
    arguments = options.parse(made, argv)
    with listening.listen(arguments.host, arguments.port) as listener:
        os.environ[API_VARIABLE] = arguments.api
        import streamlit
        import uvicorn
        from starlette.middleware import Middleware

        from segbench.serve.page.guard import Guard

        _configure()
        hosts = (*access.LOOPBACK, *access.names(arguments.host), *arguments.allow_host)
        app = streamlit.App(Path(__file__).with_name("script.py"), middleware=[Middleware(Guard, hosts=hosts)])
        port = listener.getsockname()[1]
        address, reach = access.address(arguments.host, port), access.reach(arguments.host, port)
        local_server.announce("segbench's page", address, arguments.open, reach)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=_STOP_SECONDS
        )
        uvicorn.Server(config).run([listener])
    return 0


def _configure() -> None:
    """Nothing is reported to Streamlit's makers, nothing but the page is shown, no file is watched, and it looks like
    the report. Environment variables would not do: Streamlit's own command alone reads them."""
    from streamlit import config

    config.get_config_options(force_reparse=True, options_from_flags=dict(_SETTINGS))


# The report's typeface and colours (segbench/report/page/style.css).
_SANS = "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, Helvetica Neue, Arial, sans-serif"
_LIGHT = {
    "backgroundColor": "#fdfcfa",
    "secondaryBackgroundColor": "#f3f0ea",
    "textColor": "#1d1f23",
    "borderColor": "#d9d4ca",
    "primaryColor": "#1f5f8b",
    "linkColor": "#1f5f8b",
}
_DARK = {
    "backgroundColor": "#14161a",
    "secondaryBackgroundColor": "#22262d",
    "textColor": "#e9e7e2",
    "borderColor": "#3a3f48",
    "primaryColor": "#84bde6",
    "linkColor": "#84bde6",
}
_SETTINGS = {
    "browser.gatherUsageStats": False,
    "client.allowedOrigins": [],
    "client.showErrorDetails": "none",
    "client.showErrorLinks": False,
    "client.toolbarMode": "minimal",
    "logger.level": "error",
    "server.enableAgentApi": False,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.showEmailPrompt": False,
    "theme.baseRadius": "4px",
    "theme.font": _SANS,
    **{f"theme.light.{name}": colour for name, colour in _LIGHT.items()},
    **{f"theme.dark.{name}": colour for name, colour in _DARK.items()},
}


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
