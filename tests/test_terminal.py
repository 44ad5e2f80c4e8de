"""What commands print where: on a terminal, into a pipe, with --quiet and NO_COLOR."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")  # all but the line's end
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")

NESTED = """
import time
from segbench.runtime import terminal
terminal.say("a word")
terminal.banner("a banner")
with terminal.progress("outer", 2) as outer:
    for name in ("first", "second"):
        with terminal.progress(name, 2) as inner:
            for _ in range(2):
                time.sleep(0.3)
                inner("mIoU 0.5")
        terminal.say(f"{name} is done")
        outer("best 0.5")
terminal.table("results", ["name", "mIoU"], [["one", "0.5"]])
terminal.next_command("python -m segbench.report")
"""
QUIET = "from segbench.runtime import terminal as t; t.configure(t.parser('').parse_args(['--quiet']))" + NESTED


def piped(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def on_a_terminal(script: str, **environment: str) -> str:
    """What the script prints on a pseudo-terminal."""
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **environment}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=its, stderr=its, env=environment)
    os.close(its)
    said = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not piece:
            break
        said += piece
    assert process.wait(60) == 0
    os.close(ours)
    return said.decode()


def test_a_pipe_gets_plain_lines() -> None:
    said = piped("-c", NESTED)
    assert not CONTROL.search(said)
    assert "a banner" in said
    assert re.search(r"^outer: 2/2 .*best 0\.5$", said, re.MULTILINE)
    assert said.rstrip().endswith("next:  python -m segbench.report")


def test_quiet_leaves_results() -> None:
    said = piped("-c", QUIET)
    assert not CONTROL.search(said)
    assert "results" in said
    assert "a banner" in said
    for word in ("a word", "outer", "first", "next:"):
        assert word not in said


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_gets_one_display_of_all_levels(environment: dict[str, str]) -> None:
    said = on_a_terminal(NESTED, **environment)
    assert "\x1b[" in said
    assert bool(COLOUR.search(said)) == (not environment)
    together = [part for part in said.split("\x1b[?25h") if "outer" in part]
    assert len(together) == 1  # shown and hidden once
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert re.search(r"outer .*0/2.*\n\s+first .*1/2.*mIoU 0\.5", plain)
    assert "second is done" in plain


def test_quiet_on_a_terminal_shows_no_display() -> None:
    assert "outer" not in on_a_terminal(QUIET)


def test_a_quiet_command_says_nothing_but_its_result(tmp_path: Path) -> None:
    streets = ["-m", "segbench.streets", "--train", "1", "--val", "1", "--size", "32x64"]
    assert piped(*streets, "--out", str(tmp_path / "a"), "--quiet") == ""
    said = piped(*streets, "--out", str(tmp_path / "b"))
    assert not CONTROL.search(said)
    assert f"next:  CITYSCAPES_DATASET={tmp_path / 'b'} python -m segbench.prepare" in said
