"""Protocols: what ships is the note's, and every mistake gets its own line."""

from __future__ import annotations

from pathlib import Path

import pytest

from segbench import architectures
from segbench.core import paths, protocol
from segbench.core.errors import UserError
from segbench.core.protocol import Choice, Range
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
        assert protocol.load_architecture(folder, architecture).name in architectures.names()


REFUSED = {
    "trials = 2": ("trails = 2", "unknown key 'trails'; did you mean 'trials'?"),
    "epochs = 2\ntrain": ("epochs = 2.5\ntrain", "search.epochs must be a whole number, found 2.5"),
    "size = [32, 64]": ("size = [32]", "data.size must be [height, width], found [32]"),
    "val_images = 4": ("val_images = 0", "val_images must be at least 1, not 0"),
    "[final]\nepochs = 2": ("", "'final' is missing"),
    "[search]": ("[search]\nselect_on = 'test'", "select_on must be one of train, val, not 'test'"),
    "title": ("title == ", "is no valid TOML"),
    'title = "Test streets"': ("title = 3", "title must be text, found 3"),
}


@pytest.mark.parametrize("found", REFUSED)
def test_mistakes_in_the_protocol(protocol_folder: Path, found: str) -> None:
    wrong, message = REFUSED[found]
    (protocol_folder / "protocol.toml").write_text(PROTOCOL.replace(found, wrong, 1))
    with pytest.raises(UserError, match=r"protocol\.toml") as caught:
        protocol.load(protocol_folder)
    assert message in str(caught.value)


MISTAKES = {
    "lr = { log_uniform = [1e-4, 1e-2] }": ("lr = { log_uniform = [1e-2, 1e-4] }", "low 0.01 is above high 0.0001"),
    "lr = {": ("lr = { logarithmic = [1, 2] } #", "expected one of log_uniform"),
    "[1e-4, 1e-2]": ("[0, 1e-2]", "a log scale needs low above 0"),
    "weight_decay = {": ("weight_decay = { uniform = [1] } #", "uniform needs two numbers [low, high], found [1]"),
    '"sgd"': ('"lion"', "optimizer must be one of adam, adamw, sgd, not 'lion'"),
    "lr = 1.5e-4": ("", "[baseline] and [space] must name the same things, but differ in ['lr']"),
    "batch_size = 8": ("batch_size = true", "batch_size must be a whole number, found True"),
    'weights = "random"': ("", "'weights' is missing"),
}


@pytest.mark.parametrize("found", MISTAKES)
def test_mistakes_in_an_architecture(protocol_folder: Path, found: str) -> None:
    wrong, message = MISTAKES[found]
    path = protocol_folder / "deeplab.toml"
    path.write_text(path.read_text().replace(found, wrong, 1))
    with pytest.raises(UserError, match=r"deeplab\.toml") as caught:
        protocol.load_architecture(protocol_folder, "deeplab")
    assert message in str(caught.value)


def test_what_does_not_exist(protocol_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it holds deeplab, mask2former"):
        protocol.load_architecture(protocol_folder, "segformer")
    with pytest.raises(UserError, match="studies/ holds cityscapes, demo"):
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


def test_space_kinds(protocol_folder: Path) -> None:
    path = protocol_folder / "deeplab.toml"
    path.write_text(path.read_text().replace("[baseline]", "queries = { integer = [10, 30] }\n[was]").split("[was]")[0])
    space = protocol.load_architecture(protocol_folder, "deeplab").space
    assert space["lr"] == Range(1e-4, 1e-2, log=True)
    assert space["queries"] == Range(10, 30, integer=True)


@pytest.fixture
def protocol_folder(protocol: Path) -> Path:  # the fixture's name is the module's here
    return protocol
