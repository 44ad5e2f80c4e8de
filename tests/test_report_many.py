"""A report of ten architectures: the sentences, the figures, the page in a browser."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segbench.report import assemble
from segbench.report.figures import cost, theme
from segbench.report.numbers import comparison, ranking, tables
from segbench.report.page import download, render
from segbench.report.page.blocks import Figure, Fold, Page
from segbench.report.sections import ranks
from segbench.report.write import write
from segbench.stats import Interval
from tests import browser
from tests.fabricated import PROTOCOL, fabricate, read

pytestmark = pytest.mark.slow  # its fixtures take ten seconds

pytest_plugins = ["tests.fabricated"]

# Two that cannot be told apart, three close together, and the rest; titles as long as real ones.
TEN = {
    "deeplab": 0.30, "deeplabv3plus": 0.25, "efficientvit-b1": 0.221, "eomt-s": 0.10, "internimage-t": 0.1005,
    "lraspp": 0.40, "mask2former-swin-tiny": 0.13, "mask2former-light": 0.16, "segformer-b0": 0.24,
    "segformer-b2": 0.18,
}  # fmt: skip


def summary(**known: Any) -> tables.Summary:
    """A row of which only this is known."""
    unknown: dict[str, Any] = dict.fromkeys((field.name for field in fields(tables.Summary)), 0)
    return tables.Summary(**{**unknown, "seeds": (0,), **known})


@pytest.fixture(scope="session")
def ten(tmp_path_factory: pytest.TempPathFactory, made_databases: Path) -> Path:
    root = tmp_path_factory.mktemp("ten")
    fabricate(root, made_databases, PROTOCOL, errors=TEN)
    return root


@pytest.fixture(scope="session")
def of_ten(ten: Path) -> comparison.Comparison:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGBENCH_STORAGE", str(ten / "storage"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return read(ten)


@pytest.fixture(scope="session")
def ranked(of_ten: comparison.Comparison) -> ranking.Ranking:
    found = ranking.ranking(tables.summaries(of_ten))
    assert found
    return found


def blocks_of(page: Page) -> list[Any]:
    found = [*page.front, *(block for section in page.sections for block in section.blocks)]
    return found + [inner for block in found if isinstance(block, Fold) for inner in block.blocks]


def test_the_best_and_whom_it_cannot_be_told_apart_from(ranked: ranking.Ranking) -> None:
    assert {row.candidate.name for row in ranked.rows[:2]} == {"eomt-s", "internimage-t"}
    assert ranked.rows[-1].candidate.name == "lraspp"
    assert ranked.chances.sum(0) == pytest.approx(1)
    assert len(ranked.pairs) == 45
    assert [row.candidate.name for row in ranked.undecided] == [ranked.rows[1].candidate.name]
    headline, detail = ranks.verdict(ranked)
    first, second = (row.candidate.title for row in ranked.rows[:2])
    assert headline.startswith(f"{first} has the highest mIoU of the 10 architectures")
    assert headline.endswith(f"cannot be told apart from {second}.")
    assert f"All 45 pairs are compared by a paired bootstrap over the {ranked.images} validation images" in detail
    told = sum(pair.told_apart for pair in ranked.pairs)
    assert f"{told} of them can be told apart" in detail


def with_gaps(ranked: ranking.Ranking, p: float, gap: float) -> ranking.Ranking:
    """The same with another difference of the best two."""
    first, *others = ranked.pairs
    changed = first._replace(difference=Interval(gap, gap - 0.001, gap + 0.001), p=p)
    return replace(ranked, pairs=(changed, *others))


def test_the_headline_follows_the_numbers(ranked: ranking.Ranking) -> None:
    second = ranked.rows[1].candidate.title
    alone = ranks.verdict(with_gaps(ranked, 0.01, 0.05))[0]
    assert alone.endswith(f"5.0 points ahead of {second}.")
    assert "no other reaches the quality" in " ".join(ranks.conclusion(with_gaps(ranked, 0.01, 0.05)))
    close, detail = ranks.verdict(with_gaps(ranked, 0.01, 0.005))
    assert close.endswith(f"but leads {second} by too little to decide.")
    assert f"The images tell {second} apart from it, but by less than 2 points" in detail
    none = replace(ranked, pairs=tuple(pair._replace(p=0.5) for pair in ranked.pairs))
    assert ranks.verdict(none)[0].startswith("None of the 10 architectures can be called the best")
    several = replace(ranked, pairs=(*(p._replace(p=0.5) for p in ranked.pairs[:6]), *ranked.pairs[6:]))
    assert "and 3 others." in ranks.verdict(several)[0]


def changed(compared: comparison.Comparison, change: Callable[[comparison.Model], Any]) -> ranking.Ranking:
    """The ranking if each architecture has the models that `change` makes of its own."""
    candidates = [replace(c, models=tuple(change(c.models[0]))) for c in compared.candidates]
    found = ranking.ranking(tables.summaries(replace(compared, candidates=tuple(candidates))))
    assert found
    return found


def test_whole_cities_are_drawn_where_their_images_are_alike(of_ten: comparison.Comparison) -> None:
    names = tuple(f"c{city}/c{city}_{frame:06}_000019" for city in range(8) for frame in range(3))

    def thrice(model: comparison.Model, names: tuple[str, ...]) -> list[comparison.Model]:
        assert model.confusions is not None
        return [replace(model, confusions=np.repeat(model.confusions, 3, axis=0), names=names)]

    found = changed(of_ten, lambda model: thrice(model, names))
    assert (found.over, found.images) == ("cities", 24)
    assert "whole cities were drawn" in ranks.verdict(found)[1]
    alone = changed(of_ten, lambda model: thrice(model, tuple(map(str, range(24)))))
    assert alone.over == "images"
    assert all(wide.p >= narrow.p for wide, narrow in zip(found.pairs, alone.pairs, strict=True))


def test_seeds_that_differ_tell_none_apart(of_ten: comparison.Comparison) -> None:
    """Two seeds each: where they score alike, images tell pairs apart; where they differ, Student's t does not."""

    def seeds(model: comparison.Model, spread: float) -> list[comparison.Model]:
        best = [replace(model.card.best, miou=model.card.best.miou + sign * spread) for sign in (-1, 1)]
        return [replace(model, card=replace(model.card, best=each)) for each in best]

    alike, apart = (changed(of_ten, lambda model, s=spread: seeds(model, s)) for spread in (0, 0.2))
    assert alike.seeds == apart.seeds == 2
    assert any(pair.told_apart for pair in alike.pairs)
    assert not any(pair.told_apart for pair in apart.pairs)
    assert all(pair.difference.low < 0 < pair.difference.high for pair in apart.pairs)


