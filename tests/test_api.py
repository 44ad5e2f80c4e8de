"""The Python API: the commands' results, without their words, and their errors."""

from __future__ import annotations

import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hatchling.builders.wheel import WheelBuilder
from PIL import Image

import segbench
from segbench import api, promote, search, study
from segbench import predict as predict_command
from segbench.core import paths
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT
from segbench.data import pictures
from segbench.ledger import database, models, studies
from segbench.report import __main__ as report
from segbench.runtime import terminal

pytest_plugins = ["tests.fabricated"]


def test_search_promote_report_load(
    storage: Path, drawn: Path, protocol: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """All five calls, without a word; the ledgers hold what they return."""
    first = api.search("deeplab", protocol=protocol, data=drawn, trials=1)
    assert [trial.state for trial in first.trials] == ["complete"]
    resumed = api.search(["deeplab"], protocol=str(protocol), data=str(drawn))  # resumes
    assert [record.name for record in resumed] == ["small-deeplab"]
    assert resumed[0].trials[0] == first.trials[0]
    assert [trial.state for trial in resumed[0].trials] == ["complete", "complete"]
    assert resumed[0] == studies.record(database.connect(paths.studies_database()), "small-deeplab")

    (model,) = api.promote(protocol, "deeplab", data=drawn, device="cpu")
    assert [(each.folder, each.card) for each in models.promoted("small")] == [(model.folder, model.card)]
    assert api.promote(protocol, ["deeplab"], data=drawn)[0].card == model.card  # nothing is trained again
    loaded = api.load("small-deeplab", device="cpu")
    assert (loaded.folder, loaded.card) == (model.folder, model.card)
    photograph = next((drawn / "leftImg8bit" / "val").glob("*/*"))
    image = pictures.read(photograph)
    masks = loaded.predict(np.stack([image, image[:, ::-1]]))
    assert (masks.dtype, masks.shape) == (np.uint8, (2, *image.shape[:2]))
    np.testing.assert_array_equal(model.predict(image[None]), masks[:1])
    for wrong in (image, image[None].astype(float), image[None, ..., :2]):
        with pytest.raises(UserError, match="photographs must be a uint8 array of shape"):
            loaded.predict(wrong)

    page = api.report(protocol, lang="fr")
    assert page == paths.reports() / "small.fr.html"
    assert 'lang="fr"' in page.read_text()
    assert api.report(protocol, out=tmp_path / "page.html") == tmp_path / "page.html"
    assert [*capfd.readouterr()] == ["", ""]

    assert predict_command.main([str(photograph), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    (mask,) = (tmp_path / "out").glob("*-mask.png")
    np.testing.assert_array_equal(np.asarray(Image.open(mask)), np.asarray(pictures.mask(masks[0], DEFAULT.colours)))


def test_verbose_prints_what_the_command_prints(
    storage: Path, drawn: Path, protocol: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["deeplab", "--protocol", str(protocol), "--data", str(drawn), "--trials", "1"]
    api.search("deeplab", protocol=protocol, data=drawn, trials=1, verbose=True)
    said = capsys.readouterr().out
    assert "deeplab (tiny): study small-deeplab, 1 of 1 trials to run" in said
    search.main(where)
    again = capsys.readouterr().out
    api.search("deeplab", protocol=protocol, data=drawn, trials=1, verbose=True)
    assert again.startswith(capsys.readouterr().out.rstrip("\n"))  # the command also says which is next
    api.search("deeplab", protocol=protocol, data=drawn, trials=1)
    assert capsys.readouterr().out == ""


def test_trials_and_epochs_are_what_export_writes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    for name, epochs in (("trials.csv", []), ("epochs.csv", ["--epochs"])):
        assert study.main(["export", "--to", name, *epochs]) == 0
    for table, exported in ((api.trials(), "trials.csv"), (api.epochs(), "epochs.csv")):
        written = pd.read_csv(exported)
        assert list(table.columns) == list(written.columns)
        assert len(table) == len(written) > 20
        assert table["trial"].tolist() == written["trial"].tolist()
    alpha = api.trials("fab-alpha")
    assert set(alpha["study"]) == {"fab-alpha"}
    assert alpha["value"].max() == pytest.approx(api.epochs("fab-alpha")["miou"].max())
    assert set(api.trials("fab")["study"]) == set(api.trials(here / "fab")["study"]) == {"fab-alpha", "fab-beta"}
    assert len(api.epochs("fab-alpha")) == alpha["epochs"].sum()


def test_the_errors_are_the_commands(
    storage: Path, drawn: Path, protocol: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--protocol", str(protocol), "--data", str(drawn)]
    cases = [
        (lambda: api.search("unet", protocol=protocol, data=drawn), lambda: search.main(["unet", *where])),
        (lambda: api.search(protocol="nowhere"), lambda: search.main(["--protocol", "nowhere"])),
        (lambda: api.search(protocol=protocol), lambda: search.main(["--protocol", str(protocol)])),
        (lambda: api.search(protocol=protocol, data=drawn, device="cuda:7"),
         lambda: search.main([*where, "--device", "cuda:7"])),
        (lambda: api.promote(protocol, data=drawn), lambda: promote.main(where)),
        (lambda: api.report(protocol), lambda: report.main(["--protocol", str(protocol)])),
        (lambda: api.report(protocol, out=""), lambda: report.main(["--protocol", str(protocol), "--out", ""])),
        (lambda: api.load("no-such"), lambda: predict_command.main(["x.png", "--out", "out", "--model", "no-such"])),
    ]  # fmt: skip
    for call, command in cases:
        with pytest.raises(UserError) as ours:
            call()
        with pytest.raises(UserError) as theirs:
            command()
        assert str(ours.value) == str(theirs.value)
        assert "\n" not in str(ours.value)
    assert not capsys.readouterr().out
    with pytest.raises(UserError, match="no study or protocol 'mine' was searched; studies: none"):
        api.trials("mine")
    assert api.trials().empty
    with pytest.raises(UserError, match="the report speaks"):
        api.report(protocol, lang="de")
    with pytest.raises(TypeError, match="trails"):
        api.search(protocol=protocol, trails=3)  # type: ignore[call-overload]


def test_damaged_files_are_in_the_errors_note(
    storage: Path, dataset: Path, protocol: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = next((dataset / "gtFine" / "train").glob("*/*"))
    labels.write_bytes(labels.read_bytes()[:40])
    with pytest.raises(UserError, match=r"1 file in .* cannot be used") as found:
        api.search("deeplab", protocol=protocol, data=dataset)
    assert labels.name in found.value.__notes__[0]
    assert [*capfd.readouterr()] == ["", ""]
    with pytest.raises(UserError, match=r"1 file in .* cannot be used"):
        search.main(["deeplab", "--protocol", str(protocol), "--data", str(dataset), "--quiet"])
    assert labels.name in capfd.readouterr().out


def test_a_model_whose_architecture_is_gone(here: Path) -> None:
    assert api.load("fab-alpha").card.architecture == "alpha"
    with pytest.raises(UserError, match="no architecture 'alpha'"):
        api.load("fab-alpha", device="cpu").predict(np.zeros((1, 8, 8, 3), np.uint8))


def test_of_several_seeds_the_best_is_loaded(here: Path) -> None:
    import dataclasses

    (alpha,) = [each for each in models.promoted("fab") if each.card.architecture == "alpha"]
    better = dataclasses.replace(alpha.card, seed=1, best=dataclasses.replace(alpha.card.best, miou=0.999))
    folder = alpha.folder.with_name("seed1")
    folder.mkdir()
    models.write_card(folder / "card.json", better)
    assert api.load("fab-alpha").card.seed == 1
    assert api.load(alpha.folder).card.seed == 0


def test_a_library_is_silent_and_its_warnings_are_pythons(capfd: pytest.CaptureFixture[str]) -> None:
    with terminal.as_library(verbose=False):
        terminal.say("said")
        terminal.banner("banner")
        terminal.table("table", ["column"], [["cell"]])
        with terminal.progress("work", 2) as advance:
            advance()
        with pytest.warns(UserWarning, match="a disk is full"):
            terminal.warn("a disk is full")
    assert [*capfd.readouterr()] == ["", ""]
    with terminal.as_library(verbose=True), warnings.catch_warnings():
        warnings.simplefilter("error")
        terminal.say("said")
        terminal.warn("a disk is full")
    out, err = capfd.readouterr()
    assert (out, err) == ("said\n", "segbench: warning: a disk is full\n")


SCRIPT = """
import sys
from segbench import api
heavy = lambda *names: [name for name in names if name in sys.modules]
print(heavy("torch", "mlflow", "optuna", "pandas", "plotly"))
api.trials("fab"), api.epochs("fab-alpha"), api.load("fab-alpha"), api.report("fab")
print(heavy("torch", "transformers", "torchvision"))
"""


@pytest.mark.slow
def test_torch_is_not_imported_before_something_trains(here: Path) -> None:
    environment = {"PYTHONPATH": str(Path(segbench.__file__).parent.parent), "PATH": "", "SEGBENCH_STORAGE": "storage"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=here, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n[]\n"
    assert result.stderr == ""


def test_the_wheel_says_that_it_is_typed(tmp_path: Path) -> None:
    root = Path(segbench.__file__).parent.parent
    wheel = next(WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"]))
    names = zipfile.ZipFile(wheel).namelist()
    assert {"segbench/py.typed", "segbench/api.py", "segbench/studies/demo/protocol.toml"} <= set(names)
    assert not [name for name in names if not name.startswith(("segbench/", "segbench-"))]
