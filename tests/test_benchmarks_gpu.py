"""The GPU's command, tried on the CPU with the smallest sizes. No timing is tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from segbench.engine import speed

ROOT = Path(__file__).parent.parent
SMALL = gpu.SMOKE._replace(train=12, val=4, names=("lraspp", "segformer"))


@pytest.fixture(autouse=True)
def quick(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SMOKE", SMALL)
    monkeypatch.setattr(gpu, "_STEPS", 1)
    monkeypatch.setattr(gpu, "matrix_limit", lambda device: 100.0)
    monkeypatch.setattr(speed, "_SECONDS_PER_PART", 0.0)


def run(out: Path, minutes: float) -> dict[str, Any]:
    assert gpu.main(["--minutes", str(minutes), "--out", str(out), "--device", "cpu", "--smoke"]) == 0
    found: dict[str, Any] = json.loads((out / "gpu.json").read_text())
    return found


@pytest.mark.slow
def test_everything_is_measured_once_and_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(tmp_path / "out", 10)
    assert not found["left"]
    assert found["parts"]["tests"]["result"] == "not run: this is cpu"
    for name in SMALL.names:
        part = found["parts"][f"speed {name}"]
        assert part["training_gmac"] > 2 * part["inference_gmac"] > 0
        assert part["training_images_per_second"] > 0
    for name in ("deeplab", "mask2former"):
        trainings = [found["parts"][f"protocol {name} {index}"] for index in range(3)]
        assert [one["train_images"] for one in trainings] == [12, 12, 12]
        assert all(one["epochs"] == 1 and 0 <= one["miou"] <= 1 and one["seconds"] > 0 for one in trainings)
    page = (tmp_path / "out" / "gpu.md").read_text()
    assert "| lraspp | 0." in page
    assert "| mask2former | 3 of 3 |" in page
    assert "parts are left" not in page
    assert "next:" not in capsys.readouterr().out
    monkeypatch.setattr(gpu.Run, "_part", None)  # it would fail if a part were run again
    assert run(tmp_path / "other", 10)["parts"] == found["parts"]


@pytest.mark.slow
def test_it_stops_when_time_is_up_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "SMOKE", SMALL._replace(names=(), trials=1, epochs=2))
    nothing = run(tmp_path, 0)
    assert nothing["parts"] == {}
    assert len(nothing["left"]) == 6
    assert "6 of 6 parts are left" in (tmp_path / "gpu.md").read_text()
    assert "next:" in capsys.readouterr().out
    ends = iter([False, False, False, True])  # in the first training, after its first epoch
    with monkeypatch.context() as patch:
        patch.setattr(gpu.Run, "is_over", property(lambda self: next(ends)))
        half = run(tmp_path, 10)
    assert set(half["parts"]) == {"tests", "matrix product"}
    trained: list[int] = []
    fit = gpu.training.fit

    def watched(state: Any, *given: Any, **named: Any) -> Any:
        trained.append(state.epoch)
        return fit(state, *given, **named)

    monkeypatch.setattr(gpu.training, "fit", watched)
    whole = run(tmp_path, 10)
    assert not whole["left"]
    assert trained == [1, 0, 0, 0]  # the first goes on after the epoch that it had done


@pytest.mark.slow
def test_what_cannot_be_measured_is_said_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setattr(gpu, "SMOKE", SMALL._replace(names=("efficientvit", "lraspp"), trials=1))
    found = run(tmp_path, 10)
    assert "timm" in found["parts"]["speed efficientvit"]["failed"]
    assert found["parts"]["speed lraspp"]["parameters"] > 0
    assert "| efficientvit | " in (tmp_path / "gpu.md").read_text()


def test_it_needs_none_of_the_ledgers_packages() -> None:
    script = (
        "import sys\n"
        "for name in ('optuna', 'mlflow', 'plotly', 'pandas', 'sqlalchemy', 'loky', 'kornia_rs'):\n"
        "    sys.modules[name] = None\n"
        "from benchmarks import gpu\n"
        "gpu.main(['--minutes', '0', '--out', sys.argv[1], '--device', 'cpu', '--smoke'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = Path(os.environ["SEGBENCH_STORAGE"]) / "out"
    subprocess.run([sys.executable, "-c", script, str(out)], check=True, env=environment, cwd=ROOT)
    assert (out / "gpu.md").exists()
