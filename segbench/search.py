"""Search hyperparameters under a protocol, one independent search per architecture.

    python -m segbench.search deeplab
    python -m segbench.search                        every architecture of the protocol, in turn
    python -m segbench.search --data DIR deeplab     the note's protocol on a Cityscapes folder
    python -m segbench.search --gpus 0,1             two workers, one per GPU
    python -m segbench.search --workers 4            four workers, on all GPUs or sharing the CPU's cores

After Ctrl-C, rerun the command to resume. It runs until exactly `trials` trials of each study have ended, or until each
architecture has trained and evaluated for `hours`, all workers together, exact to one epoch.
"""

from __future__ import annotations

import argparse
import signal

from segbench.core.errors import UserError
from segbench.core.protocol import PRUNERS, SAMPLERS
from segbench.experiment import launching, searching
from segbench.experiment.launching import LAUNCHERS
from segbench.experiment.settings import SearchSettings
from segbench.runtime import options, process_group, terminal


def main(argv: list[str] | None = None) -> int:
    """Searches each architecture in turn."""
    arguments = _arguments(argv)
    process_group.refuse("search", "use --workers N instead")
    protocol, architectures = options.read(arguments)
    settings = SearchSettings(
        **options.shared(arguments),
        trials=arguments.trials,
        hours=arguments.hours,
        weights=arguments.weights,
        sampler=arguments.sampler,
        pruner=arguments.pruner,
        baseline=arguments.baseline,
        keep_weights=arguments.keep_weights,
    )
    if arguments.worker is not None:
        from segbench.experiment import local_launcher

        local_launcher.become_worker()
        return 0 if searching.work(protocol, architectures, settings) else 128 + int(signal.SIGTERM)
    workers, gpus, kind = arguments.workers, arguments.gpus, arguments.launcher
    launcher = launching.launcher(protocol, architectures, settings, workers, gpus, kind)
    records = searching.run(protocol, architectures, settings, launcher)
    terminal.say(f"look at the trials: python -m segbench.dashboard{options.repeat_study_db(arguments)}")
    failed = [record for record in records if not searching.can_be_promoted(record)]
    names = [each.name for each, record in zip(architectures, records, strict=True) if record not in failed]
    if names:
        every = not failed and not arguments.architecture
        terminal.next_command(f"python -m segbench.promote{settings.repeat(*([] if every else names))}")
    if failed:
        raise UserError(searching.nothing_to_promote(failed[0], settings))
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = options.parser(__doc__)
    parser.add_argument("--trials", type=int, metavar="N", help="finished trials in total; default: the protocol's")
    parser.add_argument("--hours", type=float, metavar="H", help="device-hours per architecture, instead of trials")
    parser.add_argument("--weights", metavar="WHICH", help="pretrained, random, a state-dict file or a folder")
    options.add_accept_licence(parser)
    parser.add_argument("--sampler", choices=SAMPLERS, help="default: the protocol's, else random")
    parser.add_argument("--pruner", choices=PRUNERS, help="default: the protocol's, else none")
    parser.add_argument("--baseline", action="store_true", help="also run the [baseline] values, beside the plan")
    parser.add_argument(
        "--keep-weights", action="store_true", help="keep every trial's best weights, so that promote can score them"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes that share the trials; default: one")
    parser.add_argument("--gpus", metavar="0,1,…", help="GPUs of the workers; default: all, in turn")
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, default="local", help="what starts the workers; default: local"
    )
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # the number of this worker
    return options.parse(parser, argv)


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
