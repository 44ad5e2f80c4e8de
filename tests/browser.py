"""A page in headless Chromium, as a reader without a network sees it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def inspect(page: Path, look: Callable[[Any], None] = lambda tab: None) -> None:
    """Opens the page at desktop and phone width, light and dark, and calls `look` with each tab. Asserts that the
    console stays silent, nothing is requested, every chart has drawn marks, and nothing overflows sideways.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or "/usr/bin/chromium"
    if not Path(chromium).exists():
        pytest.skip("no chromium here")
    complaints: list[str] = []
    requests: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width, scheme in ((1280, "light"), (390, "dark")):
            tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            tab.on("console", lambda message: complaints.append(message.text))
            tab.on("pageerror", lambda error: complaints.append(str(error)))
            tab.on("request", lambda request: requests.append(request.url))
            tab.goto(page.resolve().as_uri())
            tab.wait_for_function("document.querySelectorAll('.main-svg').length > 0")
            empty = tab.evaluate(
                "[...document.querySelectorAll('.chart')].filter(c => !c.querySelector('.point, .scatterlayer .js-line,"
                " .heatmaplayer image')).map(c => c.id)"
            )
            assert empty == []
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
            look(tab)
            tab.emulate_media(color_scheme="dark" if scheme == "light" else "light")
        browser.close()
    assert complaints == []
    assert [url[:60] for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
