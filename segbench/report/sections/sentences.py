"""Numbers in sentences: the verdict, its caveats, what is missing, what it amounts to."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segbench.core.protocol import BEST_ON_FINAL, LAST
from segbench.ledger import studies
from segbench.report.numbers import searches
from segbench.report.numbers.checks import Check
from segbench.report.numbers.comparison import Comparison
from segbench.report.numbers.ranking import Ranking
from segbench.report.numbers.tables import SEED_NOISE, PairwiseComparison, Summary, costs, front, ranked
from segbench.report.numbers.tuning import Budgets, Tuning, shared_seconds
from segbench.report.sections import ranks
from segbench.report.text.i18n import (
    class_names,
    clauses,
    duration,
    listed,
    number,
    percent,
    points,
    score,
    signed,
    text,
)


def verdict(
    rows: Sequence[Summary], pairs: Sequence[PairwiseComparison], ranking: Ranking | None = None
) -> tuple[str, str]:
    """The headline, and what it rests on."""
    if not rows:
        return text("verdict.none"), text("verdict.none_detail")
    headline, detail = ranks.verdict(ranking) if ranking else _verdict(rows, pairs)
    return headline, f"{detail} {_kept(rows)}"


def caveats(
    rows: Sequence[Summary],
    pairs: Sequence[PairwiseComparison],
    checks: Sequence[Check],
    ranking: Ranking | None = None,
) -> list[str]:
    """What the verdict does not cover, what may explain it otherwise, and what contradicts it: gravest first."""
    sentences = []
    if ranking:
        sentences += ranks.opposite(ranking, list(pairs))
    elif pairs:
        sentences += [*_opposite(pairs[0]), *_others(pairs[1:])]
    failed = [text(f"checks.{check.key}") for check in checks if check.held is False]
    if failed:
        listing = ", ".join(name[:1].lower() + name[1:] for name in failed)
        sentences.append(text("verdict.unfair", list=listing))
    for row in rows:
        if row.miou.estimate <= row.majority_miou:
            sentences.append(text("verdict.majority", title=row.candidate.title, majority=score(row.majority_miou)))
    if rows:
        seeds = min(len(row.seeds) for row in rows)
        several = "many.several_seeds" if ranking else "verdict.several_seeds"
        sentences.append(text("verdict.one_seed") if seeds == 1 else text(several, seeds=seeds))
    if rows and all(model.card.weights.kind == "random" for row in rows for model in row.candidate.models):
        sentences.append(text("verdict.random"))
    return sentences


def missing(comparison: Comparison) -> list[str]:
    """What has not been run or is lost, each with the command that fixes it."""
    sentences = []
    for candidate in comparison.candidates:
        values = {"title": candidate.title, "name": candidate.name, "options": comparison.options}
        wanted = len(comparison.protocol.final.seeds)
        if candidate.study is None:
            if not candidate.models:
                sentences.append(text("status.not_searched", **values))
        else:
            used = searches.budget(candidate.study)
            if not used.finished:
                sentences.append(searches.said(used, "status.searching", "status.searching_hours", **values))
            best = studies.best(candidate.study)
            if best is None and used.finished:
                sentences.append(text("status.no_trial", **values))
            elif best and used.finished and not candidate.models:
                sentences.append(text("status.not_promoted", best=score(best.value), **values))
        if 0 < len(candidate.models) < wanted:
            sentences.append(text("status.seeds_left", done=len(candidate.models), planned=wanted, **values))
    return sentences + [
        text(f"problems.{problem.key}", options=comparison.options, **problem.values) for problem in comparison.problems
    ]


def by_category(pair: PairwiseComparison) -> str:
    """On which categories the first is better, worse or not distinguishable, by their paired intervals."""
    groups: dict[str, list[str]] = {"better": [], "worse": [], "same": []}
    for name, delta in zip(class_names(pair.first.candidate.labels), pair.iou, strict=True):
        groups["better" if delta.low > 0 else "worse" if delta.high < 0 else "same"].append(name)
    parts = [text(f"quality.{group}", list=listed(names)) for group, names in groups.items() if names]
    return _say("quality.by_category", first=pair.first, second=pair.second, parts=clauses(parts))


def conclusion(
    rows: Sequence[Summary], pairs: Sequence[PairwiseComparison], ranking: Ranking | None = None
) -> list[str]:
    """What the numbers amount to, one sentence each; the last says where it holds."""
    if not rows:
        return [text("conclusion.none")]
    if ranking:
        return ranks.conclusion(ranking)
    if not pairs:
        best = ranked(rows)[0]
        return (
            [_say("conclusion.single", first=best, a=score(best.miou.estimate), majority=score(best.majority_miou))]
            if len(rows) == 1
            else [text("verdict.no_interval_detail")]
        )
    pair = pairs[0]
    a, b = pair.first, pair.second
    card = a.candidate.models[0].card
    sentences = [_quality(pair), text("conclusion.categories", sentence=by_category(pair)), _calibration(a, b)]
    fast, slow = sorted((a, b), key=lambda row: -row.inference_images_per_second)
    sentences.append(_compared("inference", fast, slow, lambda row: row.inference_images_per_second, "fast"))
    quick, long = sorted((a, b), key=lambda row: row.seconds_per_epoch)
    sentences.append(_compared("training", quick, long, lambda row: row.seconds_per_epoch, "fast"))
    small, large = sorted((a, b), key=lambda row: row.parameters)
    if small.parameters < large.parameters:
        sentences.append(_compared("memory", small, large, lambda row: row.parameters / 1e6, "small"))
    sentences.append(_advice(pair, fast, quick))
    size = f"{card.size[0]}×{card.size[1]}"
    return [*sentences, text("conclusion.scope", size=size, epochs=card.epochs)]


def budget(tuned: Sequence[Tuning], budgets: Budgets) -> str:
    """Which search finds more at which budget."""
    if budgets.ahead is None:
        return text("search.expected_tie")
    first = tuned[budgets.ahead].candidate.title
    if budgets.crossover is None or budgets.before is None:
        return text("search.no_crossover", first=first, cost=duration(shared_seconds(tuned)))
    second = tuned[budgets.before].candidate.title
    key = "crossover" if len(tuned) == 2 else "crossover_many"
    return text(f"search.{key}", first=first, second=second, cost=duration(budgets.crossover))


def price(rows: Sequence[Summary]) -> list[str]:
    """What the better of two takes of each cost, as ratios; of more, what is on the front of each cost, what of none.
    Costs that are unknown are left out."""
    names = [name for name in costs(rows[0]) if all(math.isfinite(costs(row)[name]) for row in rows)]
    if len(rows) == 2:
        first, second = ranked(rows)
        pairs = [(c, costs(first)[c], costs(second)[c]) for c in names]
        ratios = [(c, a / b) for c, a, b in pairs if b > 0]
        each = [text("cost.times", ratio=number(r, 2), what=text(f"cost.axis_{c}")) for c, r in ratios]
        key = "dominates" if all(r <= 1 for _, r in ratios) else "price"
        gap = points(first.value.estimate - second.value.estimate)
        return [_say(f"cost.{key}", first=first, second=second, list=listed(each), delta=gap)]
    fronts = {name: front(ranked(rows), name) for name in names}
    sentences = [
        text("cost.front", axis=text(f"cost.panel_{name}"), list=listed([row.candidate.title for row in best]))
        for name, best in fronts.items()
    ]
    beaten = [row.candidate.title for row in ranked(rows) if not any(row in best for best in fronts.values())]
    return [*sentences, text("cost.beaten", list=listed(beaten))] if beaten else sentences


def decided(pair: PairwiseComparison) -> bool:
    """Whether the gap is more than the choice of images explains and, with one seed, than a seed may change."""
    return pair.value.excludes_zero and (pair.seeds > 1 or pair.value.estimate >= SEED_NOISE)


def contradicted(pair: PairwiseComparison) -> bool:
    """Whether the official mIoU puts the other one first, and not by chance in the choice of images. It is no other
    definition of PQ, so it cannot contradict that."""
    return not pair.groups and pair.miou_official.high < 0


def _verdict(rows: Sequence[Summary], pairs: Sequence[PairwiseComparison]) -> tuple[str, str]:
    order = ranked(rows)
    if len(rows) == 1:
        card = order[0].candidate.models[0].card
        headline = _say("verdict.only_one", first=order[0], a=score(order[0].value.estimate), images=card.val_images)
        return headline, text("verdict.only_one_detail")
    if pairs:
        return _decided(pairs[0])
    first, second = order[:2]
    gap = points(first.value.estimate - second.value.estimate)
    values = {"a": score(first.value.estimate), "b": score(second.value.estimate), "delta": gap}
    return _say("verdict.no_interval", first=first, second=second, **values), text("verdict.no_interval_detail")


def _kept(rows: Sequence[Summary]) -> str:
    """What chose the epochs, and what that cost; one model whose epoch the final images chose makes it peeking."""
    cards = [model.card for row in rows for model in row.candidate.models]
    ways = {card.keep for card in cards}
    if BEST_ON_FINAL in ways:
        return text("verdict.flattering")
    if ways == {LAST}:
        return text("verdict.kept_last")
    selection, cost = (max(getattr(c, name) for c in cards) for name in ("selection_images", "images_given_up"))
    return text("verdict.kept_on_selection", selection=selection, cost=cost)


def _decided(pair: PairwiseComparison) -> tuple[str, str]:
    key = "clear" if decided(pair) else "close" if pair.value.excludes_zero else "unclear"
    values = {
        "a": score(pair.first.value.estimate),
        "b": score(pair.second.value.estimate),
        "delta": points(pair.value.estimate),
    }
    ends = {"low": points(pair.value.low), "high": points(pair.value.high)}
    title = pair.first.candidate.title
    detail = text(f"verdict.{key}_detail", first=title, images=pair.images, share=percent(pair.ahead), **ends)
    return _say(f"verdict.{key}", first=pair.first, second=pair.second, **values), f"{detail}{_widest(pair)}"


def _widest(pair: PairwiseComparison) -> str:
    """Over what else than images the interval is, and how many seeds would decide."""
    said = [] if pair.over == "images" else [text(f"verdict.over_{pair.over}")]
    if pair.seeds > 1 and not pair.value.excludes_zero:
        needed = pair.seeds_needed
        said.append(text("verdict.seeds_needed", seeds=needed) if needed else text("verdict.images_needed"))
    return "".join(f" {sentence}" for sentence in said)


def _opposite(pair: PairwiseComparison) -> list[str]:
    if not contradicted(pair):
        return []
    official = pair.miou_official
    values = {"delta": points(-official.estimate), "low": points(-official.high), "high": points(-official.low)}
    return [_say("verdict.opposite", first=pair.first, second=pair.second, **values)]


def _others(pairs: Sequence[PairwiseComparison]) -> list[str]:
    if not pairs:
        return []
    parts = [
        text(
            "verdict.other",
            delta=points(pair.value.estimate),
            title=pair.second.candidate.title,
            low=points(pair.value.low),
            high=points(pair.value.high),
        )
        for pair in pairs
    ]
    return [text("verdict.others", list=listed(parts))]


def _quality(pair: PairwiseComparison) -> str:
    opposite = contradicted(pair)
    key = "quality_opposite" if opposite else "quality" if pair.value.excludes_zero else "quality_tie"
    official = pair.miou_official.estimate
    if pair.groups and key == "quality":
        key = "quality_objects"
    return _say(
        f"conclusion.{key}",
        first=pair.first,
        second=pair.second,
        delta=points(pair.value.estimate),
        low=points(pair.value.low),
        high=points(pair.value.high),
        official=points(-official if opposite else official),
        accuracy=points(pair.pixel_accuracy.estimate),
        miou=signed(pair.miou.estimate),
        **{name: signed(each.estimate) for name, each in pair.groups.items()},
    )


def _calibration(a: Summary, b: Summary) -> str:
    low, high = sorted((a, b), key=lambda row: row.val_nll)
    values = {"a": number(low.val_nll), "b": number(high.val_nll)}
    if values["a"] == values["b"]:
        return text("conclusion.calibration_tie", **values)
    return text("conclusion.calibration", lower=low.candidate.title, **values)


def _compared(key: str, ahead: Summary, behind: Summary, value: object, role: str) -> str:
    assert callable(value)
    a, b = value(ahead), value(behind)
    ratio = number(max(a, b) / min(a, b), 2)
    if ratio == number(1.0, 2) and role == "fast":
        return text(f"conclusion.{key}_tie", a=number(a))
    return text(f"conclusion.{key}", a=number(a), b=number(b), ratio=ratio, **{role: ahead.candidate.title})


def _advice(pair: PairwiseComparison, fast: Summary, quick: Summary) -> str:
    if contradicted(pair):
        return text("conclusion.opposite_choose", fast=fast.candidate.title)
    if not decided(pair):
        return text("conclusion.tie_choose", fast=fast.candidate.title)
    slower = [("cost_inference", fast), ("cost_training", quick)]
    costs = [text(f"conclusion.{key}") for key, ahead in slower if ahead is not pair.first]
    key = "trade" if costs else "dominates"
    return _say(f"conclusion.{key}", first=pair.first, second=pair.second, costs=listed(costs))


def _say(key: str, first: Summary, second: Summary | None = None, **values: object) -> str:
    other = {"second": second.candidate.title} if second else {}
    return text(key, first=first.candidate.title, **other, **values)