def test_two_are_still_a_pair(compared: comparison.Comparison) -> None:
    assert ranking.ranking(tables.summaries(compared)) is None


def test_other_images_are_not_ranked(of_ten: comparison.Comparison) -> None:
    first, *others = of_ten.candidates
    moved = replace(first, models=tuple(replace(m, names=(*m.names[1:], "another")) for m in first.models))
    assert ranking.ranking(tables.summaries(replace(of_ten, candidates=(moved, *others)))) is None


def test_rank_table_and_pairs_hold_the_numbers(ranked: ranking.Ranking) -> None:
    table = ranks.table(ranked)
    rows = list(csv.reader(io.StringIO(download.content(table))))
    assert len(rows) == 11
    shares = np.array([[float(cell) for cell in row[-10:]] for row in rows[1:]])
    assert shares == pytest.approx(ranked.chances)
    _, pairs = ranks.comparisons(ranked)
    lines = list(csv.reader(io.StringIO(download.content(pairs))))[1:]
    assert len(lines) == 45
    assert [float(line[2]) for line in lines] == pytest.approx([p.difference.estimate * 100 for p in ranked.pairs])
    assert {line[-1] for line in lines} == {"yes", "no"}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=8))
def test_the_front_is_what_nothing_beats(values: list[tuple[int, int]]) -> None:
    rows = [summary(value=Interval(q / 10, 0, 1), latency_ms=float(c)) for q, c in values]
    front = tables.front(rows, "latency")
    for row, (quality, price) in zip(rows, values, strict=True):
        beaten = any(q >= quality and c <= price and (q, c) != (quality, price) for q, c in values)
        assert (row in front) != beaten
    unknown = summary(value=Interval(1.0, 0, 1), latency_ms=float("nan"))
    assert tables.front([*rows, unknown], "latency") == front


