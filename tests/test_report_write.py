"""From the storage to the file: which models count, what is written, what is suggested."""

import errno
import shutil
from pathlib import Path

import pytest

from segbench.core import files, names, paths
from segbench.core.errors import UserError
from segbench.ledger import models
from segbench.report import __main__ as command
from segbench.report.numbers import comparison, tables
from segbench.report.sections import sentences
from segbench.report.write import write
from tests.conftest import write_protocol
from tests.fabricated import fabricate, read

pytest_plugins = ["tests.fabricated"]


def test_an_unfinished_promotion_is_no_seed(here: Path) -> None:
    before = tables.summaries(read(here))
    own, other = (here / "storage/models" / study / "seed0" for study in ("fab-beta", "fab-alpha"))
    for left in ("seed0.partial", "seed0.old", "seed0-copy", "seeds"):
        shutil.copytree(other, own.with_name(left))
    assert [(row.seeds, row.miou) for row in tables.summaries(read(here))] == [(row.seeds, row.miou) for row in before]
    assert models.cards(own.parent) == [own / "card.json"]


def test_seeds_are_in_order_of_their_number(here: Path) -> None:
    own = here / "storage/models/fab-beta/seed0"
    for seed in (10, 9):
        shutil.copytree(own, own.with_name(f"seed{seed}"))
    assert [path.parent.name for path in models.cards(own.parent)] == ["seed0", "seed9", "seed10"]


@pytest.mark.parametrize("name", ["glob[1]", "a*", "l'été"])
def test_models_are_found_whatever_the_protocol_is_called(here: Path, name: str) -> None:
    source = here / "storage/models/fab-beta"
    folder = shutil.copytree(source, here / "storage/models" / f"{name}-beta", dirs_exist_ok=True)
    card = folder / "seed0/card.json"
    card.write_text(card.read_text().replace('"protocol": "fab"', f'"protocol": "{name}"'))
    assert card.parent in [model.folder for model in models.promoted(name)]
    assert {model.card.protocol for model in models.promoted(name)} == {name}


def test_an_unreadable_card_costs_its_model_only(here: Path) -> None:
    broken = here / "storage/models/fab-beta/seed0"
    (broken / "card.json").write_text("{")
    listing = models.listing()
    assert [model.card.study for model in listing.promoted] == ["fab-alpha"]
    assert listing.unreadable == [broken]
    assert models.listing("another").unreadable == []


def test_a_card_of_a_protocol_whose_name_only_begins_alike_is_not_asked_for(here: Path) -> None:
    foreign = shutil.copytree(here / "storage/models/fab-beta", here / "storage/models/fab-2-gamma")
    (foreign / "seed0/card.json").write_text("{")
    assert read(here).problems == ()


def test_a_full_disk_leaves_the_old_page_and_nothing_else(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write(here / "fab")
    before, old = sorted(page.parent.iterdir()), page.read_bytes()

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"cannot write .*fab\.html \(No space left on device\); give another file"):
        write(here / "fab")
    assert sorted(page.parent.iterdir()) == before
    assert not [path for path in page.parent.iterdir() if path.name.endswith(files.UNFINISHED)]
    assert page.read_bytes() == old


@pytest.mark.parametrize("out", ["", ".", "taken"])
def test_out_must_be_a_file(here: Path, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    Path("taken").mkdir()
    with pytest.raises(UserError, match=r"--out"):
        command.main(["--protocol", "fab", "--out", out])
    assert list(Path("taken").iterdir()) == []


def test_writing_is_silent_and_gives_the_file(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert write(here / "fab", lang="fr") == paths.reports() / "fab.fr.html"
    assert write(str(here / "fab"), out=here / "x/page.html") == here / "x/page.html"
    assert capfd.readouterr() == ("", "")
    with pytest.raises(UserError, match="no language 'de': the report speaks en, fr"):
        write(here / "fab", lang="de")


_LONGER = [pytest.param(name, marks=pytest.mark.slow) for name in ("a--b..c", "é" * 50)]


@pytest.mark.parametrize("name", ["été.路-2_b", *_LONGER, "two words", "[b]", "-x", "\udcff"])
def test_any_name_is_refused_in_one_line_or_reported(
    name: str, tmp_path: Path, made_databases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("SEGBENCH_REPORTS", str(tmp_path / "reports"))
    if names.refusal(name):
        write_protocol(tmp_path / name)
        with pytest.raises(UserError) as caught:
            write(tmp_path / name)
        assert len(str(caught.value).encode().splitlines()) == 1
        return
    fabricate(tmp_path, made_databases, name=name)
    page = write(tmp_path / name)
    assert page == tmp_path / "reports" / f"{name}.html"
    assert f"{name}-alpha" in page.read_text(encoding="utf-8")


def test_suggested_commands_can_be_typed(here: Path) -> None:
    folder = here / "two words; $(date)" / "fab"
    folder.parent.mkdir()
    shutil.copytree(here / "fab", folder)
    shutil.rmtree(here / "storage/models/fab-beta")
    database = here / "storage/studies.db"
    read_ = comparison.read(folder, str(folder), str(database))
    options = f"--protocol '{folder}' --study-db {database}"
    assert f"python -m segbench.promote beta {options}`" in " ".join(sentences.missing(read_))
