"""Look at the trainings in MLflow's pages.

    python -m segbench.runs --open
    python -m segbench.runs --run ID          one run's page; the ID is in the trial's note in the dashboard

One experiment per protocol holds one run per study, which holds the runs of its trials and promotions. The pages are
served to this machine only. If MLFLOW_TRACKING_URI is set, the runs are on that server, and this command only says so.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from segbench.core import paths
from segbench.core.errors import UserError
from segbench.ledger import tracking
from segbench.runtime import local_server, options, terminal

if TYPE_CHECKING:
    from mlflow import MlflowClient

PORT = 5000  # MLflow's own


def main(argv: list[str] | None = None) -> int:
    """Serves MLflow's pages until Ctrl-C. Raises UserError if there is no run."""
    parser = local_server.parser(__doc__, PORT)
    parser.add_argument("--run", metavar="ID", help="the run whose page to show")
    arguments = options.parse(parser, argv)
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        print(f"the runs are at MLFLOW_TRACKING_URI: {tracking.shown(given)}")
        return 0
    file = paths.tracking_database()
    if not file.is_file():
        raise UserError(f"no run to show: {file} does not exist. Search first: python -m segbench.search")
    port = local_server.free_port(arguments.port)
    page = _page(tracking.client(), arguments.run) if arguments.run else ""
    address = f"http://{local_server.HOST}:{port}/"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{file.resolve()}"]
    command += ["--default-artifact-root", (paths.artifacts() / "mlflow").resolve().as_uri()]
    command += ["--host", local_server.HOST, "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    try:
        with local_server.process(command, quiet, f"{address}health") as server:
            local_server.announce(f"MLflow of {file}", f"{address}{page}", arguments.open)
            terminal.next_command("python -m segbench.report")
            raise UserError(f"MLflow's server ended unexpectedly, with exit code {server.wait()}; rerun the command")
    except KeyboardInterrupt:
        return 0


def _page(mlflow: MlflowClient, run: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return f"#/experiments/{mlflow.get_run(run).info.experiment_id}/runs/{run}"
    except MlflowException:
        raise UserError(f"MLflow has no run {run}; drop --run to see all") from None


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
