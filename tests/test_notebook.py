"""The example notebook runs, and what is committed of it is what anybody may see."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import SIZE

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOK = EXAMPLES / "demo.ipynb"
TINY = f"""
title = "Tiny"
[data]
size = {list(SIZE)}
streets = {{ train = 12, val = 4, size = {list(SIZE)} }}
[search]
trials = 1
epochs = 1
train_images = 8
val_images = 2
[final]
epochs = 1
"""


def cells() -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: Path) -> list[nbformat.NotebookNode]:
    """The code cells, run again in a kernel of their own."""
    monkeypatch.setenv("SEGBENCH_EXAMPLE", str(protocol))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # Streamlit sets it for whatever is started later
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # not the user's history
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    notebook = nbformat.read(NOTEBOOK, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(tmp_path))
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: nbformat.NotebookNode) -> set[str]:
    return {kind for output in cell.outputs for kind in output.get("data", {output.output_type: ""})}


@pytest.mark.slow
def test_the_notebook_runs(storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a protocol of seconds: every cell, with progress and pictures, and without a line that is not asked for."""
    tiny = tmp_path / "tiny"
    shutil.copytree(EXAMPLES / "my_architecture", tiny)
    (tiny / "protocol.toml").write_text(TINY)
    ran = run(monkeypatch, tmp_path, tiny)
    assert len(ran) == 10
    search, promote = ran[2], ran[4]
    for cell in (search, promote):
        (bars, *others) = [output for output in cell.outputs if output.output_type == "display_data"]
        assert "100%" in bars.data["text/html"] or "/" in bars.data["text/html"]
        assert not [output for output in others if output.output_type == "stream"]
    assert "['tiny-deeplab: 1 trials', 'tiny-my_unet: 1 trials']" in str(search.outputs[-1])
    assert not [output for cell in ran[2:] for output in cell.outputs if output.output_type == "stream"]
    assert "image/png" in kinds(ran[6])
    assert "image/png" in kinds(ran[8])
    assert (tmp_path / "reports" / "tiny.fr.html").is_file()


@pytest.mark.slow
def test_the_notebook_runs_as_it_is(storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(EXAMPLES / "my_architecture", tmp_path / "my_architecture")
    ran = run(monkeypatch, tmp_path, Path("my_architecture"))
    assert [kinds(cell) for cell in ran] == [kinds(cell) for cell in cells()]


def test_what_is_committed_was_run_and_names_no_machine() -> None:
    text = NOTEBOOK.read_text()
    assert len(text) < 1_000_000
    assert not re.search(r"/(?:home|root|Users|tmp|work)\b", text)
    assert [cell.execution_count for cell in cells()] == list(range(1, 11))
    assert all(output.output_type != "error" for cell in cells() for output in cell.outputs)
    assert sum("image/png" in kinds(cell) for cell in cells()) == 2
    assert json.loads(text)["metadata"]["kernelspec"]["name"] == "python3"
