"""Architectures from outside of the package: a file beside its TOML, an installed package; and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from segbench import __main__ as entry
from segbench import architectures, predict, promote, search, study
from segbench.architectures.parts import outside
from segbench.core import code, paths, protocol
from segbench.core.errors import UserError
from segbench.core.labels import DEFAULT
from segbench.core.records import Code, from_json, to_json
from segbench.data import pictures
from segbench.ledger import database, models, studies
from segbench.report import __main__ as report
from segbench.runtime import terminal
from tests.conftest import PROTOCOL, write_protocol

pytest_plugins = ["tests.fabricated"]

EXAMPLE = Path(__file__).parent.parent / "examples" / "my_architecture"
UNET = (EXAMPLE / "my_unet.py").read_text()
FINGERPRINTS = {  # as version 0.1 made them: studies that were searched then go on
    ("demo", "deeplab"): "a3f0f0756fa8",
    ("demo", "mask2former"): "648b675bd9c7",
    ("cityscapes", "deeplab"): "8d2695aa3756",
    ("cityscapes", "mask2former"): "1e11950c7aaa",
}


def call(main: Callable[[list[str]], int], *arguments: object) -> int:
    """A command's exit code, as the shell would see it."""
    return terminal.run(lambda: main([str(argument) for argument in arguments]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A protocol whose one architecture is a file beside its TOML."""
    made = tmp_path / "mine"
    made.mkdir()
    (made / "protocol.toml").write_text(PROTOCOL)
    for name in ("my_unet.toml", "my_unet.py"):
        shutil.copy(EXAMPLE / name, made)
    return made


def test_the_fingerprints_of_shipped_protocols_are_what_they_were() -> None:
    for (name, architecture), expected in FINGERPRINTS.items():
        where = paths.protocol_folder(name)
        own = protocol.load_architecture(where, architecture)
        assert own.code is None
        assert protocol.fingerprint(protocol.load(where), own) == expected


def test_an_architecture_by_file(
    folder: Path, storage: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Searched, promoted, and still loadable when the original is gone; what was changed is not run."""
    where = ["--protocol", folder, "--data", drawn]
    assert call(search.main, *where, "--trials", 1) == 0
    said = capsys.readouterr().out
    digest = code.read(folder / "my_unet.py").sha256
    assert f"running your code {folder / 'my_unet.py'} (sha256 {digest[:12]})" in said
    record = studies.record(database.connect(paths.studies_database()), "mine-my_unet")
    assert record.trials[0].state == "complete"
    assert "class UNet" not in json.dumps(to_json(record))  # code in a shared database must never be run

    assert call(promote.main, *where) == 0
    ((kept, card),) = models.promoted("mine")
    assert card.code == Code("file", "my_unet.py", digest)
    assert (kept / "my_unet.py").read_bytes() == (folder / "my_unet.py").read_bytes()

    (folder / "my_unet.py").write_text(UNET + "\n# changed\n")
    capsys.readouterr()
    assert call(search.main, *where, "--trials", 1) == 2
    assert "another protocol or space" in capsys.readouterr().err
    (folder / "my_unet.py").unlink()

    photograph = next((drawn / "leftImg8bit" / "val").glob("*/*"))
    assert call(predict.main, photograph, "--out", tmp_path / "out") == 0
    assert f"running {kept / 'my_unet.py'}" in capsys.readouterr().out
    image, mask = (np.asarray(Image.open(path)) for path in (photograph, *(tmp_path / "out").glob("*-mask.png")))
    np.testing.assert_array_equal(served(storage, image), mask)

    (kept / "my_unet.py").write_text(trap(tmp_path / "sprung"))
    assert call(predict.main, photograph, "--out", tmp_path / "out") == 2
    assert "is not the code that this model was trained with" in capsys.readouterr().err
    assert not (tmp_path / "sprung").exists()


def served(storage: Path, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mask that the model makes where MLflow loads it."""
    (folder,) = storage.glob("artifacts/**/MLmodel")
    loaded = mlflow.pyfunc.load_model(str(folder.parent), model_config={"device": "cpu"})
    return np.asarray(pictures.mask(loaded.predict(image[None])[0], DEFAULT.colours))


def trap(sprung: Path) -> str:
    """Code that shows that it was run."""
    return f"from pathlib import Path\nPath({str(sprung)!r}).write_text('run')\nraise SystemExit(3)\n"


def test_code_in_a_folder_that_is_only_listed_is_not_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    shutil.copytree("fab", "studies/fab")
    shutil.rmtree("fab")
    (here / "studies" / "fab" / "alpha.py").write_text(trap(here / "sprung"))
    for action in ([], ["show", "fab-alpha"], ["export", "--to", "t.csv"], ["new", "copied", "--from", "fab"]):
        assert call(study.main, *action) == 0
    assert call(report.main, "--protocol", "fab") == 0
    for command in entry.COMMANDS:
        with pytest.raises(SystemExit):
            entry.main([command, "--help"])
    assert set(paths.protocol_names()) >= {"copied", "fab"}
    assert (here / "studies" / "copied" / "alpha.py").read_text() == trap(here / "sprung")
    assert protocol.load_architecture(here / "studies" / "fab", "alpha").code is not None
    assert not (here / "sprung").exists()
    capsys.readouterr()
    with pytest.raises(UserError, match=r"alpha.py cannot be run \(line 3: SystemExit: 3\)"):
        architectures.create("alpha", 8, "random", {}, 0, code.read(here / "studies" / "fab" / "alpha.py"))
    assert (here / "sprung").exists()  # the trap does spring where code is run


def test_every_byte_of_the_code_counts(folder: Path) -> None:
    def fingerprint() -> str:
        return protocol.fingerprint(protocol.load(folder), protocol.load_architecture(folder, "my_unet"))

    first = fingerprint()
    assert fingerprint() == first
    (folder / "my_unet.py").write_text(f"{UNET} ")
    assert fingerprint() != first


def test_code_is_refused_as_a_key(folder: Path) -> None:
    with open(folder / "my_unet.toml", "r+") as file:
        text = file.read()
        file.seek(0)
        file.write('code = "elsewhere.py"\n' + text)
    with pytest.raises(UserError, match="unknown key 'code'"):
        protocol.load_architecture(folder, "my_unet")


def test_a_file_takes_precedence_over_a_shipped_architecture(folder: Path) -> None:
    (folder / "deeplab.py").write_text(UNET)
    model, _ = architectures.create("deeplab", 8, "random", {"width": 4}, 0, code.read(folder / "deeplab.py"))
    assert type(model).__name__ == "UNet"
    assert type(architectures.create("deeplab", 8, "random", {"size": "tiny"}, 0)[0]).__name__ != "UNet"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("def build(:\n", r"net.py cannot be run \(line 1: SyntaxError: invalid syntax\); fix it"),
        ("import no_such_package\n", r"net.py cannot be run \(line 1: ModuleNotFoundError: No module named"),
        ("x = 1\n\nraise ValueError\n", r"net.py cannot be run \(line 3: ValueError\)"),
        ("x = 1\n", r"net.py has no function 'build\(classes, weights\)'"),
        ("def build(classes): ...\n", "build in net.py must take 'classes' and 'weights'; it lacks 'weights'"),
        ("def build(classes, weights): return 3\n", "build in net.py must return a Segmenter, not a int"),
        ("def build(classes, weights):\n    return 1 / 0\n", r"build in net.py failed \(line 2: ZeroDivisionError"),
        ("def build(classes, weights, wide=1): ...\n", "net has no option 'width'; it has: wide. Fix net.toml"),
        ("def build(classes, weights): ...\n", "net has no option 'width'; it has: none. Fix net.toml"),
    ],
)
def test_code_that_cannot_be_used(text: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(text)
    options = {"width": 4} if "width" in error else {}
    with pytest.raises(UserError, match=error) as found:
        architectures.create("net", 8, "random", options, 0, code.read(tmp_path / "net.py"))
    assert "\n" not in str(found.value)


def test_code_that_cannot_be_read(folder: Path) -> None:
    (folder / "my_unet.py").write_bytes(b"# \xff\n")
    with pytest.raises(UserError, match=r"my_unet.py cannot be read as Python code: it is not UTF-8"):
        protocol.load_architecture(folder, "my_unet")
    (folder / "my_unet.py").unlink()
    (folder / "my_unet.py").mkdir()
    with pytest.raises(UserError, match=r"my_unet.py cannot be read as Python code: Is a directory"):
        protocol.load_architecture(folder, "my_unet")


def test_a_card_of_before_has_no_code_and_a_planted_name_stays_in_the_folder(tmp_path: Path) -> None:
    assert from_json(Code, {"kind": "file", "name": "net.py", "sha256": "0"}).text == ""
    (tmp_path / "net.py").write_text("secret = 1\n")
    (tmp_path / "model").mkdir()
    planted = Code("file", "../net.py", code.read(tmp_path / "net.py").sha256)
    with pytest.raises(UserError, match="cannot be read as Python code"):
        code.kept(tmp_path / "model", planted)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that offers the architecture `far_unet`, as a wheel."""
    path = tmp_path_factory.mktemp("wheel") / "far_nets-1.2-py3-none-any.whl"
    about = "far_nets-1.2.dist-info"
    files = {
        "far_nets/__init__.py": "",
        "far_nets/unet.py": UNET.replace("class UNet", "class FarUNet").replace("UNet(classes", "FarUNet(classes"),
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: far-nets\nVersion: 1.2\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[segbench.architectures]\nfar_unet = far_nets.unet\n"
        "broken = far_nets.missing\nfunction = far_nets.unet:build\n",
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
        file.writestr(f"{about}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{about}/RECORD")))
    return path


@pytest.fixture
def installed(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is installed, for this process."""
    place = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(place)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    monkeypatch.syspath_prepend(str(place))
    return place


def test_an_architecture_by_entry_point(
    installed: Path, storage: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "far"
    folder.mkdir()
    (folder / "protocol.toml").write_text(PROTOCOL)
    shutil.copy(EXAMPLE / "my_unet.toml", folder / "far_unet.toml")
    where = ["--protocol", folder, "--data", drawn]
    assert call(search.main, *where, "--trials", 1) == 0
    assert call(promote.main, *where) == 0
    ((kept, card),) = models.promoted("far")
    assert card.code == Code("package", "far-nets==1.2", "")
    assert not (kept / "far_unet.py").exists()
    requirements = next((storage / "artifacts").glob("**/model/requirements.txt")).read_text().splitlines()
    assert "far-nets==1.2" in requirements

    photograph = next((drawn / "leftImg8bit" / "val").glob("*/*"))
    assert call(predict.main, photograph, "--out", tmp_path / "out") == 0
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(installed)])
    with pytest.raises(UserError, match=r"architecture 'far_unet' is of the package far-nets==1.2: pip install far-"):
        predict.main([str(photograph), "--out", str(tmp_path / "out")])


def test_packages_that_cannot_be_used(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(outside.installed()) >= {"far_unet", "broken", "function"}
    with pytest.raises(UserError, match=r"'broken' of far-nets==1.2 cannot be imported \(ModuleNotFoundError"):
        architectures.create("broken", 8, "random", {}, 0)
    with pytest.raises(UserError, match=r"entry point is far_nets.unet:build, but must name a module"):
        architectures.create("function", 8, "random", {}, 0)
    with pytest.raises(UserError, match=r"no architecture 'near_unet'; there are: .*far_unet.*; or write near_unet.py"):
        architectures.create("near_unet", 8, "random", {}, 0)
    about = installed / "far_nets-1.2.dist-info"
    other = shutil.copytree(about, tmp_path / "other" / "near_nets-3.dist-info")
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: near-nets\nVersion: 3\n")
    monkeypatch.syspath_prepend(str(tmp_path / "other"))
    with pytest.raises(UserError, match=r"far-nets==1.2 and near-nets==3 both offer an architecture 'far_unet'"):
        architectures.create("far_unet", 8, "random", {}, 0)


def test_a_protocol_to_start_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(study.main, "new", "mine", "--from", "demo") == 0
    assert "next:  python -m segbench.search --protocol mine" in capsys.readouterr().out
    copy, original = tmp_path / "studies" / "mine", paths.protocol_folder("demo")
    assert sorted(p.name for p in copy.iterdir()) == sorted(p.name for p in original.glob("*.toml"))
    assert (copy / "deeplab.toml").read_text().startswith("# python -m segbench.search deeplab --protocol mine\n")
    assert "#   python -m segbench.search --protocol mine\n" in (copy / "protocol.toml").read_text()
    for name in protocol.architecture_names(original):
        assert (
            protocol.fingerprint(protocol.load(copy), protocol.load_architecture(copy, name))
            == FINGERPRINTS["demo", name]
        )
    assert call(study.main, "new", "elsewhere/city", "--from", "cityscapes") == 0
    text = (tmp_path / "elsewhere" / "city" / "protocol.toml").read_text()
    assert "python -m segbench.search deeplab --protocol elsewhere/city\n" in text


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["new", "mine", "--from", "demo"], "studies/mine already exists and is not overwritten"),
        (["new", "demo", "--from", "mine"], "segbench comes with a protocol 'demo'"),
        (["new", "other", "--from", "unknown"], "no protocol 'unknown'"),
        (["new", "other", "--from", "broken"], "title"),
        (["new", "a b", "--from", "demo"], "protocol name 'a b' may hold only letters"),
        (["new", "..", "--from", "demo"], "already exists"),
        (["new", "", "--from", "demo"], "new needs a name"),
        (["new", "studies/mine/protocol.toml/x", "--from", "demo"], "cannot write studies/mine/protocol.toml/x"),
        (["new", "other"], "new needs a name and a protocol"),
        (["new", "--from", "demo"], "new needs a name and a protocol"),
        (["new", "other", "--from", "demo", "--epochs"], "--to and --epochs belong to export, not to new"),
        (["show", "--from", "demo"], "--from belongs to new, not to show"),
    ],
)
def test_copies_that_are_refused(
    arguments: list[str],
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    write_protocol(tmp_path / "studies" / "mine")
    write_protocol(tmp_path / "studies" / "broken", PROTOCOL.replace("title", "titel"))
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    assert call(study.main, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert error in lines[0]
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
