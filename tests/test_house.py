"""The house itself: the import contract, light commands, no secrets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from segbench.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "segbench"
HEAVY = ("torch", "torchvision", "transformers", "mlflow", "optuna", "plotly", "pandas", "fastapi", "uvicorn")
LIBRARY = {"__init__", "__main__", "api", "testing"}  # at the root, but not commands

FILES = sorted(PACKAGE.rglob("*.py"))


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """The import contract of pyproject.toml, checked on the package in `root`."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)


def test_imports_point_downward() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("core/labels.py", "from segbench.runtime import terminal"),
        ("engine/evaluation.py", "from segbench.ledger import studies"),
        ("ledger/models.py", "from segbench.engine import inference"),
        ("report/numbers/tables.py", "from segbench.report.figures import theme"),
    ],
)
def test_an_upward_import_fails_the_contract(file: str, line: str, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "segbench", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "segbench" / file).open("a") as planted:
        planted.write(f"\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode != 0
    assert line.split()[1] in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_light(command: str) -> None:
    name = f"segbench.{command}.__main__" if command in ("explain", "report", "serve") else f"segbench.{command}"
    script = (
        f"import sys, importlib; module = importlib.import_module('{name}')\n"
        "try: module.main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print('HEAVY', [m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "HEAVY []" in result.stdout
    assert f"python -m segbench.{command}" in result.stdout  # the docstring shows the line to type


def test_whatever_is_at_the_root_is_a_listed_command() -> None:
    files = {path.stem for path in PACKAGE.glob("*.py")} - LIBRARY
    folders = {path.parent.name for path in PACKAGE.glob("*/__main__.py")}
    assert files | folders == set(COMMANDS)


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


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_takes_torch_from_where_it_is_told() -> None:
    def steps(*given: str) -> list[str]:
        command = ["make", "--dry-run", "demo", "VENV=nowhere", *given]
        environment = {name: value for name, value in os.environ.items() if name != "TORCH_INDEX"}
        made = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
        return [line for line in made.stdout.splitlines() if " install " in line]

    torch, rest = steps("TORCH_INDEX=https://index.example/cpu")
    assert torch.endswith('--index-url "https://index.example/cpu" --requirement deploy/torch.txt')
    assert rest.endswith("--editable .")
    assert steps() == [rest]
    needed = set((ROOT / "deploy/torch.txt").read_text().splitlines()[1:])
    assert needed <= set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
