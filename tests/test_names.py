"""Names become folders: each is one part of a path, or is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from segbench.core import names, paths
from segbench.core.errors import UserError
from segbench.core.protocol import load, load_architecture
from tests.conftest import write_protocol


@given(st.text() | st.text("a.-_/é ", max_size=8))
@example("..")
@example(".")
@example("")
@example("-rf")
@example(".hidden")
@example("a/b")
@example("glob[1]")
@example("l'été")
@example("[bold]x[/]")
@example("line\n")
@example("\udcff")
@example("x" * 121)
@example("é" * 61)
def test_a_name_is_one_part_of_a_path_or_refused_in_one_line(name: str) -> None:
    if names.refusal(name):
        with pytest.raises(UserError) as caught:
            names.part(name, "study")
        assert len(str(caught.value).encode().splitlines()) == 1  # and it can be encoded, so printed
        return
    part = names.part(name, "study")
    assert part == name
    assert Path("a", part).parent == Path("a")
    assert Path("a", part).resolve().parent == Path("a").resolve()
    assert len(part.encode()) <= names.LONGEST


@given(st.text())
@example("a\nb")
@example("a\0b")
@example("\udcff")
@example("..")
@example("x" * 5000)
def test_any_text_is_a_protocol_or_refused_in_one_line(text: str) -> None:
    try:
        said = str(paths.protocol_folder(text))
    except UserError as error:
        said = str(error)
    assert len(said.encode().splitlines()) == 1


@pytest.mark.parametrize("name", ["cityscapes", "my.protocol-2_b", "été", "路", "2"])
def test_good_names(name: str) -> None:
    assert names.part(name, "protocol") == name


@pytest.mark.parametrize("name", ["..", ".", "../x", "a/b", ""])
def test_no_folder_is_made_from_a_name_that_leads_elsewhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path))
    for folder in (paths.models_folder, paths.trials_folder):
        with pytest.raises(UserError, match="study name"):
            folder(name)


@pytest.mark.parametrize("name", ["it's", "glob[1]", "two words", "-x"])
def test_a_protocol_has_its_folders_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"protocol name .* (may|must)"):
        load(write_protocol(tmp_path / name))


def test_an_architecture_has_its_files_name(protocol: Path) -> None:
    for name in ("../small/deeplab", "", ".."):
        with pytest.raises(UserError, match="architecture name"):
            load_architecture(protocol, name)


@pytest.mark.parametrize("file", ["protocol.toml", "deeplab.toml"])
def test_a_name_is_refused_as_a_key(protocol: Path, file: str) -> None:
    path = protocol / file
    path.write_text('name = "../../x"\n' + path.read_text())
    with pytest.raises(UserError, match=r"unknown key 'name'; the name is the .*'(small|deeplab)': remove that line"):
        load(protocol) if file == "protocol.toml" else load_architecture(protocol, "deeplab")


def test_too_long_a_path_is_one_line() -> None:
    with pytest.raises(UserError, match="no protocol"):
        paths.protocol_folder("x" * 5000)


def test_too_long_folders_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cannot create"):
        paths.writable(Path("x" * 5000), "--out")
    monkeypatch.setenv("CITYSCAPES_DATASET", "x" * 5000)
    with pytest.raises(UserError, match="is not a directory"):
        paths.dataset(None)
