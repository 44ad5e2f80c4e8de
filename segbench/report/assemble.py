"""The whole page: the verdict, then one section each for quality, its reasons, cost, search, scenes and provenance."""

from __future__ import annotations

from segbench.report.numbers import checks, measures, pixels, tables
from segbench.report.numbers.comparison import Comparison
from segbench.report.numbers.tables import PairwiseComparison, Summary
from segbench.report.page.blocks import Block, Glossary, Page, Points, Prose, Section
from segbench.report.sections import cost, quality, record, scenes, search, sentences, why
from segbench.report.sections.summary import summary_table
from segbench.report.text.i18n import glossary, language, text


def page(comparison: Comparison) -> Page:
    """The whole report."""
    rows = tables.summaries(comparison)
    pairs = tables.pairs(rows)
    fairness = checks.checks(comparison)
    val = pixels.split(comparison)
    borders, ceiling = pixels.borders(comparison, val), pixels.ceiling(comparison, val)
    sections = (
        quality.section(comparison, rows, pairs, borders, ceiling),
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
        verdict=sentences.verdict(rows, pairs),
        front=front(comparison, rows, pairs, fairness),
        sections=sections,
        newest=comparison.newest,
        footer=text("page.footer", newest=comparison.newest, protocol=comparison.protocol.name),
    )


def front(
    comparison: Comparison, rows: list[Summary], pairs: list[PairwiseComparison], fairness: list[checks.Check]
) -> tuple[Block, ...]:
    """What follows the verdict: what is missing, the table, what it amounts to, what to know before quoting it."""
    blocks: list[Block] = []
    missing = sentences.missing(comparison)
    if missing:
        blocks.append(Prose((text("status.title"), *missing), tone="warning"))
    if rows:
        blocks.append(summary_table(rows, pairs))
        blocks.append(Points(tuple(sentences.conclusion(rows, pairs)), text("summary.amounts"), half=True))
        blocks.append(Points(tuple(sentences.caveats(rows, pairs, fairness)), text("summary.caveats"), half=True))
    return tuple(blocks)


def _glossary() -> Section:
    entries = Glossary(tuple((key, term, means) for key, (term, means) in glossary().items()))
    return Section("glossary", text("glossary_section.title"), text("glossary_section.short"), (entries,))
