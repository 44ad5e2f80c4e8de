"""Manage searches: list them, repair them after a crash, export their numbers, delete them.

python -m segbench.study                                    every study
python -m segbench.study show demo-deeplab                  one study, trial by trial
python -m segbench.study repair                             requeue the trials of processes that died
python -m segbench.study export demo-deeplab --to t.csv     one row per trial; .csv, .parquet or .json
python -m segbench.study export --epochs --to e.parquet     one row per epoch, of every study
python -m segbench.study delete demo-deeplab                a study with its runs, models and checkpoints
python -m segbench.study new NAME --from cityscapes         copy a protocol to studies/NAME, as the start of a new one
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.core import files, paths, templates
from segbench.core.errors import UserError
from segbench.core.study_record import StudyRecord, TrialRecord, TrialState
from segbench.runtime import options, terminal

if TYPE_CHECKING:
    from segbench.ledger.database import StudyStorage

ACTIONS = ("show", "repair", "export", "delete", "new")
SUFFIXES = (".csv", ".parquet", ".json")


def main(argv: list[str] | None = None) -> int:
    """Runs the action. Raises UserError, such as for an unknown study."""
    arguments = _parser().parse_intermixed_args(argv)  # also `delete --yes NAME`
    terminal.configure(arguments)
    if arguments.action == "export":
        _require_destination(arguments.to)
    elif arguments.to or arguments.epochs:
        raise UserError(f"--to and --epochs belong to export, not to {arguments.action}")
    if arguments.action == "new":
        return _new(arguments.name, arguments.copied)
    if arguments.copied:
        raise UserError(f"--from belongs to new, not to {arguments.action}")

    from segbench.core import urls
    from segbench.ledger import database

    where = paths.studies_database(arguments.study_db)
    if not database.is_there(where):
        raise UserError(f"there is no study: {urls.shown(where)} does not exist. Search first: {_SEARCH}")
    storage = database.connect(where)
    if arguments.action == "delete":
        _delete(storage, where, arguments.name, arguments.yes)
        return 0
    names = _names(storage, arguments.name)
    if arguments.action == "show":
        _show(storage, names, bool(arguments.name))
    elif arguments.action == "repair":
        _repair(storage, names)
    else:
        _export(storage, names, arguments.to, arguments.epochs)
    _next(storage, names)
    return 0


_SEARCH = "python -m segbench.search"


def _parser() -> argparse.ArgumentParser:
    parser = terminal.parser(__doc__)
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="show")
    parser.add_argument("name", nargs="?", help="the study; default: all, except for delete")
    parser.add_argument("--to", metavar="FILE", type=Path, help="export: the file to write; its suffix sets the format")
    parser.add_argument("--epochs", action="store_true", help="export: one row per epoch instead of one per trial")
    parser.add_argument("--from", dest="copied", metavar="PROTOCOL", help="new: the protocol to copy, a name or folder")
    parser.add_argument("--yes", action="store_true", help="delete: do not ask")
    options.add_study_db(parser)
    return parser


def _new(name: str | None, copied: str | None) -> int:
    """Copies a protocol. Raises UserError if that fails."""
    if not name or not copied:
        raise UserError("new needs a name and a protocol to copy, as in: new mine --from cityscapes")
    folder = templates.copy(copied, name)
    terminal.say(f"{folder}: a copy of '{copied}'; change its TOML files, then search")
    terminal.next_command(f"{_SEARCH} --protocol {shlex.quote(name)}")
    return 0


def _require_destination(to: Path | None) -> None:
    if to is None or to.suffix not in SUFFIXES:
        hint = f"not {to}" if to else "as in --to trials.csv"
        raise UserError(f"export needs --to FILE with a suffix of {', '.join(SUFFIXES)}, {hint}")
    if not to.parent.is_dir():
        raise UserError(f"cannot write {to}: {to.parent} is not a directory; create it, or give another file with --to")


def _names(storage: StudyStorage, name: str | None) -> list[str]:
    from segbench.ledger import studies

    if name:
        return [name]
    known = studies.names(storage)
    if not known:
        raise UserError(f"there is no study yet. Search first: {_SEARCH}")
    return known


def _show(storage: StudyStorage, names: list[str], by_trial: bool) -> None:
    from segbench.ledger import studies

    records = [studies.record(storage, name) for name in names]
    if by_trial:
        columns = ["trial", "state", records[0].protocol.data.value_name, "epochs", "attempt", "owner"]
        rows = [_trial_row(trial) for trial in records[0].trials]
        terminal.table(records[0].name, columns, rows, right={2, 3, 4})
        return
    values = {record.protocol.data.value_name for record in records}
    best = f"best {values.pop()}" if len(values) == 1 else "best value"
    columns = ["study", "finished", best, "running", "waiting", "failed"]
    terminal.table("studies", columns, [_study_row(study) for study in records], right={2, 4, 5})


def _study_row(study: StudyRecord) -> list[str]:
    from segbench.experiment import search_display
    from segbench.ledger import studies

    best = studies.best(study)
    counts = Counter(trial.state for trial in study.planned)
    waiting, running = counts[TrialState.WAITING], counts[TrialState.RUNNING]
    ended = len(study.planned) - waiting - running
    failed = ended - counts[TrialState.COMPLETE] - counts[TrialState.PRUNED]
    who = ", ".join(sorted({t.owner for t in study.trials if t.state == TrialState.RUNNING}))
    by_trials = study.protocol.search.hours is None
    return [
        study.name,
        f"{ended}/{study.protocol.search.trials}" if by_trials else search_display.used(study),
        f"{best.value:.4f}" if best and best.value is not None else "",
        f"{running}: {who}" if who else str(running),
        str(waiting),
        str(failed),
    ]


def _trial_row(trial: TrialRecord) -> list[str]:
    return [
        "baseline" if trial.baseline else str(trial.index),
        f"{trial.state}: {trial.reason}" if trial.reason else trial.state,
        f"{trial.best_epoch.value:.4f}" if trial.best_epoch else "",
        str(len(trial.epochs)),
        str(trial.attempt),
        trial.owner if trial.state == TrialState.RUNNING else "",
    ]


def _repair(storage: StudyStorage, names: list[str]) -> None:
    import optuna

    from segbench.ledger import queue

    repaired = 0
    for name in names:
        study = optuna.load_study(study_name=name, storage=storage)
        for line in queue.requeue_dead(study):
            repaired += 1
            terminal.say(f"{name}, {line}")
    terminal.say(f"{repaired} {'trial' if repaired == 1 else 'trials'} repaired" if repaired else "nothing to repair")


def _next(storage: StudyStorage, names: list[str]) -> None:
    """Prints the command that resumes the first unfinished study, else promotes the first one that is not promoted,
    else reports."""
    import optuna

    from segbench.ledger import queue

    studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
    known = [study for study in studies if len(study.user_attrs.get("commands", [])) == 2]
    for study in known:
        if queue.unfinished(study) or queue.plans_more(study):
            terminal.next_command(study.user_attrs["commands"][0])
            return
    promotable = [study for study in known if _best_trial(storage, study.study_name) is not None]
    for study in promotable:
        if not _is_promoted(storage, study.study_name):
            terminal.next_command(study.user_attrs["commands"][1])
            return
    if promotable:
        terminal.next_command(_report_command(promotable[0].user_attrs["commands"][1]))


def _best_trial(storage: StudyStorage, name: str) -> TrialRecord | None:
    from segbench.ledger import studies

    return studies.best(studies.record(storage, name))


def _is_promoted(storage: StudyStorage, name: str) -> bool:
    """Whether the study's best trial is promoted with every seed of its protocol."""
    from segbench.ledger import models, studies

    study = studies.record(storage, name)
    best = studies.best(study)
    cards = [model.card for model in models.promoted() if model.card.study_id == study.id]
    seeds = {card.seed for card in cards if best and card.trial == best.index}
    return bool(study.id) and seeds >= set(study.protocol.final.seeds)


