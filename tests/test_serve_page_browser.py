"""The page in Chromium, as a visitor uses it; and the command that starts it beside the API."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segbench.core.labels import DEFAULT
from segbench.data import pictures
from tests.browser import OVERFLOW, serious, until
from tests.page_api import FLAT, VEHICLE, FakeApi, categories, serving
from tests.serving import photograph, pixels, promote

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("streamlit")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
HEIGHT, WIDTH = 200, 400
SHOWN = "document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'"
# The viewer is in a shadow tree, which selectors pierce and scripts do not.
VIEWER = "[...document.querySelectorAll('*')].find(e => e.shadowRoot?.querySelector('.viewer'))?.shadowRoot"
COLOURS = f"""[...{VIEWER}.querySelectorAll('canvas')].map(canvas => [.2, .8].map(x => {{
    const one = new OffscreenCanvas(1, 1).getContext('2d', {{ willReadFrequently: true }});
    one.drawImage(canvas, -canvas.width * x, -canvas.height * .9);
    return [...one.getImageData(0, 0, 1, 1).data];
}}))"""
EDGES = f"""[...{VIEWER}.querySelectorAll('canvas')].map(c => getComputedStyle(c).clipPath)"""


@contextmanager
def page(api: str) -> Iterator[str]:
    """The page as a process, by its address."""
    own = subprocess.Popen(
        [sys.executable, "-m", "segbench.serve.page", "--api", api, "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert own.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+/", own.stdout.readline())
        assert found, own.communicate()
        yield found[0]
    finally:
        own.send_signal(signal.SIGTERM)
        said = own.communicate(timeout=60)[0]
    assert "Traceback" not in said, said


@contextmanager
def tab(address: str, **options: Any) -> Iterator[Any]:
    """A browser's tab at that address. Asserts that its console stays silent, and that it asks nobody else."""
    if not Path(CHROMIUM).exists():
        pytest.skip("no chromium here")
    complaints: list[str] = []
    own = (address, address.replace("http:", "ws:"), "data:", "blob:")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce", **options)
        opened.set_default_timeout(120_000)  # a shared machine may be slow; nothing here measures time
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("request", lambda request: request.url.startswith(own) or complaints.append(request.url))
        opened.goto(address)
        opened.wait_for_selector("article")
        yield opened
        browser.close()
    assert complaints == []


def drop(opened: Any, content: bytes) -> None:
    """As a visitor drags a file there."""
    opened.locator("[data-testid=stFileUploaderDropzone]").evaluate(  # which waits until it is there
        """(zone, bytes) => {
            const given = new DataTransfer();
            given.items.add(new File([new Uint8Array(bytes)], 'street.png', { type: 'image/png' }));
            for (const kind of ['dragenter', 'dragover', 'drop'])
                zone.dispatchEvent(new DragEvent(kind, { dataTransfer: given, bubbles: true, cancelable: true }));
        }""",
        list(content),
    )
    opened.wait_for_selector(".viewer[data-ready]")


def download(opened: Any, name: str, which: int = 0) -> bytes:
    with opened.expect_download() as started:
        opened.get_by_role("button", name=name).nth(which).click()
    return Path(started.value.path()).read_bytes()


def test_a_visitor_tries_a_photograph() -> None:
    content = photograph(HEIGHT, WIDTH)
    with serving(FakeApi()) as api, page(api.address) as address, tab(address, color_scheme="light", locale="en") as it:
        drop(it, content)
        flat, vehicle = ([*DEFAULT.colours[number], 255] for number in (FLAT, VEHICLE))
        _sees_both(it, flat, vehicle)
        _slides(it)
        _switches(it, flat, vehicle)
        _points(it)
        _downloads(it, content)
        assert api.photographs == [content]  # nothing of all this asked the API again
        for width, scheme in ((1280, "light"), (390, "dark")):
            it.set_viewport_size({"width": width, "height": 900})
            it.emulate_media(color_scheme=scheme)
            until(it, f"{OVERFLOW} <= 0")
            until(it, f"getComputedStyle(document.querySelector('.stApp')).colorScheme === '{scheme}'")
            it.wait_for_timeout(300)  # colours fade
            assert serious(it, False) == []
        it.get_by_text("Français").click()
        it.wait_for_selector("text=Téléchargements")
        until(it, "document.documentElement.lang === 'fr'")
        assert it.get_by_text("Déposer une photographie ici").is_visible()


def _sees_both(it: Any, flat: list[int], vehicle: list[int]) -> None:
    first, second, disagreement = it.evaluate(COLOURS)
    assert (first, second) == ([flat, flat], [flat, vehicle])
    assert disagreement[0] != disagreement[1]
    assert it.locator("figcaption").all_inner_texts()[-1].split("\n")[-1] == "25%"
    assert it.locator("tbody tr", has_text="vehicle").locator("td").all_inner_texts() == ["0%", "25%"]


