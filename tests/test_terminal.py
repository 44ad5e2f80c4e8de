"""What commands print where: on a terminal, into a pipe, with --quiet and NO_COLOR."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from segbench.runtime import options, terminal

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


HOSTILE = """
from segbench.runtime import terminal
from segbench.core.errors import UserError
title = "[/] DeepLab [v3] [bold]x[/bold] \\x1b[31mred\\x07 :smile: \\udce9 …×é"
terminal.say(title)
terminal.banner(title)
terminal.warn(title)
with terminal.progress(title, 1) as advance:
    advance(title)
with terminal.board(title, 1) as show:
    show(1, title, [terminal.Row(title, 1, 1, title)])
terminal.table(title, [title], [[title]])
def fail():
    raise UserError(title)
raise SystemExit(terminal.run(fail) - 2)
"""


def test_names_and_titles_are_never_markup() -> None:
    prepared = "from segbench.runtime import streams; streams.prepare()" + HOSTILE
    done = subprocess.run([sys.executable, "-c", prepared], capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[/] DeepLab [v3] [bold]x[/bold] \\x1b[31mred\\x07 :smile: ") >= 5
    assert done.stderr.count("[/] DeepLab [v3] [bold]x[/bold] \\x1b[31mred\\x07 :smile: ") == 2
    assert not CONTROL.search(done.stdout + done.stderr)
    said = on_a_terminal(prepared, NO_COLOR="1")
    assert said.count("[/] DeepLab [v3] [bold]x[/bold] \\x1b[31mred\\x07 :smile: ") >= 5
    assert "\x07" not in said


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_terminal_can_show_any_text(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for command in (["-c", HOSTILE.replace("from", "from segbench.runtime import streams; streams.prepare()\nfrom", 1)],
                    ["-m", "segbench.search", "--help"]):  # fmt: skip
        done = subprocess.run([sys.executable, *command], capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
        assert done.stdout.decode(encoding)
    plain = subprocess.run([sys.executable, "-c", "from segbench.runtime import terminal as t; "
                            "t.run(lambda: print('é…×') or 0)"], capture_output=True, env=environment)  # fmt: skip
    assert plain.stdout.decode(encoding).strip() == {"ascii": "e...x", "latin-1": "é...×", "utf-8": "é…×"}[encoding]


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_are_not_reused_by_files(closed: tuple[int, ...], tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom segbench.runtime import terminal\n"
        "def main():\n"
        "    opened = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "    os.write(opened, b'ours'); print('said'); terminal.warn('warned'); terminal.console().print('x')\n"
        "    return 0 if opened > 2 and not sys.stdin.isatty() else 1\n"
        "os._exit(terminal.run(main))"
    )
    redirections = " ".join(f"{number}>&-" for number in closed)
    script = f'"$0" -c "$1" "$2" {redirections}'
    done = subprocess.run(["sh", "-c", script, sys.executable, code, str(tmp_path / "f")], stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    assert (tmp_path / "f").read_bytes() == b"ours"


def test_every_error_of_the_system_is_one_line_that_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = [
        *(kind(number, "its reason", "a [/] file") for kind, number in ((OSError, 5), (OSError, 36), (OSError, 28))),
        *(kind(13, "its reason", "a [/] file") for kind in (PermissionError, NotADirectoryError, IsADirectoryError)),
        FileNotFoundError(2, "its reason", b"a [/] file", None, "another"),
        ConnectionResetError(104, "its reason", "a [/] file"),
    ]
    for error in errors:

        def fail(error: OSError = error) -> int:
            raise error

        assert terminal.run(fail) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("segbench: error: a [/] file")
        assert "its reason" in line
        assert ("free some space" in line) == (error.errno == 28)


def test_only_what_continues_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def stop() -> int:
        raise KeyboardInterrupt

    for parser, said in (
        (terminal.parser(""), "segbench: stopped"),
        (options.parser(""), "segbench: stopped; rerun the same command to resume"),
    ):
        options.parse(parser, [])
        assert terminal.run(stop) == 130
        assert capsys.readouterr().err.strip() == said
    options.parse(terminal.parser(""), [])


INTERRUPTS_ITSELF = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


@pytest.mark.parametrize(
    "module", ["segbench.core", "argparse", "segbench.core.paths", "numpy", "numpy._core", "PIL.Image", "filelock"]
)
def test_ctrl_c_while_importing_is_one_line(module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTS_ITSELF.format(module=module))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parent.parent}"}
    command = [sys.executable, "-m", "segbench.streets", "--out", str(tmp_path / "out"), "--size", "32x64", "--quiet"]
    done = subprocess.run([*command, "--train", "1", "--val", "1"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "segbench: stopped\n")


def test_an_import_that_is_interrupted_and_fails_otherwise_counts_as_stopped() -> None:
    code = (
        "import os, signal\nfrom segbench.runtime import terminal\n"
        "def main():\n"
        "    try: os.kill(os.getpid(), signal.SIGINT)\n"
        "    except KeyboardInterrupt: raise ImportError('numpy could not be imported') from None\n"
        "raise SystemExit(terminal.run(main))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "segbench: stopped\n")


@pytest.mark.parametrize("columns", ["20", "40", "80", "120"])
def test_names_are_never_cut(columns: str) -> None:
    name = "a-protocol-with-a-long-name-deeplab"
    script = (
        "from segbench.runtime import terminal as t\n"
        f"t.table('studies', ['study', 'finished', 'best mIoU', 'running', 'waiting', 'failed'], "
        f"[[{name!r}, '12/100', '0.1234', '1: host:1234:5.6', '3', '']])"
    )
    shown = on_a_terminal(script, COLUMNS=columns)
    assert name in shown  # in one piece
    assert "…" not in shown
    assert "1: host:1234:5.6" in shown
    assert ("finished: 12/100" in shown) == (int(columns) < 100)


def test_a_quiet_command_says_nothing_but_its_result(tmp_path: Path) -> None:
    streets = ["-m", "segbench.streets", "--train", "1", "--val", "1", "--size", "32x64"]
    assert piped(*streets, "--out", str(tmp_path / "a"), "--quiet") == ""
    said = piped(*streets, "--out", str(tmp_path / "b"))
    assert not CONTROL.search(said)
    assert f"next:  CITYSCAPES_DATASET={tmp_path / 'b'} python -m segbench.prepare" in said