def test_frontier_is_drawn_as_computed(ranked: ranking.Ranking) -> None:
    for measure in cost.COSTS:
        figure = cost.frontier(ranked.rows, measure, 400)
        points = [trace for trace in figure.data if trace.mode == "markers+text"]
        best = tables.front(list(ranked.rows), measure)
        for place, (row, point) in enumerate(zip(ranked.rows, points, strict=True), 1):
            assert (point.x[0], point.y[0]) == (tables.costs(row)[measure], row.miou.estimate)
            assert (point.marker.color == theme.GREY) == (row not in best)
            assert str(place) in point.text[0]
        assert figure.layout.xaxis.type == ("log" if measure not in ("memory", "hours") else "linear")
    known = [replace(ranked.rows[0], gmac=float("nan")), *ranked.rows[1:]]
    assert len([t for t in cost.frontier(known, "gmac", 400).data if t.mode == "markers+text"]) == 9


@pytest.fixture
def at_home(ten: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment names its storage."""
    monkeypatch.setenv("SEGBENCH_STORAGE", str(ten / "storage"))
    monkeypatch.setenv("SEGBENCH_REPORTS", str(ten / "reports"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return ten


@pytest.mark.slow
def test_a_page_of_ten_is_small_and_has_no_legend_of_ten(at_home: Path) -> None:
    page = assemble.page(read(at_home))
    html = render.render(page, "fab")
    assert len(html) < 12e6
    figures = [block for block in blocks_of(page) if isinstance(block, Figure)]
    legends = [plot for figure in figures for plot in figure.plots if len(plot.keys) >= theme.MANY]
    # Points with numbers; parts of an epoch and of the errors, not ten architectures.
    assert {plot.id.split("-")[0] for plot in legends} == {"frontier", "epoch", "errors"}
    outside = re.sub(r"<script>/\*\*.*?</script>", "", html, flags=re.S)  # plotly.js
    ids = re.findall(r' id="([^"]+)"', outside)
    assert len(ids) == len(set(ids))
    scenes = outside[outside.index('<section id="scenes">') :]
    assert scenes.count("data:image/") == 8 * (2 + 10)  # 8 scenes: image, truth and masks; the browser draws the rest


@pytest.mark.slow
def test_a_page_of_ten_in_a_browser(at_home: Path) -> None:
    def look(tab: Any) -> None:
        choose_a_cost(tab)
        choose_two(tab)

    page = write(at_home / "fab", lang="fr")
    browser.inspect(page, look, accessible=[page])


def choose_a_cost(tab: Any) -> None:
    """The frontier against another cost: one figure at a time, drawn when it is chosen."""
    frontier = tab.locator(".choosing", has=tab.locator("#frontier-latency"))
    for index, measure in ((3, "gmac"), (0, "latency")):
        frontier.locator("select").select_option(str(index))
        browser.until(tab, f"!!document.querySelector('#frontier-{measure} .point')")
        assert [plot for plot in frontier.locator(".chart").all() if plot.is_visible()] != []
        assert tab.locator(f"#frontier-{measure}").is_visible()
    assert not tab.locator("#frontier-gmac").is_visible()


def choose_two(tab: Any) -> None:
    """Two of ten models on a scene: the errors of one, then who is right, counted in the pixels that are drawn."""
    tab.locator("#layer-left").select_option("errors-0")
    tab.locator("#layer-right").select_option("mask-3")
    browser.until(tab, "document.querySelector('.over-it').src.startsWith('data:image/png')")
    assert tab.locator("#layer-left optgroup").count() == 3
    tab.locator("#who").check()
    browser.until(tab, "!document.querySelector('.who-keys').hidden")
    browser.until(tab, f"({SHARES})[0] > 0.05")
    only_left, only_right, neither = tab.evaluate(SHARES)
    assert only_right > only_left  # eomt-s gets 10 % wrong, deeplab 30 %
    assert 0.01 < neither < 0.1
    tab.locator("#who").uncheck()


# The shares of the three colours of who is right in the picture that lies over the other.
SHARES = """(() => {
  const picture = document.querySelector('.over-it'), canvas = document.createElement('canvas');
  canvas.width = picture.naturalWidth; canvas.height = picture.naturalHeight;
  const context = canvas.getContext('2d');
  context.drawImage(picture, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const wanted = [...document.querySelectorAll('.who-keys .swatch')].map(s => s.style.getPropertyValue('--swatch'));
  return wanted.map(hex => {
    const rgb = [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
    let count = 0;
    for (let i = 0; i < data.length; i += 4) if (rgb.every((v, k) => data[i + k] === v)) count++;
    return count / (data.length / 4);
  });
})()"""
