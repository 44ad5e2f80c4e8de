"""Three or more architectures: who is best and who cannot be told apart from it, the table of ranks, all pairs."""

from __future__ import annotations

import math

from segbench.report.figures import ranks
from segbench.report.figures.theme import MANY
from segbench.report.numbers import tables
from segbench.report.numbers.ranking import Pair, Ranking
from segbench.report.numbers.tables import Summary
from segbench.report.page.blocks import Block, Cell, Table, single
from segbench.report.sections.heads import candidate_cell
from segbench.report.sections.summary import interval_cell
from segbench.report.text.i18n import decimals, listed, number, percent, points, points_range, score, signed, text
from segbench.stats.ranking import RESAMPLES

_NAMED = 3  # so many are named in a sentence; of more, it is said how many there are


def verdict(ranking: Ranking) -> tuple[str, str]:
    """The headline, and what it rests on."""
    best, undecided, count = ranking.best, ranking.undecided, len(ranking.rows)
    tied = [pair.second for pair in ranking.of_best if not pair.told_apart]
    close = [row for row in undecided if row not in tied]
    values = {"first": best.candidate.title, "count": count, "a": score(best.value.estimate)}
    if not undecided:
        gap = ranking.of_best[0]
        values |= {"second": gap.second.candidate.title, "delta": points(gap.difference.estimate)}
        headline = text("many.alone", **values)
    elif len(undecided) == count - 1:
        headline = text("many.none_apart", **values)
    else:
        headline = text(f"many.{'tied' if tied else 'close_best'}", list=_titles(tied or close), **values)
    apart = sum(pair.told_apart for pair in ranking.pairs)
    detail = text("many.detail", images=ranking.images, pairs=len(ranking.pairs), apart=apart, **values)
    if ranking.over != "images":
        detail += " " + text(f"verdict.over_{ranking.over}")
    detail += " " + text("many.first", share=percent(float(ranking.chances[0, 0])), **values)
    return headline, detail + (" " + text("many.close", list=_titles(close)) if close else "")


def conclusion(ranking: Ranking) -> list[str]:
    """What the ranks and the costs amount to, one sentence each; the last says where it holds."""
    rows, best = ranking.rows, ranking.best
    last = rows[-1]
    sentences = [
        text(
            "many.spread",
            first=best.candidate.title,
            last=last.candidate.title,
            delta=points(best.value.estimate - last.value.estimate),
        )
    ]
    fast, small = min(rows, key=lambda row: row.latency_ms), min(rows, key=lambda row: row.parameters)
    sentences.append(_extreme("fastest", fast, fast.latency_ms, best))
    sentences.append(_extreme("smallest", small, small.parameters / 1e6, best))
    sure = min(rows, key=lambda row: row.val_nll)
    sentences.append(text("many.calibration", title=sure.candidate.title, nll=number(sure.val_nll)))
    sentences.append(_choice(ranking))
    card = best.candidate.models[0].card
    return [*sentences, text("conclusion.scope", size=f"{card.size[0]}×{card.size[1]}", epochs=card.epochs)]


def opposite(ranking: Ranking, official: list[tables.PairwiseComparison]) -> list[str]:
    """Whom the official mIoU puts above the best, and not by chance in the choice of images."""
    against = tuple(pair.second for pair in official if not pair.groups and pair.miou_official.high < 0)
    return [text("many.opposite", first=ranking.best.candidate.title, list=_titles(against))] if against else []


def table(ranking: Ranking) -> Table:
    """A row per architecture: score, distance from the best, and the probability of each rank."""
    places = range(1, len(ranking.rows) + 1)
    head = [text("many.architecture"), text("summary.value"), text("many.behind"), text("many.p"), text("many.ranks")]
    columns = (Cell(head[0]), *(Cell(each, number=True) for each in (*head[1:], *map(str, places))))
    pairs = (None, *ranking.of_best)
    rows = tuple(_row(ranking, place, pair) for place, pair in enumerate(pairs))
    seeds = "caption_seeds" if ranking.seeds > 1 else "caption_one_seed"
    caption = f"{text('many.caption', resamples=number(RESAMPLES))} {text(f'many.{seeds}')}"
    return Table("ranks", text("many.title"), columns, rows, caption, dense=len(rows) >= MANY)


def comparisons(ranking: Ranking) -> list[Block]:
    """How far each is behind the best, and all pairs."""
    drawn = ranks.behind_best(ranking)
    title = text("many.distance", title=ranking.best.candidate.title)
    return [single("behind-best", drawn, title, text("many.distance_caption")), _pairs(ranking)]


