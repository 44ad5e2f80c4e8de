"""The commands as a user runs them: search, stop, resume, promote, predict; and what they say when all is not well."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from PIL import Image

from segbench import predict, prepare, promote, search
from segbench.core import labels, paths
from segbench.core.labels import DEFAULT
from segbench.core.study_record import StudyRecord
from segbench.data import packing
from segbench.engine import training
from segbench.experiment import examine, training_run
from segbench.ledger import database, liveness, models, runs, studies, tracking
from segbench.runtime import terminal
from tests.conftest import PROTOCOL, SIZE, write_protocol

# Packages that segmenting with DeepLab has no use for; some take seconds to import.
NOT_TO_PREDICT = {
    *("transformers", "mlflow", "optuna", "sqlalchemy", "pandas", "scipy", "matplotlib", "plotly", "pyarrow"),
    *("segbench.engine.training", "segbench.experiment.objective", "segbench.architectures.mask2former"),
}


def call(module: object, *arguments: object) -> int:
    """A command's exit code, as the shell would see it."""
    return terminal.run(lambda: module.main([str(a) for a in arguments]))  # type: ignore[attr-defined]


def study(name: str = "small-deeplab") -> StudyRecord:
    return studies.record(database.connect(paths.studies_database()), name)


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("segbench: error: ")
    return lines[0]


@pytest.mark.parametrize("name", ["deeplab", pytest.param("mask2former", marks=pytest.mark.slow)])
def test_search_promote_predict(
    name: str,
    storage: Path,
    drawn: Path,
    protocol: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def installed(package: str) -> str:
        if package == "segbench":
            raise metadata.PackageNotFoundError(package)  # as from a checkout that is not installed
        return metadata.version(package)

    monkeypatch.setattr(examine, "version", installed)
    where = ["--protocol", protocol, "--data", drawn]
    assert call(search, name, *where) == 0
    assert f"next:  python -m segbench.promote {name} --protocol {protocol}" in capsys.readouterr().out
    found = study(f"small-{name}")
    assert [(t.index, t.state, len(t.epochs)) for t in found.trials] == [(0, "complete", 2), (1, "complete", 2)]
    for trial in found.trials:
        assert trial.value == max(epoch.miou for epoch in trial.epochs)
        assert runs.epochs(tracking.client(), trial.run_id, DEFAULT.names) == trial.epochs  # both ledgers tell the same

    assert call(promote, name, *where) == 0
    assert "majority mIoU" in capsys.readouterr().out
    ((folder, card),) = models.promoted("small")
    assert card.hyperparameters.params() == studies.best(found).params
    assert (card.train_images + card.images_given_up, card.val_images, card.epochs) == (24, 8, 2)
    trained = runs.epochs(tracking.client(), card.run_id, DEFAULT.names)  # scored on held-out train images
    assert card.best.epoch == max(trained, key=lambda epoch: epoch.miou).epoch
    assert card.best.seconds == trained[card.best.epoch - 1].seconds
    with np.load(folder / "confusions.npz") as kept:
        assert kept["confusions"].shape == (8, 35, 8)
        assert [str(n) for n in kept["names"]] == list(packing.prepare(drawn, SIZE, paths.cache()).val.names)
        from segbench.core import metrics

        assert metrics.scores(kept["confusions"].sum(0), DEFAULT).miou == pytest.approx(card.best.miou, abs=1e-12)
        names = [str(name) for name in kept["names"]]
        first = np.asarray(Image.open(folder / "masks" / f"{names[0]}.png"))
    assert not list(folder.parent.glob("*.partial"))

    photograph = drawn / "leftImg8bit" / "val" / f"{names[0]}_leftImg8bit.png"
    if name == "deeplab":  # in a process of its own, which imports what this architecture needs
        code = "import sys; from segbench import predict; predict.main(sys.argv[1:])"
        code += f"; assert not {NOT_TO_PREDICT} & set(sys.modules)"
        subprocess.run([sys.executable, "-c", code, photograph, "--out", tmp_path / "out"], check=True)
    else:
        assert call(predict, photograph, "--out", tmp_path / "out") == 0
    again = np.asarray(Image.open(tmp_path / "out" / f"{photograph.stem}-small-{name}-mask.png"))
    ids = np.asarray(Image.open(tmp_path / "out" / f"{photograph.stem}-small-{name}-labelIds.png"))
    np.testing.assert_array_equal(ids, np.array(labels.DEFAULT.typical_ids)[again])
    assert np.mean(first == again) > 0.99  # alone and in a batch, sums are rounded differently

    light = "import sys; from segbench import search; search.main(sys.argv[1:]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", light, name, *map(str, where)], check=True)  # nothing is left to train
    assert study(f"small-{name}") == found
    assert found.final_scores == {}  # of two trials only the best kept its weights: there is no ranking to ask about
    written = (folder / "card.json").stat().st_mtime_ns
    assert call(promote, name, *where) == 0
    assert "promoted already" in capsys.readouterr().out
    assert (folder / "card.json").stat().st_mtime_ns == written