def _report_command(promote: str) -> str:
    """The report command for the protocol of the command `promote`."""
    words = shlex.split(promote)
    given = [words[words.index(option) :][:2] for option in ("--protocol", "--study-db") if option in words]
    return shlex.join(["python", "-m", "segbench.report", *(word for pair in given for word in pair)])


def _export(storage: StudyStorage, names: list[str], to: Path, epochs: bool) -> None:
    import pandas as pd

    from segbench.ledger import export, studies

    records = [studies.record(storage, name) for name in names]
    rows = export.epoch_rows(records) if epochs else export.trial_rows(records)
    frame = pd.DataFrame(rows)
    try:
        with files.replaced(to) as partial:
            if to.suffix == ".csv":
                frame.to_csv(partial, index=False)
            elif to.suffix == ".parquet":
                frame.to_parquet(partial, index=False)
            else:
                partial.write_text(json.dumps([_plain(row) for row in rows], indent=2))  # pandas would round
    except OSError as error:
        raise UserError(f"cannot write {to} ({error.strerror}); give another file with --to") from error
    terminal.say(f"{to}: {len(frame)} rows")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """The row with None for NaN and infinity, which JSON does not have."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _delete(storage: StudyStorage, where: str, name: str | None, sure: bool) -> None:
    """Deletes a study, also one of another program, which the other actions refuse."""
    import optuna

    from segbench.ledger import deletion

    known = optuna.get_all_study_names(storage)
    if name not in known:
        what = f"no study '{name}'" if name else "delete needs the name of a study"
        raise UserError(f"{what}; studies: {', '.join(known) or 'none'}")
    with deletion.ready(storage, where, name) as study:
        _ask(name, study.trials, study.folders, sure)
        deleted = deletion.delete(storage, study)
    terminal.say(
        f"deleted study {name}, {deleted.runs} MLflow runs" + "".join(f", {folder}" for folder in deleted.removed)
    )
    for folder in deleted.kept:
        terminal.say(f"kept {folder}: it holds files that are not this study's")


def _ask(name: str, number: int, folders: list[Path], sure: bool) -> None:
    """Raises UserError unless the user agrees."""
    if sure:
        return
    if not sys.stdin.isatty():
        raise UserError(
            f"delete asks for confirmation, but stdin is not a terminal; to delete '{name}' without asking add --yes"
        )
    what = "".join(f", {folder}" for folder in folders)
    try:
        answer = terminal.ask(f"Delete study {name} with its {number} trials, its MLflow runs{what}? [y/N] ")
    except EOFError:  # Ctrl-D
        answer = ""
    if answer.strip().lower() != "y":
        raise UserError(f"study '{name}' was kept")


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
