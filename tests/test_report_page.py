"""The report as a page: what stands on it, what is missing, and how it looks in a browser."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from segbench.core import protocol
from segbench.core.errors import UserError
from segbench.core.records import to_json
from segbench.ledger import database
from segbench.report import __main__ as command
from segbench.report import assemble
from segbench.report.numbers import comparison, tables
from segbench.report.page import download, glossary, index, render
from segbench.report.page.blocks import Cell
from segbench.report.sections import sentences
from segbench.report.sections.summary import summary_table
from segbench.report.text import i18n
from tests import browser
from tests.fabricated import HOSTILE, read

pytest_plugins = ["tests.fabricated"]


def html_of(here: Path, language: str = "en") -> str:
    with i18n.speaking(language):
        return render.render(assemble.page(read(here)), "fab")


def test_page_has_everything_and_titles_stay_text(here: Path) -> None:
    html = html_of(here)
    outside = re.sub(r"<script>/\*\*.*?</script>", "", html, flags=re.S)  # plotly.js
    assert "<script>alert" not in outside
    assert "</script><i>" not in outside
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    for island in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', outside, flags=re.S):
        assert "data" in json.loads(island)
        assert "<" not in island
    assert protocol.DRAWN in html
    scenes = outside[outside.index('<section id="scenes">') :]
    assert scenes.count("data:image/") == 8 * 7  # all 8 scenes; image, truth, 2 masks, 2 error maps, who is right
    cases = outside[outside.index('<section id="why">') : outside.index('<section id="cost">')]
    assert cases.count("data:image/") == 6 * 2 * 2 * 4  # kinds of errors, rules, architectures; image, truth, 2 masks
    assert "diverged: loss is nan in epoch 1" in html
    assert "Newest entry in the databases: 2031-05-06 07:08 UTC" in html
    assert html.count("http-equiv") == 1
    assert html.count("plotly.js v") == 1
    assert len(html) < 12e6
    ids = re.findall(r' id="([^"]+)"', outside)
    assert len(ids) == len(set(ids))
    assert outside.count('class="chart"') >= 25
    order = [
        outside.index(f'<section id="{name}">') for name in ("front", "quality", "cost", "search", "scenes", "record")
    ]
    assert order == sorted(order)


def test_tables_are_there_as_csv(compared: comparison.Comparison) -> None:
    summaries = tables.summaries(compared)
    table = summary_table(summaries, tables.pairs(summaries))
    rows = list(csv.reader(io.StringIO(download.content(table))))
    assert len({len(row) for row in rows}) == 1
    assert rows[0][1:4] == [f"Alpha </script><i>net</i>{end}" for end in ("", " low", " high")]
    estimate, low, high = map(float, rows[1][1:4])
    assert low < estimate < high
    assert "%EF%BB%BF" in download.link(table)  # the byte order mark
    assert download.filename(table, "fab") == "fab-summary.csv"
    hostile = replace(table, columns=(Cell("=1+1"),), rows=((Cell("@cmd"),), (Cell('a "quoted", cell'),)))
    assert download.content(hostile) == '\'=1+1\r\n\'@cmd\r\n"a ""quoted"", cell"\r\n'


def test_terms_are_explained_once_a_section() -> None:
    marks = glossary.Terms()
    first, again = marks.mark("The mIoU & the official mIoU."), marks.mark("mIoU `mIoU`")
    assert (
        'The <a class="term" href="#term-miou">mIoU</a> &amp; the <a class="term" href="#term-miou_official">' in first
    )
    assert again == "mIoU <code>mIoU</code>"
    marks.fresh()
    assert "#term-miou" in marks.mark("mIoU")
    with i18n.speaking("fr"):
        assert "#term-interval" in glossary.Terms().mark("un intervalle à 95\u00a0% large")


def test_command_writes_the_same_bytes_and_lists_its_reports(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here / "reports"
    contents = []
    for _ in range(2):
        assert command.main(["--protocol", str(here / "fab")]) == 0
        contents.append([(folder / name).read_bytes() for name in ("fab.html", "index.html")])
    assert contents[0] == contents[1]
    said = capsys.readouterr().out
    assert str(folder / "fab.html") in said
    assert re.search(r"\d\.\d MB", said)
    assert "next:  python -m segbench.predict" in said
    assert command.main(["--protocol", str(here / "fab"), "--lang", "fr"]) == 0
    (folder / "foreign.html").write_text("<p>not ours")
    made = index.reports(folder)
    assert [(report.file, report.language, report.title) for report in made] == [
        ("fab.fr.html", "fr", HOSTILE),
        ("fab.html", "en", HOSTILE),
    ]
    assert made[1].verdict.startswith("Beta segments better")
    assert made[0].verdict.startswith("Beta segmente mieux")
    listed = (folder / "index.html").read_text()
    assert "<script>" not in listed
    assert listed.count('class="entry"') == 2


@pytest.mark.parametrize(
    "spoiled",
    [
        {"models/fab-beta": "python -m segbench.promote beta --protocol fab"},
        {"models": "No architecture is fully trained yet"},
        {
            "models/fab-beta/seed0/confusions.npz": "The per-image confusions of beta",
            "trials": "kept no per-image confusions of its trials",
        },
        {"models/fab-beta/seed0/masks": "mask file missing", "mlflow.db": "no longer has the run of beta"},
        {"cache": "python -m segbench.prepare --protocol fab", "studies.db": ">not searched<"},
    ],
    ids=lambda spoiled: next(iter(spoiled)),
)
def test_what_is_missing_is_said(here: Path, spoiled: dict[str, str]) -> None:
    for name in spoiled:
        path = here / "storage" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        for beside in path.parent.glob(f"{path.name}-*"):
            beside.unlink()  # SQLite's journal
    html = html_of(here)
    assert [said for said in spoiled.values() if said not in html] == []


def test_damaged_card_costs_its_model_not_the_report(here: Path) -> None:
    (here / "storage/models/fab-beta/seed0/card.json").write_text('{"architecture": "be')
    html = html_of(here, "fr")
    assert "La fiche de beta, seed0 n’est pas lisible" in html
    assert "Seul Alpha" in html


def test_unsearched_architecture_and_unfinished_search_say_how_to_go_on(here: Path) -> None:
    shutil.rmtree(here / "storage/models")
    storage = database.connect(here / "storage/studies.db")
    optuna.delete_study(study_name="fab-beta", storage=storage)
    study = optuna.load_study(study_name="fab-alpha", storage=storage)
    asked = to_json(study.user_attrs["protocol"])
    asked["search"]["trials"] = 99
    study.set_user_attr("protocol", asked)
    said = " ".join(sentences.missing(read(here)))
    assert "python -m segbench.search beta --protocol fab" in said
    assert "Alpha </script><i>net</i> has finished 12 of 99 trials" in said
    assert "segbench.promote" not in said  # there is no best trial yet


def test_nothing_at_all_is_an_error_with_the_command(here: Path) -> None:
    shutil.rmtree(here / "storage")
    with pytest.raises(UserError, match=r"nothing to report.*python -m segbench\.search --protocol fab"):
        read(here)


@pytest.mark.slow
def test_neither_help_nor_report_imports_torch(here: Path) -> None:
    heavy = "'torch', 'transformers', 'mlflow', 'optuna', 'plotly', 'pandas', 'jinja2'"
    code = f"""if True:
        import sys
        from segbench.report.__main__ import main
        try: main(['--help'])
        except SystemExit: pass
        assert not {{{heavy}}} & set(sys.modules)
        assert main(['--quiet', '--protocol', sys.argv[1]]) == 0
        assert 'plotly' in sys.modules
        assert not {{'torch', 'torchvision', 'transformers'}} & set(sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code, str(here / "fab")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_page_in_a_browser_in_both_languages(here: Path) -> None:
    def look(tab: Any) -> None:
        assert tab.locator("h1").inner_text() == HOSTILE
        assert "<i>net</i>" in tab.locator("#inference").text_content()
        compare(tab)
        explain(tab)
        unfold(tab)

    for language in i18n.LANGUAGES:
        command.main(["--protocol", str(here / "fab"), "--lang", language])
    files = [here / "reports" / name for name in ("fab.html", "fab.fr.html", "index.html")]
    browser.inspect(files[1], look, accessible=[files[0], files[2]])


def compare(tab: Any) -> None:
    """The scene browser by keyboard alone: another scene, another layer, the divider."""
    shown = tab.locator(".scene.shown h4 small")
    before = shown.inner_text()
    tab.locator(".strip button[aria-pressed=true]").focus()
    tab.keyboard.press("ArrowRight")
    assert shown.inner_text() != before
    assert tab.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    divider = tab.locator("#divider")
    divider.focus()
    tab.keyboard.press("Home")
    assert tab.locator(".over-it").evaluate("image => image.style.clipPath") == "inset(0px 100% 0px 0px)"
    tab.keyboard.press("End")
    assert "0%" in tab.locator(".over-it").evaluate("image => image.style.clipPath")
    tab.locator("#layer-left").select_option("truth")
    assert tab.locator(".over-it").evaluate(
        "image => image.src === document.querySelector('.scene.shown [data-layer=truth]').src"
    )


def unfold(tab: Any) -> None:
    """The claims are in view, and what is folded below them opens."""
    assert tab.locator("#why table").first.is_visible()
    fold = tab.locator("#why details").nth(2)
    chart = fold.locator(".chart").first
    assert not chart.is_visible()
    fold.locator("summary").click()
    assert chart.is_visible()
    assert chart.evaluate("chart => chart.querySelector('.main-svg').clientWidth <= chart.parentElement.clientWidth")
    fold.locator("summary").click()


def explain(tab: Any) -> None:
    """A term's meaning shows while it has the focus, and Escape takes it away."""
    meaning = tab.locator("#meaning")
    tab.locator("a.term").first.focus()
    assert meaning.is_visible()
    assert len(meaning.inner_text()) > 20
    tab.keyboard.press("Escape")
    assert not meaning.is_visible()
