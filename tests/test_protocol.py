"""Protocols: what ships is the note's, and every mistake gets its own line."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from segbench import architectures
from segbench.core import paths, protocol
from segbench.core.errors import UserError
from segbench.core.space import Choice, Range
from segbench.core.tables import added
from tests.conftest import PROTOCOL


def test_cityscapes_is_the_notes_protocol() -> None:
    folder = paths.protocol_folder("cityscapes")
    one = protocol.load(folder)
    assert (one.search.trials, one.search.epochs, one.search.train_images, one.search.val_images) == (10, 10, 300, 50)
    assert (one.final.epochs, one.final.train_images, one.final.val_images) == (10, 2975, 500)
    assert one.data.size == (256, 256)
    assert (one.search.sampler, one.search.pruner, one.search.select_on) == ("random", "none", "train")
    deeplab = protocol.load_architecture(folder, "deeplab")
    assert deeplab.baseline == {"lr": 1.5169e-4, "weight_decay": 1.2455e-6, "optimizer": "adam", "aux_loss": True}
    assert deeplab.space["optimizer"] == Choice(("adam", "adamw", "sgd"))
    mask2former = protocol.load_architecture(folder, "mask2former")
    assert (mask2former.baseline["lr"], mask2former.baseline["weight_decay"]) == (5.6844e-5, 1.5127e-4)
    assert mask2former.weights == deeplab.weights == "pretrained"


@pytest.mark.parametrize("name", paths.protocol_names())
def test_everything_that_ships_can_be_read(name: str) -> None:
    folder = paths.protocol_folder(name)
    protocol.load(folder)
    for architecture in protocol.architecture_names(folder):
        named = protocol.load_architecture(folder, architecture).name
        assert named.partition("@")[0] in architectures.names()


REFUSED = {
    "trials = 2": ("trails = 2", "unknown key 'trails'; did you mean 'trials'?"),
    "epochs = 2\ntrain": ("epochs = 2.5\ntrain", "search.epochs must be a whole number, found 2.5"),
    "size = [32, 64]": ("size = [32]", "data.size must be [height, width], found [32]"),
    "val_images = 4": ("val_images = 0", "val_images must be at least 1, not 0"),
    "[final]\nepochs = 2": ("", "'final' is missing"),
    "[search]": ("[search]\nselect_on = 'test'", "select_on must be one of train, val, not 'test'"),
    "title": ("title == ", "is not valid TOML"),
    'title = "Test streets"': ("title = 3", "title must be text, found 3"),
    'title = "Test streets"\n[data]': ('title = "a\\nb"\n[data]', "title must be one line of text, found 'a\\nb'"),
    "trials = 2\n": ("trials = 0x10000000000000000\n", "search.trials must be within ±2^53"),
    "trials = 2\nepochs": ("trials = 2_000_000\nepochs", "trials must be at most 1000000, not 2000000"),
    "train_images = 16": ("train_images = 16\nseed = -1", "seed must be 0..4294967295, not -1"),
    "train_images = 16\n": ("train_images = 16\nseed = 4294967296\n", "seed must be 0..4294967295, not 4294967296"),
    "[final]": ("[final]\nseeds = [0, -1]", "seeds must be 0..4294967295, not -1"),
    "[final]\n": ("[final]\nseeds = []\n", "seeds must be distinct, and at least one"),
    "\n[search]": ("\n[data.streets]\ntrain = 1\nval = 1\nsize = [32, 9999]\n[search]", "size must be 32..4096 pixels"),
    "\n[search]\n": (
        "\n[data.streets]\ntrain = 1\nval = 1\nsize = [32, 32]\nseed = -2\n[search]\n",
        "seed must be 0..",
    ),
    "\n[data]": ("\n[augment]\nscale = [1.0, inf]\n[data]", "augment.scale must be finite, found inf"),
    "\n[data]\n": ("\n[augment]\nscale = [1e-300, 1.0]\n[data]\n", "scale must be [low, high] with 0.1 <= low"),
    "[data]\n": ("[augment]\ncolour = nan\n[data]\n", "augment.colour must be finite, found nan"),
    "\n[data]\nsize": ('\n"a\\nb" = 1\n[data]\nsize', "a key must be one line of text"),
    "size = [32, 64]\n": ("size = " + "[" * 2000 + "]" * 2000 + "\n", "is nested too deeply"),
    "size = [32, 64]\n[": ("size = " + "1" * 5000 + "\n[", "is not valid TOML"),
}


@pytest.mark.parametrize("found", REFUSED)
def test_mistakes_in_the_protocol(protocol_folder: Path, found: str) -> None:
    wrong, message = REFUSED[found]
    assert found in PROTOCOL
    (protocol_folder / "protocol.toml").write_text(PROTOCOL.replace(found, wrong, 1))
    with pytest.raises(UserError, match=r"protocol\.toml") as caught:
        protocol.load(protocol_folder)
    assert message in one_line(caught.value)


MISTAKES = {
    "lr = { log_uniform = [1e-4, 1e-2] }": ("lr = { log_uniform = [1e-2, 1e-4] }", "low 0.01 is above high 0.0001"),
    "lr = {": ("lr = { logarithmic = [1, 2] } #", "expected one of log_uniform"),
    "[1e-4, 1e-2]": ("[0, 1e-2]", "a log scale needs low above 0"),
    "weight_decay = {": ("weight_decay = { uniform = [1] } #", "uniform needs two numbers [low, high], found [1]"),
    '"sgd"': ('"lion"', "optimizer must be one of adam, adamw, sgd, not 'lion'"),
    "lr = 1.5e-4": ("", "[baseline] and [space] must name the same things, but differ in ['lr']"),
    "batch_size = 8": ("batch_size = true", "batch_size must be a whole number, found True"),
    'weights = "random"': ("", "'weights' is missing"),
    'weights = "random"\n[': ('weights = "a\\u0000b"\n[', "weights must be one line of text"),
    'weights = "random"\n[model]': ('weights = "random"\nspace = 3\n[model]', "deeplab.toml"),
    '[model]\nsize = "tiny"': ("model = 3", "model must be a table, found 3"),
    'size = "tiny"': ("size = [1, 2]", "[model] size must be a number, a text, true or false, found [1, 2]"),
    'size = "tiny"\n': ('size = "tiny"\n"two words" = 1\n', "[model] 'two words' cannot be an argument"),
    "[space]\n": ("[space]\nqueries = { integer = [1, inf] }\n", "space.queries.integer must be finite, found inf"),
    "\n[space]": ("\n[space]\nqueries = { integer = [1, 2.5] }", "integer needs two whole numbers [low, high], found"),
    "\n[space]\n": (
        "\n[space]\nqueries = { choice = [[1], [2]] }\n",
        "a value must be a number, a text, true or false",
    ),
    "[space]\nlr": (
        "[space]\nqueries = { choice = [{ a = 1 }] }\nlr",
        "a value must be a number, a text, true or false",
    ),
    "\n[space]\nlr": ("\n[space]\nqueries = 1979-05-27\nlr", "a value must be a number, a text, true or false"),
    "[space]\nlr =": ("[space]\nqueries = { uniform = [-1e308, 1e308] }\nlr =", "the bounds are too far apart"),
    "\n[space]\nlr =": ("\n[space]\nqueries = { choice = 3 }\nlr =", "choice needs a list, found 3"),
    "[space]\nlr = {": ("[space]\nqueries = {}\nlr = {", "expected one of log_uniform"),
    "lr = { log_uniform = [1e-4, 1e-2] }\n": ('lr = "fast"\n', "[space] lr must be a number above 0, not 'fast'"),
    "lr = { log_uniform = [1e-4, 1e-2] }\nw": ("lr = -0.1\nw", "[space] lr must be a number above 0, not -0.1"),
    "lr = { log_uniform = [1e-4, 1e-2]": ("lr = { uniform = [0, 1]", "[space] lr must be a number above 0, not 0.0"),
    "weight_decay = { log_uniform = [1e-6, 1e-3] }": (
        "weight_decay = { choice = [0, -1] }",
        "[space] weight_decay must be a number of 0 or more, not -1",
    ),
    "weight_decay = { log_uniform = [1e-6, 1e-3] }\n": (
        "weight_decay = nan\n",
        "weight_decay must be finite, found nan",
    ),
    "optimizer = {": ("optimizer = { uniform = [1, 2] } #", "optimizer must be a name or a choice of names"),
    "lr = 1.5e-4\n": ("lr = 0.0\n", "[baseline] lr must be a number above 0, not 0.0"),
    "weight_decay = 1e-8": ("weight_decay = -1", "[baseline] weight_decay must be a number of 0 or more, not -1"),
    "lr = 1.5e-4\nw": ("lr = [1]\nw", "[baseline] lr must be a number, a text, true or false, found [1]"),
    "[baseline]\n": ("[base_line]\n", "unknown key 'base_line'; did you mean 'baseline'?"),
}


@pytest.mark.parametrize("found", MISTAKES)
def test_mistakes_in_an_architecture(protocol_folder: Path, found: str) -> None:
    wrong, message = MISTAKES[found]
    path = protocol_folder / "deeplab.toml"
    assert found in path.read_text()
    path.write_text(path.read_text().replace(found, wrong, 1))
    with pytest.raises(UserError, match=r"deeplab\.toml") as caught:
        protocol.load_architecture(protocol_folder, "deeplab")
    assert message in one_line(caught.value)


def one_line(error: UserError) -> str:
    text = str(error)
    assert len(text.splitlines()) == 1
    assert len(text) < 500  # however long the value is
    return text


def test_files_that_are_none(protocol_folder: Path) -> None:
    path = protocol_folder / "deeplab.toml"
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"deeplab\.toml is not a file"):
        protocol.load_architecture(protocol_folder, "deeplab")
    path.rmdir()
    os.mkfifo(path)  # would be waited for for ever
    with pytest.raises(UserError, match=r"deeplab\.toml is not a file"):
        protocol.load_architecture(protocol_folder, "deeplab")
    path.unlink()
    path.write_bytes(b"title = '\xff'")
    with pytest.raises(UserError, match=r"deeplab\.toml is not valid TOML"):
        protocol.load_architecture(protocol_folder, "deeplab")
    path.write_text("#" * 2_000_000)
    with pytest.raises(UserError, match=r"deeplab\.toml is larger than 1000 kB"):
        protocol.load_architecture(protocol_folder, "deeplab")


def test_code_that_is_not_a_file(protocol_folder: Path) -> None:
    path = protocol_folder / "deeplab.py"
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("nowhere", path)):
        make(path)
        with pytest.raises(UserError, match=r"deeplab\.py cannot be read as Python code"):
            protocol.load_architecture(protocol_folder, "deeplab")
        path.rmdir() if path.is_dir() else path.unlink()


def test_what_does_not_exist(protocol_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it holds deeplab, mask2former"):
        protocol.load_architecture(protocol_folder, "segformer")
    known = ", ".join(
        sorted(path.parent.name for path in (Path(__file__).parent.parent / "studies").glob("*/protocol.toml"))
    )
    with pytest.raises(UserError, match=f"studies/ holds {known}"):
        paths.protocol_folder("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no protocol\.toml"):
        paths.protocol_folder(str(tmp_path / "empty"))


def test_fingerprint_covers_what_a_search_depends_on(protocol_folder: Path) -> None:
    def current() -> str:
        return protocol.fingerprint(
            protocol.load(protocol_folder), protocol.load_architecture(protocol_folder, "deeplab")
        )

    def changed(file: str, old: str, new: str) -> str:
        path = protocol_folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        try:
            return current()
        finally:
            path.write_text(text)

    start = current()
    assert changed("protocol.toml", "Test streets", "Another title") == start
    assert changed("protocol.toml", "trials = 2", "trials = 20") == start  # a longer search contains the shorter
    assert changed("protocol.toml", "[final]\nepochs = 2", "[final]\nepochs = 9") == start
    assert changed("protocol.toml", "epochs = 2\ntrain", "epochs = 3\ntrain") != start
    assert changed("protocol.toml", "[32, 64]", "[64, 64]") != start
    assert changed("deeplab.toml", "1e-2", "2e-2") != start
    assert changed("deeplab.toml", "batch_size = 8", "batch_size = 4") != start


# Of release 0.1: whoever changes one of these makes the studies of all users unknown.
SHIPPED = {
    ("cityscapes", "deeplab"): "8d2695aa3756",
    ("cityscapes", "mask2former"): "1e11950c7aaa",
    ("demo", "deeplab"): "a3f0f0756fa8",
    ("demo", "mask2former"): "648b675bd9c7",
}


@pytest.mark.parametrize(("name", "architecture"), SHIPPED)
def test_fingerprints_of_what_ships_stay(name: str, architecture: str) -> None:
    folder = paths.protocol_folder(name)
    current = protocol.fingerprint(protocol.load(folder), protocol.load_architecture(folder, architecture))
    assert current == SHIPPED[name, architecture]


def test_a_field_added_later_leaves_old_fingerprints_alone(protocol_folder: Path) -> None:
    loaded, architecture = protocol.load(protocol_folder), protocol.load_architecture(protocol_folder, "deeplab")
    before = protocol.fingerprint(loaded, architecture)

    def later(old: Any, name: str, value: Any) -> Any:
        kind = dataclasses.make_dataclass("Later", [(name, object, added(None))], bases=(type(old),), frozen=True)
        return kind(**{f.name: getattr(old, f.name) for f in dataclasses.fields(old)}, **{name: value})

    for value in (None, "x"):
        with_table = later(loaded, "labels", value)
        with_key = dataclasses.replace(loaded, search=later(loaded.search, "patience", value))
        assert (protocol.fingerprint(with_table, architecture) == before) is (value is None)
        assert (protocol.fingerprint(with_key, architecture) == before) is (value is None)
        assert (protocol.fingerprint(loaded, later(architecture, "digest", value)) == before) is (value is None)


def test_space_kinds(protocol_folder: Path) -> None:
    path = protocol_folder / "deeplab.toml"
    path.write_text(path.read_text().replace("[baseline]", "queries = { integer = [10, 30] }\n[was]").split("[was]")[0])
    space = protocol.load_architecture(protocol_folder, "deeplab").space
    assert space["lr"] == Range(1e-4, 1e-2, log=True)
    assert space["queries"] == Range(10, 30, integer=True)


@pytest.fixture
def protocol_folder(protocol: Path) -> Path:  # the fixture's name is the module's here
    return protocol
