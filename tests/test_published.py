"""Scores from the literature: [published] of an architecture's file, and where the report sets ours beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from segbench.core import protocol
from segbench.core.errors import UserError
from segbench.core.protocol import Published
from segbench.report.numbers import comparison, tables
from segbench.report.sections import summary
from segbench.report.text import i18n
from tests.fabricated import read

pytest_plugins = ["tests.fabricated"]

TABLE = '\n[published]\nmiou = 0.8009\nsource = "somewhere, with 4 GPUs"\n'


def with_table(folder: Path, name: str, table: str) -> None:
    path = folder / f"{name}.toml"
    path.write_text(path.read_text(encoding="utf-8") + table, encoding="utf-8")


def test_it_is_read_and_changes_no_fingerprint(here: Path) -> None:
    loaded, before = protocol.load(here / "fab"), protocol.load_architecture(here / "fab", "beta")
    assert before.published is None
    with_table(here / "fab", "beta", TABLE)
    after = protocol.load_architecture(here / "fab", "beta")
    assert after.published == Published(0.8009, "somewhere, with 4 GPUs")
    assert protocol.fingerprint(loaded, after) == protocol.fingerprint(loaded, before)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("[published]\nmiou = 80.1\nsource = 'a'", r"beta.toml: \[published\]: miou is a share, 0..1, such as 0.801"),
        ("[published]\nmiou = 0.8\nsource = ' '", r"\[published\]: source must say where"),
        ("[published]\nmiou = 0.8", r"\[published\]: 'source' is missing"),
        ("[published]\nmiuo = 0.8\nsource = 'a'", r"unknown key 'miuo'; did you mean 'miou'"),
    ],
)
def test_mistakes_are_one_line(here: Path, table: str, words: str) -> None:
    with_table(here / "fab", "beta", f"\n{table}\n")
    with pytest.raises(UserError, match=words) as found:
        protocol.load_architecture(here / "fab", "beta")
    assert "\n" not in str(found.value)


def test_the_report_sets_ours_beside_it(here: Path) -> None:
    with_table(here / "fab", "beta", TABLE)
    known = comparison.published(here / "fab", "beta")
    assert known == Published(0.8009, "somewhere, with 4 GPUs")
    alpha, beta = tables.summaries(read(here))
    assert beta.candidate.published is None  # the streets are drawn
    beta = replace(beta, candidate=replace(beta.candidate, published=known))
    rows = [alpha, beta]
    for lang, label, point in (("en", "mIoU in the literature", "."), ("fr", "mIoU de la littérature", ",")):
        with i18n.speaking(lang):
            made = summary.summary_table(rows, tables.pairs(rows))
        row = next(cells for cells in made.rows if cells[0].text == label)
        assert [cell.text for cell in row[1:]] == ["—", f"0{point}801", ""]
        with i18n.speaking(lang):
            assert i18n.signed(beta.miou.estimate - 0.8009) in row[2].note
        assert "somewhere, with 4 GPUs" in made.caption


def test_without_one_the_report_is_as_it_was(compared: comparison.Comparison, here: Path) -> None:
    rows = tables.summaries(compared)
    made = summary.quality_table(rows)
    assert "literature" not in made.caption
    known = [replace(row, candidate=replace(row.candidate, published=Published(0.5, "a"))) for row in rows]
    assert len(summary.quality_table(known).columns) == len(made.columns) + 1
    (here / "fab" / "beta.toml").unlink()
    assert comparison.published(here / "fab", "beta") is None
