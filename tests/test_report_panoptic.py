"""The report of a panoptic protocol: compared by PQ, objects apart from stuff, with what limits them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segbench.core import panoptic as facts
from segbench.core import paths
from segbench.core.labels import DEFAULT
from segbench.core.panoptic import PANOPTIC, SPAN, VOID
from segbench.data import layouts, packing, segment_files
from segbench.report import assemble
from segbench.report.numbers import panoptic, pixels, ranking, tables
from segbench.report.numbers.comparison import Candidate, Comparison
from segbench.report.page.blocks import Figure, Gallery, Prose, Table
from segbench.report.sections import sentences
from segbench.report.text import i18n
from segbench.stats import components
from segbench.stats import panoptic as statistics
from tests.fabricated import read

pytest_plugins = ["tests.fabricated"]

Found = NDArray[np.int64]
THINGS, STUFF = facts.things(DEFAULT), facts.stuff(DEFAULT)


def counts(truths: Found, found: Found) -> statistics.Counts:
    parts = [
        statistics.counts(statistics.overlap(true, each, np.maximum(each // SPAN, 0)), 1, true.size, DEFAULT)
        for true, each in zip(truths, found, strict=True)
    ]
    return statistics.Counts.joined(parts)


def as_panoptic(
    one: Candidate, truths: Found, found: Found, data: packing.Dataset, name: str, **model: Any
) -> Candidate:
    """The fabricated candidate with these segments, under another name."""
    (own,) = one.models
    segments = counts(truths, found)
    quality = statistics.quality(segments, DEFAULT)
    epochs = tuple(replace(epoch, panoptic=quality) for epoch in own.epochs)
    card = replace(own.card, task=PANOPTIC, model=model, architecture=name, best=epochs[-1], last=epochs[-1])
    card = replace(card, cache=data.folder.name, data_fingerprint=data.fingerprint)
    models = (replace(own, card=card, segments=segments, epochs=epochs),)
    return replace(one, name=name, models=models, trial_runs={})  # its search was a semantic one


@pytest.fixture
def panoptically(here: Path, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """Alpha has found most objects; taught classes alone, it has components of the true classes."""
    monkeypatch.setenv("CITYSCAPES_DATASET", str(here / "data"))
    compared = read(here)
    protocol = replace(compared.protocol, data=replace(compared.protocol.data, task=PANOPTIC))
    layout = layouts.of(protocol.data)
    data = packing.prepare(here / "data", protocol.data.size, paths.cache(), layout=layout)
    assert data.val.instances is not None
    raw, plane = (np.stack([rows[i] for i in range(len(data.val))]) for rows in (data.val.labels, data.val.instances))
    truths = facts.truth(raw, plane, DEFAULT)
    found = np.where((truths % SPAN > 0) & (truths % 3 == 0), VOID, truths)  # every third object is missed
    touching = components(np.array(DEFAULT.class_of_raw)[raw], DEFAULT)
    alpha, beta = compared.candidates
    candidates = (
        as_panoptic(alpha, truths, found, data, "alpha"),
        as_panoptic(beta, truths, touching, data, "alpha@classes", segments=False),
    )
    for name, each in zip(data.val.names, found, strict=True):
        path = candidates[0].models[0].folder / "segments" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        segment_files.coco_picture(each).save(path)
    return replace(compared, protocol=protocol, candidates=candidates)


def test_it_is_compared_by_pq(panoptically: Comparison) -> None:
    rows = tables.summaries(panoptically)
    alpha = rows[0].candidate
    total = alpha.counted[0].segments.sum(0)
    assert rows[0].value.estimate == pytest.approx(float(statistics.pq((*THINGS, *STUFF))(total)))
    assert rows[0].groups["pq_things"].estimate == pytest.approx(float(statistics.pq(THINGS)(total)))
    assert rows[0].groups["pq_stuff"].estimate == pytest.approx(1)
    assert rows[0].miou.estimate != rows[0].value.estimate
    (pair,) = tables.pairs(rows)
    assert pair.first.candidate is tables.ranked(rows)[0].candidate
    assert pair.value.estimate == pytest.approx(pair.first.value.estimate - pair.second.value.estimate)
    assert not sentences.contradicted(replace(pair, miou_official=pair.miou_official._replace(high=-0.1)))
    with i18n.measuring("PQ"):
        headline, _ = sentences.verdict(rows, [pair])
        assert "PQ" in headline
        assert "mIoU" not in headline
        assert "on things" in sentences.conclusion(rows, [pair])[0] or not pair.value.excludes_zero


def test_components_have_the_ceiling_of_components(panoptically: Comparison) -> None:
    """What was given the true classes reaches it exactly: ceiling and candidate are counted apart."""
    val = pixels.split(panoptically)
    ceilings = panoptic.ceilings(panoptically, val)
    assert ceilings is not None
    reached = panoptic.quality(panoptically.candidates[1], THINGS).pq
    assert ceilings.of(ceilings.components, THINGS) == pytest.approx(reached.estimate)
    assert ceilings.size is not None, "these streets were packed at their own size, so nothing is lost"
    assert ceilings.of(ceilings.size, (*THINGS, *STUFF)) == pytest.approx(1)


def test_the_page_says_what_panoptic_protocols_add(panoptically: Comparison) -> None:
    with i18n.measuring("PQ"):
        page = assemble.page(panoptically)
        terms = i18n.glossary()
    assert {"pq", "segment", "things"} <= set(terms)
    assert "pq" not in i18n.glossary()
    blocks = {getattr(block, "id", getattr(block, "title", "")): block for s in page.sections for block in s.blocks}
    table = blocks["panoptic"]
    assert isinstance(table, Table)
    names = [row[0].text for row in table.rows]
    assert names == ["All", "Things", "Stuff", *(DEFAULT.names[i] for i in (*THINGS, *STUFF)), "iIoU of things"]
    assert table.rows[2][1].values[0] == pytest.approx(1)
    assert len(table.columns) == 5, "two architectures, two ceilings"
    price = blocks["panoptic-price"]
    assert isinstance(price, Table)
    difference = price.rows[0][3].values[0]
    mious = [tables.summaries(panoptically)[i].miou.estimate for i in (0, 1)]
    assert difference == pytest.approx(100 * (mious[0] - mious[1]))
    assert any(isinstance(b, Prose) and "Learning objects costs" in b.paragraphs[0] for b in page.sections[0].blocks)
    found = blocks["Objects found, by size"]
    assert isinstance(found, Figure)
    assert len(found.plots[0].figure.data) == 2
    gallery = next(b for s in page.sections for b in s.blocks if isinstance(b, Gallery))
    keys = {picture.key for scene in gallery.scenes for picture in scene.pictures}
    assert {"objects", "objects-0"} <= keys
    assert "objects-1" not in keys, "its files are not there"


def test_a_third_of_the_objects_is_missed_whatever_their_size(panoptically: Comparison) -> None:
    alpha = panoptically.candidates[0]
    shares = panoptic.found(alpha)
    sizes = panoptic.objects(alpha)
    assert len(shares) == len(sizes) == 5
    found = sum(share.estimate * number for share, number in zip(shares, sizes, strict=True) if number)
    counted = alpha.counted[0].segments.sum(0)[list(THINGS)]
    assert found == pytest.approx(counted[:, 1].sum())
    assert sizes.sum() == counted[:, 1].sum() + counted[:, 3].sum()


def test_only_comparable_trainings_have_a_price(panoptically: Comparison) -> None:
    (price,) = panoptic.prices(panoptically)
    assert (price.segments.name, price.classes.name) == ("alpha", "alpha@classes")
    one, other = panoptically.candidates
    for changed in (
        replace(other, name="beta@classes"),
        replace(other, models=(replace(other.models[0], names=("another",)),)),
        replace(other, models=(replace(other.models[0], segments=None),)),
    ):
        assert panoptic.prices(replace(panoptically, candidates=(one, changed))) == []


def test_three_are_ranked_by_pq(panoptically: Comparison) -> None:
    one, other = panoptically.candidates
    three = replace(panoptically, candidates=(one, other, replace(one, name="gamma", index=2)))
    ranked = ranking.ranking(tables.summaries(three))
    assert ranked is not None
    best = max((one, other), key=lambda c: panoptic.quality(c, (*THINGS, *STUFF)).pq.estimate)
    assert ranked.rows[0].candidate.name == best.name or best is one
