"""Verify a dataset, and pack it once at the protocol's size.

    python -m segbench.prepare --data DIR             the dataset's root, or the archives as downloaded, not unpacked
    python -m segbench.prepare --protocol demo

Search and promote do this themselves; this command also shows what is in the dataset, and writes a page with its
classes, and with images that are in both splits or nearly. Unusable files and labels are listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segbench.core import protocol
from segbench.core.errors import UserError
from segbench.core.labels import IGNORED, LabelSet
from segbench.runtime import options, terminal

if TYPE_CHECKING:
    from segbench.data.inspection import Findings
    from segbench.data.packing import Dataset


def main(argv: list[str] | None = None) -> int:
    """Verifies and packs a dataset, and shows what is in it."""
    parser = terminal.parser(__doc__)
    options.add_protocol(parser)
    options.add_data(parser)
    parser.add_argument("--lang", choices=("en", "fr"), default="en", help="of the page; default: en")
    arguments = options.parse(parser, argv)
    chosen = protocol.load(options.folder_of(arguments))

    from segbench.data import dataset, inspection
    from segbench.data.packing import DamagedScenes
    from segbench.report import dataset as page

    try:
        data = dataset.ready(chosen, arguments.data)
    except UserError as error:
        if isinstance(error.__cause__, DamagedScenes):
            root = dataset.root_of(chosen, arguments.data)
            terminal.say(f"page {page.refused(chosen, root, error.__cause__.problems, arguments.lang)}")
        raise
    height, width = data.size
    for name, split in (("train", data.train), ("val", data.val)):
        cities = sorted(set(split.cities))
        where = cities[0] if len(cities) == 1 else f"{len(cities)} cities"
        terminal.say(f"{name}: {len(split)} scenes of {where}, packed at {height}x{width}")
        for scene in split.void_only:
            terminal.say(f"note: {scene} is labelled void everywhere")
    _histogram(data, chosen.data.labels)
    findings = inspection.inspect(data)
    for line in _notes(data, findings):
        terminal.say(f"note: {line}")
    terminal.say(f"content fingerprint {data.fingerprint}")
    terminal.say(f"page {page.written(chosen, data, findings, arguments.lang)}")
    terminal.next_command(f"python -m segbench.search{options.repeat_args(arguments)}")
    return 0


def _notes(data: Dataset, findings: Findings) -> list[str]:
    """What may flatter or spoil the scores, one line each."""
    from segbench.data import inspection

    lines = [inspection.note_of(findings.absent)] if findings.absent else []
    if findings.shared:
        lines.append(f"train and val share cities or groups: {', '.join(findings.shared[:5])}")
    if findings.twins:
        val, train, likeness, _ = findings.twins[0]
        pair = f"{data.val.names[val]} and {data.train.names[train]} (likeness {likeness:.2f})"
        lines.append(f"{len(findings.twins)} val images are in train, too, or nearly, such as {pair}")
    return lines


def _histogram(data: Dataset, labels: LabelSet) -> None:
    totals = [max(1, int(split.histogram.sum())) for split in (data.train, data.val)]
    rows = []
    for row in labels.rows:
        pixels = [int(split.histogram[row.label.id]) for split in (data.train, data.val)]
        if any(pixels):
            shares = [f"{100 * count / total:.2f} %" for count, total in zip(pixels, totals, strict=True)]
            of = "ignored" if row.class_index == IGNORED else labels.names[row.class_index]
            rows.append([str(row.label.id), row.name, of, *shares])
    terminal.table("labels, share of all pixels", ["id", "label", "class", "train", "val"], rows, right={0, 3, 4})


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
