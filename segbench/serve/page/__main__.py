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
        os.environ.update(_settings())  # Streamlit reads them as it is imported

        import streamlit
        import uvicorn
        from starlette.middleware import Middleware

        from segbench.serve.page.guard import Guard

        hosts = (*access.LOOPBACK, *access.names(arguments.host), *arguments.allow_host)
        app = streamlit.App(Path(__file__).with_name("script.py"), middleware=[Middleware(Guard, hosts=hosts)])
        port = listener.getsockname()[1]
        local_server.announce("segbench's page", access.address(arguments.host, port), arguments.open)
        config = uvicorn.Config(app, log_level="error", server_header=False, ws_max_size=64_000_000)
        uvicorn.Server(config).run([listener])
    return 0


def _settings() -> dict[str, str]:
    """Streamlit's configuration, which would else come from the visitor's home folder: nothing is reported to its
    makers, no file is watched, nothing but the page is shown, and it looks like the report."""
    given = {
        "browser_gather_usage_stats": "false",
        "client_allowed_origins": "http://127.0.0.1",
        "client_show_error_details": "none",
        "client_show_error_links": "false",
        "client_toolbar_mode": "minimal",
        "server_enable_agent_api": "false",
        "server_file_watcher_type": "none",
        "server_headless": "true",
        "server_show_email_prompt": "false",
        "theme_base_radius": "4px",
        "theme_font": _SANS,
        "theme_heading_font": _SERIF,
        "theme_heading_font_weights": "600",
        **{f"theme_light_{name}": colour for name, colour in _LIGHT.items()},
        **{f"theme_dark_{name}": colour for name, colour in _DARK.items()},
    }
    return {f"STREAMLIT_{name.upper()}": value for name, value in given.items()}


# The report's typefaces and colours (segbench/report/page/style.css); whatever the visitor's machine has of the former.
_SERIF = "Charter, Bitstream Charter, Iowan Old Style, Source Serif 4, Noto Serif, Georgia, Cambria, serif"
_SANS = "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, Helvetica Neue, Arial, sans-serif"
_LIGHT = {
    "background_color": "#fdfcfa",
    "secondary_background_color": "#f3f0ea",
    "text_color": "#1d1f23",
    "border_color": "#d9d4ca",
    "primary_color": "#1f5f8b",
    "link_color": "#1f5f8b",
}
_DARK = {
    "background_color": "#14161a",
    "secondary_background_color": "#22262d",
    "text_color": "#e9e7e2",
    "border_color": "#3a3f48",
    "primary_color": "#84bde6",
    "link_color": "#84bde6",
}


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
