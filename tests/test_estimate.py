"""What a protocol will cost: its parts and its sums. No timing is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segbench import estimate, search
from segbench.core import protocol as protocols
from segbench.engine import pace, training
from segbench.engine.pace import Pace, Span
from segbench.experiment import estimating, searching, training_run
from segbench.runtime.compute import choose

SAID = searching._say_cost


def one(low: float = 1.0) -> Span:
    return Span(low, 2.0, 3.0)


def test_spans_add_up_from_end_to_end() -> None:
    assert Span.over([3.0, 1.0, 2.5]) == (1.0, 2.5, 3.0)
    assert one().times(2).plus(Span(1, 1, 1)) == (3.0, 5.0, 7.0)


def test_an_epoch_is_its_images() -> None:
    found = Pace(Span(1, 2, 4), Span(0.1, 0.2, 0.3), 0.0).epoch(train=10, val=10)
    assert found == pytest.approx((11, 22, 43))


@pytest.mark.parametrize(
    ("peaks", "free", "batch"),
    [
        ({4: 1.0, 8: 2.0}, 0.0, 8),  # 0.25 GB an image
        ({4: 1.0, 8: 2.0}, 2.3, 16),
        ({4: 1.0, 8: 2.0}, 100.0, 256),
        ({8: 2.0, 16: 4.0}, 4.5, 32),  # measured upwards, as batches of one cannot be
        ({4: 2.0, 8: 2.0}, 9.0, 0),
        ({8: 2.0}, 9.0, 0),
    ],
)
def test_the_largest_batch_follows_from_how_memory_grows(peaks: dict[int, float], free: float, batch: int) -> None:
    assert pace.largest_batch(peaks, free) == batch


def test_the_first_epoch_is_not_timed_and_the_model_is_used_up(protocol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[Any] = []
    fit = training.fit

    def watched(*given: Any, **named: Any) -> Any:
        for record in fit(*given, **named):
            records.append(record)
            yield record

    monkeypatch.setattr(training, "fit", watched)
    found = estimated(protocol, "deeplab")
    timed = [record.seconds.evaluation / 8 for record in records[1:]]
    assert len(records) == 4
    per_epoch = found.epoch.middle
    assert per_epoch > 4 * sorted(timed)[1]  # 4 validation images beside the training images


def estimated(folder: Path, name: str, **options: Any) -> estimating.Estimate:
    loaded, architecture = protocols.load(folder), protocols.load_architecture(folder, name)
    sample = estimating.drawn_sample(loaded, None)

    def build(hyperparameters: Any) -> Any:
        return training_run.build(architecture, hyperparameters, 0, len(loaded.data.labels))

    return estimating.of(loaded, architecture, sample, choose("cpu", "fp32"), build, **{"trials": 2, **options})


def test_times_follow_from_the_protocol(protocol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Pace(Span(1, 2, 3), Span(0.1, 0.2, 0.3), peak_gb=0.5)
    monkeypatch.setattr(pace, "measure", lambda *given: measured)
    monkeypatch.setattr(estimating, "_BOOKKEEPING", 1.0)
    monkeypatch.setattr(estimating, "_TRIAL", 5.0)
    monkeypatch.setattr(estimating, "_PROMOTION", 7.0)
    found = estimated(protocol, "deeplab", trials=10)
    assert found.epoch == pytest.approx((16.4, 32.8, 49.2))  # 16 + 4 images
    assert found.search == pytest.approx((378, 706, 1034))  # ten trials of two epochs
    assert found.promotion == pytest.approx((6057, 12107, 18157))  # two epochs of 2975 + 500 images
    assert found.peak_gb == 0.5
    assert found.largest_batch == 0  # not asked for
    assert 0.01 < found.disk_gb < 0.1  # 0.7 M parameters, twelve copies
    assert found.line == "estimated: 12 min (6 min 18 s to 17 min) for 10 trials, then 3.4 h to promote; memory 0.5 GB"
    sample = estimating.drawn_sample(protocols.load(protocol), None)
    assert estimating.total([found, found], sample._replace(beside=100)) == pytest.approx((12970, 25726, 38482))


def test_the_command_prints_a_line_for_each_and_their_sum(
    protocol: Path, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "_SECONDS", 0.01)
    assert estimate.main(["--protocol", str(protocol), "--device", "cpu", "--precision", "fp32"]) == 0
    said = capsys.readouterr().out
    for title in ("deeplab (tiny)", "mask2former (tiny)", "search and promotion: ", " GB on disk; cpu"):
        assert title in said
    assert "counted for Cityscapes' 2975 + 500 images" in said
    assert said.rstrip().endswith(f"next:  python -m segbench.search --protocol {protocol}")
    assert not (storage / "studies.db").exists()
    assert not (storage / "cache").exists()


def test_a_dataset_is_counted_and_drawn_streets_are_weighed(protocol: Path, drawn: Path) -> None:
    given = estimating.drawn_sample(protocols.load(protocol), drawn)
    assert given.counts == (24, 8)
    assert given.bytes == 32 * 32 * 64 * 4
    demo = estimating.drawn_sample(protocols.load(Path("studies/demo")), None)
    assert demo.counts == (240, 48)
    assert demo.beside > 0
    assert demo.bytes > 288 * 64 * 128 * 4


def test_a_search_says_it_before_its_first_trial(
    protocol: Path, drawn: Path, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(searching, "_say_cost", SAID)
    command = ["deeplab", "--protocol", str(protocol), "--data", str(drawn), "--device", "cpu", "--precision", "fp32"]
    assert search.main(command) == 0
    said = capsys.readouterr().out
    assert " for 2 trials, then " in said.partition("estimated: ")[2].partition("\n")[0]
    assert search.main(command) == 0
    assert "estimated: " not in capsys.readouterr().out  # nothing is left to run


def test_a_search_whose_steps_fail_says_nothing_and_goes_on(
    protocol: Path, drawn: Path, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*given: Any, **named: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(searching, "_say_cost", SAID)
    monkeypatch.setattr(estimating, "of", fails)
    command = ["deeplab", "--protocol", str(protocol), "--data", str(drawn), "--trials", "1", "--device", "cpu"]
    assert search.main(command) == 0
    assert "estimated" not in capsys.readouterr().out
