"""The whole page: the verdict, then one section each for quality, its reasons, cost, search, scenes and provenance."""

from __future__ import annotations

from segbench.report.figures.theme import MANY
from segbench.report.numbers import checks, measures, panoptic, pixels, tables
from segbench.report.numbers.comparison import Comparison
from segbench.report.numbers.ranking import Ranking, ranking
from segbench.report.numbers.tables import PairwiseComparison, Summary
from segbench.report.page.blocks import Block, Glossary, Page, Points, Prose, Section
from segbench.report.sections import cost, quality, ranks, record, scenes, search, sentences, why
from segbench.report.sections.summary import summary_table
from segbench.report.text.i18n import glossary, language, text


def page(comparison: Comparison) -> Page:
    """The whole report."""
    rows = tables.summaries(comparison)
    pairs, ranked = tables.pairs(rows), ranking(rows)
    fairness = checks.checks(comparison)
    val = pixels.split(comparison)
    borders, ceiling = pixels.borders(comparison, val), pixels.ceiling(comparison, val)
    sections = (
        quality.section(comparison, rows, pairs, ranked, borders, ceiling, panoptic.ceilings(comparison, val)),
        why.section(comparison, measures.read(comparison), val),
        cost.section(rows),
        search.section(comparison),
        scenes.section(comparison, rows, val),
        record.section(comparison, fairness),
        _glossary(),
    )
    return Page(
        title=comparison.protocol.title,
        kicker=text("page.kicker"),
        language=language(),
        banner=text("page.drawn") if comparison.protocol.drawn else "",
        verdict=sentences.verdict(rows, pairs, ranked),
        front=front(comparison, rows, pairs, ranked, fairness),
        sections=sections,
        newest=comparison.newest,
        footer=text("page.footer", newest=comparison.newest, protocol=comparison.protocol.name),
    )


def front(
    comparison: Comparison,
    rows: list[Summary],
    pairs: list[PairwiseComparison],
    ranked: Ranking | None,
    fairness: list[checks.Check],
) -> tuple[Block, ...]:
    """What follows the verdict: what is missing, the tables, what they amount to, what to know before quoting them. The
    summary of many architectures is in the sections of quality and cost."""
    blocks: list[Block] = []
    missing = sentences.missing(comparison)
    if missing:
        blocks.append(Prose((text("status.title"), *missing), tone="warning"))
    if rows:
        blocks += [ranks.table(ranked)] if ranked else []
        blocks += [summary_table(rows, pairs)] if len(rows) < MANY else []
        conclusion, caveats = sentences.conclusion, sentences.caveats
        blocks.append(Points(tuple(conclusion(rows, pairs, ranked)), text("summary.amounts"), half=True))
        blocks.append(Points(tuple(caveats(rows, pairs, fairness, ranked)), text("summary.caveats"), half=True))
    return tuple(blocks)


def _glossary() -> Section:
    entries = Glossary(tuple((key, term, means) for key, (term, means) in glossary().items()))
    return Section("glossary", text("glossary_section.title"), text("glossary_section.short"), (entries,))
