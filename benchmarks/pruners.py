"""Computes what a pruner would have saved in a search that ran without one, and what it would have lost.

    python -m benchmarks.pruners                                every study of the storage
    python -m benchmarks.pruners cityscapes-deeplab --orders 200

The recorded learning curves are replayed epoch by epoch to Optuna's pruners, configured as in `search --pruner`, one
trial after another: in the order of the trials, and in many random orders, since a pruner compares a trial with those
before it. Nothing is trained. As in a search, a pruned trial cannot be promoted.

It does not cover several workers at once, or a sampler that would have learned from other trials. Hyperband chooses a
trial's bracket by the study's name and the trial's number, so the brackets are those of that study.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segbench.core import paths
from segbench.core.errors import UserError
from segbench.core.protocol import PRUNERS, Search
from segbench.core.study_record import StudyRecord, TrialState
from segbench.runtime import terminal

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

Curves = NDArray[np.float64]  # (T, E) mIoU of each trial after each epoch

LEVEL = 0.95
SEED = 0


class Replay(NamedTuple):
    """One pass of a pruner over all trials."""

    saved: float  # 0..1, of the epochs of the search
    lost: float  # best mIoU of all trials minus that of the trials that were not pruned, at least 0


class Spread(NamedTuple):
    """Over the random orders: the mean, and the bounds of 95 % of the orders."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Savings:
    """One row: the effect of one pruner on one search."""

    study: str
    pruner: str
    trials: int  # with a complete learning curve
    left_out: int  # failed ones, which would have failed under a pruner too
    epochs: int  # of each trial
    orders: int
    saved: Spread  # 0..1
    lost: Spread  # mIoU
    best_survived: float  # share of the orders in which a trial with the best mIoU was not pruned
    saved_in_trial_order: float
    lost_in_trial_order: float


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pruners", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="default: every study of the storage")
    parser.add_argument("--orders", type=int, default=1000, metavar="N", help="random orders of the trials; 1000")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the rows as JSON; default: reports/pruners.json")
    arguments = parser.parse_args(argv)
    if arguments.orders < 1:
        raise UserError(f"--orders must be at least 1, not {arguments.orders}")
    out = arguments.out or paths.reports() / "pruners.json"

    from segbench.ledger import database, studies

    storage = database.connect(paths.studies_database())
    chosen = arguments.studies or studies.names(storage)
    if not chosen:
        raise UserError("the storage holds no study. Search first: python -m segbench.search")
    known = [(record, curves_of(record)) for record in (studies.record(storage, name) for name in chosen)]
    rows = [row for record, curves in known for row in _rows(record, curves, arguments.orders)]
    _show(rows)
    try:
        out.write_text(json.dumps([_json(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}); give --out a file you can write") from error
    terminal.say(f"wrote {out}")
    return 0


def curves_of(record: StudyRecord) -> Curves:
    """The learning curves of a study's completed trials by trial, (T, E). The baseline is not part of the search.

    Raises UserError if there is nothing to replay: a pruner was at work already, or fewer than two curves or epochs.
    """
    planned = [trial for trial in record.trials if not trial.baseline]
    if pruned := sum(trial.state == TrialState.PRUNED for trial in planned):
        raise UserError(
            f"study '{record.name}' ran under a pruner: {pruned} of its {len(planned)} trials have no whole learning "
            "curve; replay a study that was searched with --pruner none"
        )
    curves = [[epoch.miou for epoch in trial.epochs] for trial in planned if trial.state == TrialState.COMPLETE]
    lengths = {len(curve) for curve in curves}
    if len(curves) < 2 or len(lengths) != 1 or min(lengths) < 2:
        raise UserError(
            f"study '{record.name}' has {len(curves)} completed trials of {sorted(lengths)} epochs; a replay needs at "
            "least two trials of the same two or more epochs: search on with python -m segbench.search"
        )
    return np.array(curves, np.float64)


def replay(curves: Curves, pruner: BasePruner, name: str) -> Replay:
    """Runs the pruner over the rows of `curves` from first to last, like objective.objective: after every epoch except
    the last. `name`: the study's, which Hyperband uses."""
    import optuna

    sampler = optuna.samplers.RandomSampler(seed=SEED)
    study = optuna.create_study(study_name=name, direction="maximize", pruner=pruner, sampler=sampler)
    epochs = curves.shape[1]
    run, kept = 0, -np.inf
    for curve in curves:
        trial = study.ask()
        for epoch, miou in enumerate(curve.tolist(), start=1):
            trial.report(miou, epoch)
            if epoch < epochs and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            best = float(curve.max())
            study.tell(trial, best)
            kept = max(kept, best)
        run += epoch
    return Replay(1 - run / curves.size, float(curves.max()) - kept)


def savings(curves: Curves, pruner: str, orders: int, name: str, left_out: int = 0) -> Savings:
    """Replays the trial order once and `orders` seeded random orders. pruner: one of protocol.PRUNERS."""
    from segbench.ledger import samplers

    search = Search(trials=len(curves), epochs=curves.shape[1], train_images=1, val_images=1, pruner=pruner)
    generator = np.random.default_rng(SEED)
    # A pruner may have state, so each order gets a new one.
    own = replay(curves, samplers.pruner(search), name)
    found = [replay(generator.permutation(curves), samplers.pruner(search), name) for _ in range(orders)]
    saved, lost = np.array(found).T
    return Savings(
        study=name,
        pruner=pruner,
        trials=len(curves),
        left_out=left_out,
        epochs=curves.shape[1],
        orders=orders,
        saved=_spread(saved),
        lost=_spread(lost),
        best_survived=float(np.mean(lost == 0)),
        saved_in_trial_order=own.saved,
        lost_in_trial_order=own.lost,
    )


def _rows(record: StudyRecord, curves: Curves, orders: int) -> Iterator[Savings]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    left_out = sum(not trial.baseline for trial in record.trials) - len(curves)
    for pruner in PRUNERS:
        if pruner != "none":
            yield savings(curves, pruner, orders, record.name, left_out)


def _spread(values: NDArray[np.float64]) -> Spread:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Spread(float(values.mean()), float(low), float(high))


def _json(row: Savings) -> dict[str, object]:
    return {key: value._asdict() if isinstance(value, Spread) else value for key, value in asdict(row).items()}


def _show(rows: list[Savings]) -> None:
    columns = [
        "study",
        "trials",
        "pruner",
        "epochs saved",
        "best survived",
        "mIoU lost",
        "in trial order",
        "lost",
    ]
    cells = [
        [
            row.study,
            f"{row.trials} × {row.epochs} epochs" + (f", {row.left_out} left out" if row.left_out else ""),
            row.pruner,
            f"{row.saved.mean:.0%} ({row.saved.low:.0%}–{row.saved.high:.0%})",
            f"{row.best_survived:.0%}",
            f"{row.lost.mean:.4f} ({row.lost.low:.4f}–{row.lost.high:.4f})",
            f"{row.saved_in_trial_order:.0%} saved",
            f"{row.lost_in_trial_order:.4f}",
        ]
        for row in rows
    ]
    orders = rows[0].orders
    title = f"Pruners replayed: mean over {orders} random orders of the trials (95 % of the orders)"
    terminal.table(title, columns, cells, right={3, 4, 5, 6, 7})


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
