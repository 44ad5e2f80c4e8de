"""`python -m segbench.predict`, and the model cards it reads: what is wrong is one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from segbench import predict
from segbench.engine import inference
from segbench.runtime import terminal
from tests import serving
from tests.test_commands import call

NAME = "demo-deeplab"


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "street.png"
    path.write_bytes(serving.photograph())
    return path


@pytest.fixture
def promoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A storage with one small model."""
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "storage"))
    serving.promote("deeplab")
    return tmp_path / "storage"


EDITS: dict[str, Any] = {  # of a card by hand: a field, and what it becomes
    "architecture": "../../x", "model": [], "model.size": ["tiny"], "categories": [], "size": [0, 64],
    "mean": [], "std": [0.0, 1.0, 1.0], "hyperparameters": None, "hyperparameters.model": "x",
    "hyperparameters.lr": "fast", "best": [], "best.iou": {}, "best.seconds": 3, "seed": "0", "study": None,
    "weights.sha256": 1, "speed": {}, "versions": "x",
}  # fmt: skip
TEXTS = ["", "null", "[]", "{", "[" * 100_000, '{"architecture": "deeplab"}', "\udce9"]


def edited(card: str, field: str, value: Any) -> str:
    content = inner = json.loads(card)
    *above, last = field.split(".")
    for name in above:
        inner = inner[name]
    inner[last] = value
    return json.dumps(content)


def test_a_card_that_was_edited_is_refused_in_one_line(
    promoted: Path, photograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = promoted / "models" / NAME / "seed0" / "card.json"
    whole = card.read_text()
    arguments = [photograph, "--out", tmp_path / "out", "--device", "cpu", "--model", card.parent]
    for text in (*TEXTS, *(edited(whole, field, value) for field, value in EDITS.items())):
        card.write_bytes(text.encode(errors="surrogateescape"))
        assert call(predict, *arguments) == 2, text[:300]
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("segbench: error: "), line
    card.write_text(whole)
    assert call(predict, *arguments) == 0


def test_one_unreadable_card_disables_no_other_model(
    promoted: Path, photograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = promoted / "models" / "other-deeplab" / "seed0"
    broken.mkdir(parents=True)
    (broken / "card.json").write_text("{}")
    arguments = [photograph, "--out", tmp_path / "out", "--device", "cpu"]
    assert call(predict, *arguments) == 0
    assert f"warning: {broken} is skipped" in capsys.readouterr().err
    assert len(list((tmp_path / "out").iterdir())) == 3
    for name in (NAME, promoted / "models" / NAME / "seed0"):
        assert call(predict, *arguments, "--model", name) == 0
        assert capsys.readouterr().err == ""
    for name in ("other-deeplab", broken):
        assert call(predict, *arguments, "--model", name) == 2
        assert f"{broken / 'card.json'} is not a readable model card" in capsys.readouterr().err


def test_predict_refuses_what_it_cannot_do_in_one_line(
    promoted: Path, photograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again" / photograph.name
    again.parent.mkdir()
    shutil.copy(photograph, again)
    out = tmp_path / "out"
    for arguments, said in {
        (photograph, again, "--out", out): "give each another --out",
        ("x" * 300 + ".png", "--out", out): "x" * 300,
        ("y/" * 3000 + "z.png", "--out", out): "z.png",
        (photograph, "--out", tmp_path / ("x" * 300)): "x" * 300,
        (photograph, "--out", out, "--model", "x" * 300): "x" * 300,
        (photograph, "--out", out, "--device", "meta"): "meta",
    }.items():
        assert call(predict, *arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


def test_the_time_left_is_not_that_of_loading(
    promoted: Path, photograph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    load, progress = inference.load, terminal.progress
    monkeypatch.setattr(inference, "load", lambda *given: happened.append("loaded") or load(*given))
    monkeypatch.setattr(terminal, "progress", lambda *given: happened.append("shown") or progress(*given))
    assert call(predict, photograph, "--out", tmp_path / "out", "--device", "cpu") == 0
    assert happened == ["loaded", "shown"]