def _row(ranking: Ranking, place: int, pair: Pair | None) -> tuple[Cell, ...]:
    row = ranking.rows[place]
    behind, p = Cell("", quiet=True), Cell("", quiet=True)
    if pair:
        gap = pair.difference
        ends = f"({points_range(gap)})"
        values = tuple(v * 100 for v in gap)
        behind = Cell(points(gap.estimate), ends, number=True, quiet=not pair.decided, values=values)
        p = Cell(_p(pair.p), number=True, quiet=not pair.told_apart, values=(pair.p,))
    low, high = ranking.ranks[place]
    ranks_ = Cell(str(low) if low == high else text("common.range", low=low, high=high), number=True)
    chances = [_chance(float(share)) for share in ranking.chances[place]]
    return (candidate_cell(row.candidate, place + 1), interval_cell(row.value), behind, p, ranks_, *chances)


def _chance(share: float) -> Cell:
    """Per cent without its sign, in a cell the darker the likelier; nothing where it rounds to 0."""
    shown = "" if math.isnan(share) or share < 0.005 else decimals(share * 100, 0)
    return Cell(shown, number=True, shade=0.0 if math.isnan(share) else share, values=(share,))


def _pairs(ranking: Ranking) -> Table:
    """Row minus column, in points. The CSV has a line per pair, with its interval and p."""
    known = {(pair.first.candidate.name, pair.second.candidate.name): pair for pair in ranking.pairs}
    rows = []
    for place, row in enumerate(ranking.rows):
        cells = [candidate_cell(row.candidate, place + 1)]
        for other in ranking.rows:
            pair = known.get((row.candidate.name, other.candidate.name))
            back = known.get((other.candidate.name, row.candidate.name))
            cells.append(_gap(pair, 1) if pair else _gap(back, -1) if back else Cell(""))
        rows.append(tuple(cells))
    columns = (Cell(text("many.architecture")), *(Cell(str(i + 1), number=True) for i in range(len(rows))))
    lines = tuple(_line(pair) for pair in ranking.pairs)
    heads = tuple(Cell(text(f"many.{key}")) for key in ("better", "worse", "difference", "p", "apart"))
    title, caption = text("many.pairs_title"), text("many.pairs_caption", pairs=len(lines))
    return Table("pairs", title, columns, tuple(rows), caption, dense=True, csv_rows=lines, csv_columns=heads)


def _gap(pair: Pair, sign: int) -> Cell:
    return Cell(signed(sign * pair.difference.estimate), number=True, best=pair.decided, quiet=not pair.told_apart)


def _line(pair: Pair) -> tuple[Cell, ...]:
    difference = Cell("", values=tuple(v * 100 for v in pair.difference))
    titles = (Cell(pair.first.candidate.title), Cell(pair.second.candidate.title))
    return (*titles, difference, Cell("", values=(pair.p,)), Cell(text(f"many.{'yes' if pair.told_apart else 'no'}")))


def _p(value: float) -> str:
    """Two decimals; what is smaller says so: the smallest that can be found depends on the number of resamples."""
    return f"<\u00a0{decimals(0.01, 2)}" if value < 0.01 else decimals(value, 2)


def _choice(ranking: Ranking) -> str:
    """Among those that quality does not decide between, cost may: the fastest."""
    best, equals = ranking.best, (ranking.best, *ranking.undecided)
    fast = min(equals, key=lambda row: row.latency_ms)
    if len(equals) == 1:
        return text("many.choose_best", first=best.candidate.title)
    values = {"title": fast.candidate.title, "a": number(fast.latency_ms), "first": best.candidate.title}
    key = "choose_same" if fast is best else "choose_fast"
    return text(f"many.{key}", b=number(best.latency_ms), **values)


def _extreme(key: str, row: Summary, value: float, best: Summary) -> str:
    gap = best.value.estimate - row.value.estimate
    if row is best:
        return text(f"many.{key}_best", title=row.candidate.title, value=number(value))
    return text(f"many.{key}", title=row.candidate.title, value=number(value), delta=points(gap))


def _titles(rows: tuple[Summary, ...] | list[Summary]) -> str:
    titles = [row.candidate.title for row in rows]
    if len(titles) <= _NAMED + 1:
        return listed(titles)
    return listed([*titles[:_NAMED], text("many.others", count=len(titles) - _NAMED)])