@pytest.mark.slow
def test_interrupted_search_ends_with_the_same_configurations(
    storage: Path, made_databases: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = write_protocol(tmp_path / "small", PROTOCOL.replace("trials = 2", "trials = 4"))
    where = ["deeplab", "--protocol", folder, "--data", drawn]
    assert call(search, *where) == 0
    whole = study()

    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "other"))
    shutil.copytree(made_databases, tmp_path / "other")
    epochs = training_run._trained
    calls = 0

    def stop(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        for record in epochs(*arguments):  # type: ignore[arg-type]
            if calls == 2:
                raise KeyboardInterrupt
            yield record

    with monkeypatch.context() as patch:
        patch.setattr(training_run, "_trained", stop)
        assert call(search, *where) == 130
    assert sorted(t.state for t in study().trials) == ["complete", "waiting", "waiting", "waiting"]
    assert call(search, *where, "--trials", "1") == 0  # one is finished, and so nothing runs
    assert [t.state for t in study().trials] == ["complete"]
    assert call(search, *where) == 0
    again = study()
    assert [(t.index, t.params, t.value, t.state) for t in again.trials] == [
        (t.index, t.params, t.value, t.state) for t in whole.trials
    ]
    capsys.readouterr()
    assert call(search, *where) == 0  # finished: nothing more is done
    assert "0 of 4 trials to run" in capsys.readouterr().out
    assert study() == again
    assert call(search, *where, "--trials", "5") == 0  # a longer search contains the shorter
    assert study().trials[:4] == again.trials
    assert len(study().trials) == 5


def test_a_killed_owners_trial_is_requeued(storage: Path, drawn: Path, protocol: Path) -> None:
    assert call(search, "deeplab", "--protocol", protocol, "--data", drawn, "--trials", 1) == 0
    ledger = database.connect(paths.studies_database())
    one = optuna.load_study(study_name="small-deeplab", storage=ledger)
    zombie = optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params={},
        distributions={},
        user_attrs={"trial": 1, "owner": str(liveness.WorkerId(liveness.here(), 999999999, 0.0))},
    )
    one.add_trial(zombie)
    assert call(search, "deeplab", "--protocol", protocol, "--data", drawn) == 0
    assert [(t.index, t.state) for t in study().trials] == [(0, "complete"), (1, "complete")]


def test_baseline_runs_beside_the_plan(storage: Path, drawn: Path, protocol: Path) -> None:
    assert call(search, "deeplab", "--protocol", protocol, "--data", drawn, "--baseline") == 0
    baseline, *planned = study().trials
    assert baseline.baseline
    assert baseline.params == {"lr": 1.5e-4, "weight_decay": 1e-8, "optimizer": "adamw", "aux_loss": True}
    assert [t.index for t in planned] == [0, 1]  # weight_decay 1e-8 lies outside the space, and is kept
    assert studies.best(study()).index != studies.BASELINE


