"""A page in headless Chromium, as a reader without a network sees it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

EMPTY = """[...document.querySelectorAll('.chart')].filter(c => c.checkVisibility()).filter(
    c => !c.querySelector('.point, .scatterlayer .js-line, .heatmaplayer image')).map(c => c.id)"""
OVERFLOW = "document.documentElement.scrollWidth - innerWidth"
# A chart that the reader has not chosen is drawn when it is.
DRAWN = "[...document.querySelectorAll('.chart')].every(c => !c.checkVisibility() || c.matches('.js-plotly-plot'))"
# Controls that Tab cannot reach: the scene buttons have one place among them, as a group of radio buttons has.
UNREACHABLE = """[...document.querySelectorAll('a[href], button, select, input, .scroll')].filter(
    e => e.tabIndex < 0 && !e.matches('.strip button[aria-pressed=false]')).map(e => e.outerHTML.slice(0, 80))"""


def inspect(page: Path, look: Callable[[Any], None] = lambda tab: None, accessible: Sequence[Path] = ()) -> None:
    """Opens the page at desktop and phone width, light and dark, and calls `look` at either width. Asserts that the
    console stays silent, nothing is requested, every chart has drawn marks, nothing overflows sideways, all controls
    are reached by keyboard, and paper is white; and of the pages in `accessible`, that axe-core finds nothing serious.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or "/usr/bin/chromium"
    if not Path(chromium).exists():
        pytest.skip("no chromium here")
    complaints: list[str] = []
    requests: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce")
        tab.set_default_timeout(120_000)  # a shared machine may be slow; nothing here measures time
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page.resolve().as_uri())
        for width, scheme in ((1280, "light"), (390, "dark")):
            tab.set_viewport_size({"width": width, "height": 900})
            tab.emulate_media(color_scheme=scheme)
            until(tab, DRAWN)
            until(tab, f"{OVERFLOW} <= 0")  # charts follow the width a moment later
            assert tab.evaluate(EMPTY) == []
            assert tab.evaluate(UNREACHABLE) == []
            look(tab)
        tab.emulate_media(color_scheme="light", media="print")
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        tab.emulate_media(media="screen")
        for other in accessible:
            tab.goto(other.resolve().as_uri())
            for scheme in ("light", "dark"):
                tab.emulate_media(color_scheme=scheme)
                assert serious(tab, scheme == "dark") == []
        browser.close()
    assert complaints == []
    assert [url[:60] for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def until(tab: Any, condition: str) -> None:
    """Waits until the condition holds. Playwright's own way polls inside the page, which the page's policy forbids."""
    for _ in range(1200):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(100)
    pytest.fail(f"never came true: {condition}")


def serious(tab: Any, colours_only: bool) -> list[str]:
    """What axe-core calls serious or critical, in the page as it stands, apart from the charts' insides: these are
    images to it, and have a label."""
    bundle = pytest.importorskip("axe_playwright_python")
    script = (Path(bundle.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    tab.evaluate(f"(() => {{ if (!window.axe) {{ {script} }} }})()")
    rules = "runOnly: ['color-contrast'], " if colours_only else ""
    axe = tab.evaluate(f"axe.run({{ exclude: [['.main-svg']] }}, {{ {rules}resultTypes: ['violations'] }})")
    return [
        f"{violation['id']}: {violation['nodes'][0]['html'][:120]} ({len(violation['nodes'])})"
        for violation in axe["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
