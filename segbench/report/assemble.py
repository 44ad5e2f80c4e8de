"""The whole page: the verdict, then one section each for quality, cost, search, scenes and provenance."""

from __future__ import annotations

from segbench.report.numbers import checks, pixels, tables
from segbench.report.numbers.comparison import Comparison
from segbench.report.numbers.tables import PairwiseComparison, Summary
from segbench.report.page.blocks import Block, Glossary, Page, Points, Prose, Section
from segbench.report.sections import cost, quality, record, scenes, search, sentences
from segbench.report.sections.summary import summary_table
from segbench.report.text.i18n import glossary, language, text


def page(ledgers: Comparison) -> Page:
    """The whole report."""
    rows = tables.summaries(ledgers)
    comparisons = tables.comparisons(rows)
    found = checks.checks(ledgers)
    val = pixels.split(ledgers)
    borders, ceiling = pixels.borders(ledgers, val), pixels.ceiling(ledgers, val)
    sections = (
        quality.section(ledgers, rows, comparisons, borders, ceiling),
        cost.section(rows),
        search.section(ledgers),
        scenes.section(ledgers, rows, val),
        record.section(ledgers, found),
        _glossary(),
    )
    return Page(
        title=ledgers.protocol.title,
        kicker=text("page.kicker"),
        language=language(),
        banner=text("page.drawn") if ledgers.protocol.drawn else "",
        verdict=sentences.verdict(rows, comparisons),
        front=front(ledgers, rows, comparisons, found),
        sections=sections,
        newest=ledgers.newest,
        footer=text("page.footer", newest=ledgers.newest, protocol=ledgers.protocol.name),
    )


def front(
    ledgers: Comparison, rows: list[Summary], comparisons: list[PairwiseComparison], found: list[checks.Check]
) -> tuple[Block, ...]:
    """What follows the verdict: what is missing, the table, what it amounts to, what to know before quoting it."""
    blocks: list[Block] = []
    missing = sentences.missing(ledgers)
    if missing:
        blocks.append(Prose((text("status.title"), *missing), tone="warning"))
    if rows:
        blocks.append(summary_table(rows, comparisons))
        blocks.append(Points(tuple(sentences.conclusion(rows, comparisons)), text("summary.amounts"), half=True))
        blocks.append(Points(tuple(sentences.caveats(rows, comparisons, found)), text("summary.caveats"), half=True))
    return tuple(blocks)


def _glossary() -> Section:
    entries = Glossary(tuple((key, term, means) for key, (term, means) in glossary().items()))
    return Section("glossary", text("glossary_section.title"), text("glossary_section.short"), (entries,))
