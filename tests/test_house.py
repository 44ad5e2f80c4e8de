"""The house itself: floors, light commands, no secrets."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "segbench"
HEAVY = ("torch", "torchvision", "transformers", "mlflow", "optuna", "plotly", "pandas")
COMMANDS = ("search", "promote", "report", "predict", "dashboard", "runs", "study", "prepare", "streets")

# A file imports only lower floors; files of one floor do not import each other, but for those of one package.
FLOORS = (
    ("errors", "labels"),
    ("distributed",),
    ("records", "places", "terminal", "urls", "stopping", "global_batch"),
    ("protocol", "pictures", "curves", "metrics", "database", "loopback", "notes"),
    ("options", "statistics", "sampling", "data.drawing", "compute", "matching"),
    ("data.streets", "data.scenes", "stopwatch", "owners", "tracking"),
    ("data.packed", "data.augment", "slots", "runs", "registry"),
    ("data.subset", "trials", "showcase"),
    ("data.batches", "dataset", "search_display", "workers", "processes"),
    ("architectures", "cluster"),
    ("inference", "checkpoint"),
    ("evaluation", "speed", "models"),
    ("training", "served"),
    ("resume",),
    ("objective",),
    ("examine",),
    ("hindsight",),
    ("prepare", "search", "promote", "predict", "report", "study", "streets", "dashboard"),
    ("__main__",),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
PIXELS = {"data.scenes", "data.packed", "data.subset", "data.batches", "metrics", "architectures", "training", "resume"}
LEDGERS = {
    "trials",
    "runs",
    "sampling",
    "urls",
    "database",
    "tracking",
    "owners",
    "slots",
    "showcase",
    "notes",
    "registry",
}


def module_of(path: Path) -> str:
    """data/packed.py -> data.packed; files of a package with a floor of its own take the package's name."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    for length in (2, 1):
        if ".".join(parts[:length]) in FLOOR:
            return ".".join(parts[:length])
    return ".".join(parts)


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "segbench":
            base = node.module.removeprefix("segbench").lstrip(".")
            for alias in node.names:
                joined = f"{base}.{alias.name}".lstrip(".")
                found.add(
                    next(
                        (".".join(joined.split(".")[:n]) for n in (2, 1) if ".".join(joined.split(".")[:n]) in FLOOR),
                        base,
                    )
                )
    return found - {""}


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent.name == "architectures")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    own = module_of(path)
    assert own in FLOOR, f"{path.name} has no floor: add it to FLOORS"
    for other in imports_of(path) - {own}:
        assert FLOOR[other] < FLOOR[own], f"{own} (floor {FLOOR[own]}) imports {other} (floor {FLOOR[other]})"


def test_the_two_wings_never_meet() -> None:
    for path in FILES:
        own, others = module_of(path), imports_of(path)
        if own in PIXELS:
            assert not others & LEDGERS, own
        if own in LEDGERS:
            assert not others & PIXELS, own


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_light(command: str) -> None:
    name = "segbench.report.__main__" if command == "report" else f"segbench.{command}"
    script = (
        f"import sys, importlib; module = importlib.import_module('{name}')\n"
        "try: module.main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print('HEAVY', [m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "HEAVY []" in result.stdout
    assert f"python -m segbench.{command}" in result.stdout  # the docstring shows the line to type


def test_commands_list_themselves() -> None:
    result = subprocess.run([sys.executable, "-m", "segbench"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert all(f"segbench.{command}" in result.stdout for command in COMMANDS)
    wrong = subprocess.run([sys.executable, "-m", "segbench", "fly"], capture_output=True, text=True, cwd=ROOT)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("segbench: error: no command 'fly'")


def test_no_machine_leaks_into_the_project() -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()
    for name in listed:
        path = ROOT / name
        if path == Path(__file__):
            continue
        if path.suffix in {".py", ".md", ".toml", ".html", ".css", ".js"} and path.is_file():
            assert not re.search(r"/home/\w|/root/|/Users/\w", path.read_text(errors="replace")), name


def test_nothing_seeds_globals_or_unpickles() -> None:
    for path in FILES:
        text = path.read_text()
        assert not re.search(r"np\.random\.seed|random\.seed\(|pickle\.load|weights_only=False", text), path.name
        if "torch.manual_seed" in text:
            assert "fork_rng" in text, path.name