def test_a_search_whose_trials_all_failed_says_so(
    storage: Path, drawn: Path, protocol: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit, calls = training.fit, []
    failures = [training.Diverged("train loss is nan in epoch 1"), MemoryError()]

    def sick(*arguments: object, **options: object) -> object:
        calls.append(1)
        raise failures[len(calls) - 1]
        yield

    monkeypatch.setattr(training, "fit", sick)
    where = ["deeplab", "deeplab", "--protocol", protocol, "--data", drawn]  # named twice, it is searched once
    nothing = (
        "all 2 trials of study 'small-deeplab' ended without a result (train loss is nan in epoch 1; out of memory"
    )
    assert call(search, *where) == 2
    captured = capsys.readouterr()
    assert nothing in captured.err
    assert "next:" not in captured.out
    assert captured.out.count("trials to run") == 1
    assert [t.state for t in study().trials] == ["diverged", "out of memory"]
    assert "search with --protocol NEW" in study().trials[1].reason
    monkeypatch.setattr(training, "fit", fit)
    assert call(search, *where) == 2  # both trials are spent
    assert [t.state for t in study().trials] == ["diverged", "out of memory"]
    capsys.readouterr()
    assert call(promote, *where) == 2
    assert nothing in error_of(capsys)


def test_what_has_a_result_is_promoted_next(
    storage: Path, drawn: Path, protocol: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two architectures one diverges: the next command names the other, and the exit code says that one failed."""
    fit = training.fit

    def sick(state: training.State, *arguments: Any, **options: Any) -> Any:
        if any("transformer" in name for name, _ in state.model.named_modules()):
            raise training.Diverged("train loss is nan in epoch 1")
        return fit(state, *arguments, **options)

    monkeypatch.setattr(training, "fit", sick)
    assert call(search, "--protocol", protocol, "--data", drawn, "--trials", 1, "--precision", "fp32") == 2
    captured = capsys.readouterr()
    assert f"next:  python -m segbench.promote deeplab --protocol {protocol}" in captured.out
    assert "all 1 trials of study 'small-mask2former' ended without a result" in captured.err
    (trial,) = study().trials
    assert (trial.device.kind, trial.device.precision, trial.device.processes) == ("cpu", "fp32", 1)
    note = optuna.load_study(study_name="small-deeplab", storage=database.connect(paths.studies_database()))
    assert note.user_attrs["commands"][0].endswith(" --trials 1")


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_other_samplers_and_pruners(sampler: str, storage: Path, drawn: Path, protocol: Path) -> None:
    options = ["--sampler", sampler, "--pruner", "median", "--trials", 3]
    assert call(search, "deeplab", "--protocol", protocol, "--data", drawn, *options) == 0
    found = study()
    assert [t.index for t in found.trials] == [0, 1, 2]
    assert all(set(t.params) == {"lr", "weight_decay", "optimizer", "aux_loss"} for t in found.trials)
    assert call(promote, "deeplab", "--protocol", protocol, "--data", drawn) == 0  # the study remembers the sampler


def test_changed_intent_is_refused(
    storage: Path, drawn: Path, dataset: Path, protocol: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["deeplab", "--protocol", protocol]
    assert call(search, *where, "--data", drawn, "--trials", 1) == 0
    before = study()
    toml = protocol / "deeplab.toml"
    original = toml.read_text()
    toml.write_text(original.replace("1e-2", "2e-2"))
    for command in (search, promote):
        capsys.readouterr()
        assert call(command, *where, "--data", drawn) == 2
        assert "copy the" in error_of(capsys)
    toml.write_text(original)
    Image.new("RGB", SIZE[::-1]).save(next((dataset / "leftImg8bit" / "train").glob("*/*")))
    for command in (search, promote):
        capsys.readouterr()
        assert call(command, *where, "--data", dataset) == 2
        assert "dataset" in error_of(capsys)
    assert study() == before


def test_prepare_lists_what_is_wrong(
    storage: Path, dataset: Path, protocol: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(prepare, "--protocol", protocol, "--data", dataset) == 0
    assert "traffic sign" in capsys.readouterr().out
    image = next((dataset / "leftImg8bit" / "train").glob("*/*"))
    image.write_bytes(b"")
    for command in (prepare, search):
        assert call(command, "--protocol", protocol, "--data", dataset) == 2
        captured = capsys.readouterr()
        assert f"{image.relative_to(dataset)}: image cannot be read" in captured.out
        assert "1 file in" in captured.err
    assert not (storage / "studies.db").exists()


def test_wrong_words(
    storage: Path, drawn: Path, protocol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    where = ["--protocol", protocol, "--data", drawn]
    cases = {
        ("search", "unet", *where): "no architecture 'unet'",
        ("search", "deeplab", "--protocol", "nowhere"): "no protocol 'nowhere'",
        ("search", "deeplab", "--protocol", protocol, "--data", tmp_path / "nothing"): "nothing is not a directory",
        ("search", "deeplab", "--protocol", protocol): "needs a dataset",
        ("search", "deeplab", "--protocol", "demo", "--data", drawn): "draws its own streets",
        ("search", "deeplab", *where, "--trials", "0"): "trials must be at least 1",
        ("search", "deeplab", *where, "--device", "cuda:77"): "no device 'cuda:77'",
        ("search", "deeplab", *where, "--weights", "absent.pth"): "no weights at absent.pth",
        ("promote", "deeplab", *where): "Search first",
        ("predict", tmp_path / "a.png", "--out", tmp_path / "out"): "no promoted model",
    }
    modules = {"search": search, "promote": promote, "predict": predict}
    for (command, *arguments), message in cases.items():
        monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / f"storage-{abs(hash(message))}"))
        assert call(modules[command], *arguments) == 2, message
        assert message in error_of(capsys)


def test_storage_that_cannot_be_used(
    storage: Path, drawn: Path, protocol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    where = ["deeplab", "--protocol", protocol, "--data", drawn]
    (storage / "studies.db").write_text("this is no database, and long enough to be read as one" * 50)
    assert call(search, *where) == 2
    assert "cannot be used as an Optuna database" in error_of(capsys)
    (storage / "studies.db").unlink()
    assert call(search, *where, "--trials", 1) == 0
    capsys.readouterr()
    with sqlite3.connect(storage / "studies.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    assert call(search, *where) == 2
    assert "another version of Optuna" in error_of(capsys)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "file"))
    assert call(search, *where) == 2
    assert "is not a directory; move it" in error_of(capsys)


def test_study_tells_where_it_comes_from(storage: Path, drawn: Path, protocol: Path) -> None:
    assert call(search, "deeplab", "--protocol", protocol, "--data", drawn, "--trials", 1) == 0
    found = study()
    assert found.protocol.title == "Test streets"
    assert found.weights is not None
    assert (found.weights.kind, found.weights.name) == ("random", "seed 0")
    assert "16 train images; selection on 4" in found.subset
    assert found.architecture.batch_size == 8
