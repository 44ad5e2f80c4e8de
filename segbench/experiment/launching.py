"""Chooses the launcher of a search's workers, their number and their command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from segbench.core.errors import UserError
from segbench.core.protocol import Architecture, Protocol
from segbench.experiment.settings import SearchSettings

if TYPE_CHECKING:
    from segbench.experiment.workers import Launcher

LAUNCHERS = ("local", "ray")
MOST_WORKERS = 1000  # of a search by device-hours, which has no number of trials


def launcher(
    protocol: Protocol,
    architectures: Sequence[Architecture],
    settings: SearchSettings,
    workers: int | None = None,
    gpus: str | None = None,
    kind: str = "local",
) -> Launcher | None:
    """The launcher of `workers` processes, by default one per GPU of `gpus` ("0,1"), that share the trials of these
    searches. None if neither is given: then `searching.run` trains in its own process.

    Raises UserError for more workers than trials, for missing GPUs, and if Ray cannot be used.
    """
    if workers is None and gpus is None:
        if kind != "local":
            raise UserError(f"--launcher {kind}: how many workers? Add --workers N")
        return None
    protocol, architectures = settings.applied(protocol, architectures)
    per_architecture = protocol.search.trials
    trials = MOST_WORKERS if per_architecture is None else len(architectures) * (per_architecture + settings.baseline)
    count = len(gpus.split(",")) if workers is None and gpus is not None else workers or 0
    if not 1 <= count <= trials:
        given = f"--workers is {workers}" if workers is not None else f"--gpus {gpus} means {count} workers"
        most = "" if per_architecture is None else ", as many as there are trials to share"
        raise UserError(f"{given}: expected 1 to {trials}{most}")

    from segbench.experiment import local_launcher

    arguments = settings.worker_arguments(each.name for each in architectures)
    command = [sys.executable, "-m", "segbench.search", "--worker", local_launcher.NUMBER, *arguments]
    if kind == "ray":
        from segbench.experiment import ray_launcher

        return ray_launcher.Ray(command, workers, gpus)
    return local_launcher.Local(command, local_launcher.environments(workers, gpus, settings.device))
