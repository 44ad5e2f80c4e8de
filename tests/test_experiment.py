"""The whole experiment as `make demo` runs it, in small: drawn streets, both architectures, one page."""

from __future__ import annotations

from pathlib import Path

import pytest

from segbench import promote, search
from segbench.report import __main__ as report
from tests import browser
from tests.conftest import PROTOCOL, write_protocol

DRAWN = PROTOCOL.replace("[search]", "[data.streets]\ntrain = 24\nval = 8\nsize = [64, 128]\n[search]")


@pytest.mark.slow
def test_from_nothing_to_a_page(storage: Path, tmp_path: Path) -> None:
    folder = write_protocol(tmp_path / "small", DRAWN)
    for command in (search, promote, report):
        assert command.main(["--quiet", "--protocol", str(folder)]) == 0

    def look(tab: object) -> None:
        text = tab.locator("body").inner_text()  # type: ignore[attr-defined]
        assert "drawn streets" in text
        for title in ("deeplab (tiny)", "mask2former (tiny)"):
            assert title in text

    browser.inspect(tmp_path / "reports" / "small.html", look)
