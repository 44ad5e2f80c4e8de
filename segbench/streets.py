"""Draws synthetic street scenes in Cityscapes' folders, so that everything runs where the real data set is not at hand.

python -m segbench.streets --out storage/streets --train 300 --val 60 --size 256x512
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path

from segbench.core.errors import UserError
from segbench.runtime import terminal

SMALLEST = 32  # pixels; less holds no street


def main(argv: list[str] | None = None) -> int:
    """Draws a dataset into a new folder. `argv`: its arguments, by default the command line's."""
    parser = terminal.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that does not exist yet")
    parser.add_argument("--train", type=int, default=300, metavar="N", help="scenes to train on (default: 300)")
    parser.add_argument("--val", type=int, default=60, metavar="N", help="scenes of other cities (default: 60)")
    parser.add_argument("--size", default="256x512", metavar="HxW", help="height x width, pixels (default: 256x512)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="another seed, other scenes (default: 0)")
    arguments = parser.parse_args(argv)
    terminal.configure(arguments)
    height, width = _size(arguments.size)
    for option, count in (("--train", arguments.train), ("--val", arguments.val)):
        if count < 1:
            raise UserError(f"{option} is {count}: a data set needs at least one scene: {option} 1 or more")
    if arguments.seed < 0:
        raise UserError(f"--seed is {arguments.seed}: give 0 or more")
    out: Path = arguments.out
    _refuse_occupied(out)
    _write(out, arguments.train, arguments.val, height, width, arguments.seed)
    counts = f"{arguments.train} scenes to train on and {arguments.val} of other cities"
    terminal.say(f"{out}: {counts}, {height}x{width} pixels")
    where = f"CITYSCAPES_DATASET={shlex.quote(str(out.resolve()))}"
    terminal.next_command(f"{where} python -m segbench.prepare")
    terminal.say(f"then:  {where} python -m segbench.search --protocol COPY")
    terminal.say("       where COPY is a copy of studies/cityscapes that asks no more images than these")
    return 0


def _size(text: str) -> tuple[int, int]:
    """`256x512` -> (height, width)."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise UserError(f"--size is {text!r}: expected height x width in pixels, such as --size 256x512")
    height, width = int(match[1]), int(match[2])
    if min(height, width) < SMALLEST:
        raise UserError(f"--size is {text}: both sides must be at least {SMALLEST} pixels, such as --size 256x512")
    return height, width


def _refuse_occupied(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if os.path.lexists(out):
        found = f"a folder that holds {len(list(out.iterdir()))} things" if out.is_dir() else "not a folder"
        raise UserError(f"--out {out} is {found}: name a new folder, or remove it first: rm -r {shlex.quote(str(out))}")


def _write(out: Path, train: int, val: int, height: int, width: int, seed: int) -> None:
    """Draws into a folder beside `out` and renames it at the end: `out` is whole or absent."""
    from segbench.data import streets

    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}-unfinished-", dir=out.parent))
    try:
        with terminal.progress("drawing streets", total=train + val) as advance:
            streets.write(unfinished, train, val, height, width, seed, progress=advance)
        unfinished.chmod(0o755)  # mkdtemp's folders are their owner's alone
        os.replace(unfinished, out)  # also over an empty folder
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
