"""The tables [train] and [final]: crops and windows, what is refused, and what enters a study's fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segbench.core import protocol as protocols
from segbench.core.crops import WHOLE, Passes
from segbench.core.errors import UserError
from segbench.core.protocol import Protocol
from segbench.core.records import from_json, to_json
from tests.conftest import PROTOCOL


def load(folder: Path, train: str = "", final: str = "") -> Protocol:
    """The tests' protocol, whose images are packed at [32, 64], on larger images."""
    text = PROTOCOL.replace("size = [32, 64]", "size = [64, 128]").replace("[final]", f"[final]\n{final}")
    (folder / "protocol.toml").write_text(f"{text}\n[train]\n{train}\n" if train else text)
    return protocols.load(folder)


def test_windows_have_the_crops_size_and_step_by_two_thirds(protocol: Path) -> None:
    assert load(protocol).passes == WHOLE
    assert load(protocol, "crop = [48, 96]").passes == Passes((48, 96), (32, 64))
    assert load(protocol, "crop = [48, 96]", "window = [64, 128]").passes == WHOLE
    chosen = load(protocol, "", "window = [32, 64]\nstride = [16, 64]\nflip = true\nscales = [0.5, 1.0]")
    assert chosen.passes == Passes((32, 64), (16, 64), True, (0.5, 1.0))
    assert from_json(Protocol, to_json(chosen)) == chosen


REFUSED = {
    ("crop = [96, 128]", ""): "[train] crop [96, 128] is larger than the images, which [data] packs at size [64, 128]",
    ("crop = [16, 128]", ""): "[train]: crop must be 32..4096 pixels a side, not [16, 128]",
    ("crop = 64", ""): "train.crop must be [height, width], found 64",
    ("", "window = [64, 129]"): "[final] window [64, 129] is larger than the images",
    ("", "stride = [32, 32]"): "[final] stride has no window to move; add window, or remove it",
    ("", "window = [32, 64]\nstride = [33, 64]"): "[final] stride [33, 64] is larger than the window [32, 64]",
    ("crop = [32, 64]", "stride = [32, 65]"): "[final] stride [32, 65] is larger than the window [32, 64]",
    ("", "window = [32, 64]\nstride = [0, 64]"): "stride must be at least 1 pixel, not [0, 64]",
    ("", "scales = []"): "scales must be distinct, 0.1..10, and at least one, not []",
    ("", "scales = [1.0, 1.0]"): "scales must be distinct",
    ("", 'score_at = "full"'): "score_at must be one of packed, original, not 'full'",
}


@pytest.mark.parametrize(("train", "final"), REFUSED)
def test_what_does_not_fit_is_refused(protocol: Path, train: str, final: str) -> None:
    with pytest.raises(UserError, match=r"protocol\.toml") as caught:
        load(protocol, train, final)
    assert REFUSED[train, final] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tables", [("crop = [32, 64]", ""), ("", "flip = true"), ("", "scales = [2.0]")])
def test_objects_are_found_in_whole_images(protocol: Path, tables: tuple[str, str], monkeypatch: Any) -> None:
    monkeypatch.setitem(globals(), "PROTOCOL", PROTOCOL.replace("[data]", '[data]\ntask = "panoptic"'))
    with pytest.raises(UserError, match=r"task = 'panoptic' scores whole images in one pass; give \[final\] window = "):
        load(protocol, *tables)
    assert load(protocol, "crop = [32, 64]", "window = [64, 128]").passes == WHOLE


def test_crops_and_passes_enter_the_fingerprint_and_nothing_else_changes_it(protocol: Path) -> None:
    architecture = protocols.load_architecture(protocol, "deeplab")

    def digest(train: str = "", final: str = "") -> str:
        return protocols.fingerprint(load(protocol, train, final), architecture)

    plain = digest()
    assert digest("", "window = [64, 128]") == digest("", 'score_at = "original"') == plain
    others = [digest("crop = [32, 64]"), digest("", "window = [32, 64]"), digest("", "flip = true")]
    others += [digest("crop = [32, 64]", "stride = [32, 64]"), digest("", "scales = [0.5, 1.0]")]
    assert len({plain, *others}) == 6