def _slides(it: Any) -> None:
    slider = it.get_by_label("Classes up to here")
    slider.focus()
    before = slider.input_value()
    it.keyboard.press("ArrowLeft")
    assert int(slider.input_value()) == int(before) - 1
    slider.fill("30")
    assert it.evaluate(EDGES) == ["inset(0px 70% 0px 0px)"] * 3
    it.locator(".picture").nth(1).scroll_into_view_if_needed()
    box = it.locator(".picture").nth(1).bounding_box()
    it.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 20)
    it.mouse.down()
    it.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 20)
    it.mouse.up()
    assert it.evaluate(EDGES) == ["inset(0px 40% 0px 0px)"] * 3
    it.get_by_label("Opacity").fill("100")
    assert it.evaluate(f"getComputedStyle({VIEWER}.querySelector('canvas')).opacity") == "1"


def _switches(it: Any, flat: list[int], vehicle: list[int]) -> None:
    it.get_by_label("vehicle", exact=True).uncheck()
    first, second, _ = it.evaluate(COLOURS)
    assert (first, second) == ([flat, flat], [flat, [0, 0, 0, 0]])
    it.get_by_label("Class", exact=True).check()
    it.get_by_label("Only where they disagree").check()
    assert it.evaluate(COLOURS)[1] == [[0, 0, 0, 0], vehicle]
    it.get_by_label("Only where they disagree").uncheck()


def _points(it: Any) -> None:
    notes, picture = it.locator("figcaption .note"), it.locator(".picture").first
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    it.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.9)
    assert notes.all_inner_texts() == ["", "flat", "vehicle", "different classes"]
    assert it.locator("td.here").count() == 2
    picture.dispatch_event("pointerleave", {"pointerType": "touch"})
    assert notes.all_inner_texts()[1] == "flat"
    it.mouse.move(box["x"] - 10, box["y"] - 10)
    assert notes.all_inner_texts() == ["", "", "", "25%"]
    it.locator(".panes").focus()
    it.keyboard.press("ArrowUp")
    assert notes.all_inner_texts()[1:3] == ["sky", "sky"]
    assert it.locator(".viewer [aria-live]").inner_text() == "Model a: sky; Model b: sky"
    it.keyboard.press("Escape")
    assert it.locator("td.here").count() == 0


def _downloads(it: Any, content: bytes) -> None:
    seen = categories(HEIGHT, WIDTH, 1)
    assert np.array_equal(pixels(download(it, "Mask", 1)), seen)
    assert np.array_equal(pixels(download(it, "Label ids", 1)), np.array(DEFAULT.typical_ids, np.uint8)[seen])
    overlay = pictures.overlay(pictures.pixels(Image.open(io.BytesIO(content))), seen, DEFAULT.colours)
    assert np.array_equal(pixels(download(it, "Overlay", 1)), np.asarray(overlay))
    assert b'"agreement"' in download(it, "Everything as JSON")


@pytest.mark.slow
def test_the_command_starts_the_page_and_takes_it_along(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(tmp_path))
        promote("deeplab")
        own = subprocess.Popen(
            [sys.executable, "-m", "segbench.serve", "--port", "0", "--device", "cpu"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
        )  # fmt: skip
    assert own.stdout is not None
    lines = [own.stdout.readline() for _ in range(2)]
    found = re.search(r"^a page to try photographs on: (http://127\.0\.0\.1:(\d+)/)$", lines[1])
    assert found, (lines, own.communicate())
    with urllib.request.urlopen(found[1], timeout=60) as answer:
        assert b"<title>" in answer.read()
        assert answer.headers["content-security-policy"].startswith("default-src 'self' data: blob:;")
    foreign = urllib.request.Request(found[1], headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(foreign, timeout=60)
    own.kill()
    own.communicate()
    for _ in range(600):
        with socket.socket() as probe:
            probe.settimeout(0.1)
            if probe.connect_ex(("127.0.0.1", int(found[2]))):
                return
        subprocess.run(["sleep", "0.1"], check=True)
    pytest.fail("the page outlived the server")


@pytest.mark.slow
def test_objects_are_outlined_named_and_counted() -> None:
    """The second model sees two vehicles side by side in the lower right quarter."""
    with serving(FakeApi(panoptic=True)) as api, page(api.address) as address, tab(address, locale="en") as it:
        drop(it, photograph(HEIGHT, WIDTH))
        row = it.locator("tbody tr", has_text="vehicle")
        assert [text.split() for text in row.locator("td").all_inner_texts()] == [["0%"], ["2", "objects", "25%"]]
        white = f"""() => {{
            const drawn = {VIEWER}.querySelectorAll('canvas')[1];
            const canvas = new OffscreenCanvas(drawn.width, drawn.height);
            canvas.getContext('2d').drawImage(drawn, 0, 0);
            const all = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            let found = 0;
            for (let i = 0; i < all.length; i += 4) found += [0, 1, 2, 3].every(k => all[i + k] === 255);
            return found;
        }}"""
        across, down = WIDTH / 4, HEIGHT / 2
        assert it.evaluate(white) == 2 * across + 3 * (down - 1)  # not along the photograph's edge
        it.get_by_label("Outlines of objects").uncheck()
        assert it.evaluate(white) == 0
        picture = it.locator(".picture").first
        picture.scroll_into_view_if_needed()
        box = picture.bounding_box()
        it.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.9)
        assert it.locator("figcaption .note").all_inner_texts()[1:3] == ["flat", "vehicle · object 2 of 2"]
        it.get_by_text("Français").click()
        it.wait_for_selector("text=Contours des objets")
