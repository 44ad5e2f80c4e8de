"""Draw synthetic street scenes in Cityscapes' folders, to run segbench without the real dataset.

python -m segbench.streets --out storage/streets --train 300 --val 60 --size 256x512
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path

from segbench.core import paths
from segbench.core.errors import UserError
from segbench.runtime import terminal

SMALLEST = 32  # pixels per side; smaller images cannot show a street
LARGEST_MEGAPIXELS = 16  # a scene is drawn at twice its height and width, in memory
MOST_SCENES = 1_000_000  # per split: scene k of seed s is number 1,000,000 s + k
_LOCK = "drawing.lock"


def main(argv: list[str] | None = None) -> int:
    """Draws a dataset into a new folder."""
    parser = terminal.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that does not exist yet")
    parser.add_argument("--train", type=int, default=300, metavar="N", help="training scenes (default: 300)")
    parser.add_argument("--val", type=int, default=60, metavar="N", help="validation scenes (default: 60)")
    parser.add_argument("--size", default="256x512", metavar="HxW", help="height x width, pixels (default: 256x512)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="determines the scenes (default: 0)")
    arguments = parser.parse_args(argv)
    terminal.configure(arguments)
    height, width = _size(arguments.size)
    for option, count in (("--train", arguments.train), ("--val", arguments.val)):
        if not 1 <= count <= MOST_SCENES:
            raise UserError(f"{option} is {count}: expected 1 to {MOST_SCENES} scenes")
    if arguments.seed < 0:
        raise UserError(f"--seed is {arguments.seed}: expected 0 or more")
    out: Path = arguments.out
    _refuse_occupied(out)
    _write(out, arguments.train, arguments.val, height, width, arguments.seed)
    counts = f"{arguments.train} training scenes and {arguments.val} validation scenes of other cities"
    terminal.say(f"{out}: {counts}, {height}x{width} pixels")
    where = f"CITYSCAPES_DATASET={shlex.quote(str(out.resolve()))}"
    terminal.next_command(f"{where} python -m segbench.prepare")
    terminal.say(f"then:  {where} python -m segbench.search --protocol COPY")
    terminal.say("       where COPY is a copy of studies/cityscapes with at most these numbers of images")
    return 0


def _size(text: str) -> tuple[int, int]:
    """`256x512` -> (height, width)."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise UserError(f"--size is {text!r}: expected height x width in pixels, such as --size 256x512")
    height, width = int(match[1]), int(match[2])
    if min(height, width) < SMALLEST:
        raise UserError(f"--size is {text}: both sides must be at least {SMALLEST} pixels, such as --size 256x512")
    if height * width > LARGEST_MEGAPIXELS * 1e6:
        raise UserError(f"--size is {text}: at most {LARGEST_MEGAPIXELS} megapixels can be drawn, such as 1024x2048")
    return height, width


def _refuse_occupied(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if os.path.lexists(out):
        found = "a directory that is not empty" if out.is_dir() else "not a directory"
        raise UserError(f"--out {out} is {found}: name a new directory")


def _write(out: Path, train: int, val: int, height: int, width: int, seed: int) -> None:
    """Draws into a folder beside `out` and renames it at the end: `out` is complete or absent."""
    from filelock import FileLock

    from segbench.data import streets

    out = out.resolve()
    paths.writable(out.parent, "--out")
    prefix = f".{out.name}-unfinished-"
    _remove_abandoned(out.parent, prefix)
    unfinished = Path(tempfile.mkdtemp(prefix=prefix, dir=out.parent))
    lock = unfinished / _LOCK
    try:
        with FileLock(lock), terminal.progress("drawing streets", total=train + val) as advance:
            streets.write(unfinished, train, val, height, width, seed, progress=advance, temporary=True)
            lock.unlink(missing_ok=True)
            unfinished.chmod(0o755)  # mkdtemp makes folders readable only to their owner
            os.replace(unfinished, out)  # also over an empty folder
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Removes the unfinished folders of killed processes: no process holds their lock."""
    from filelock import FileLock, Timeout

    for folder in parent.glob(f"{glob.escape(prefix)}*"):
        if (folder / _LOCK).is_file():
            with contextlib.suppress(Timeout), FileLock(folder / _LOCK, blocking=False):
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
