"""What a protocol would cost on this device, without training it: hours, memory, disk, and the largest batch.

    python -m segbench.estimate                               the demo
    python -m segbench.estimate --protocol frontier-demo
    python -m segbench.estimate --protocol cityscapes deeplab

A few training steps of each architecture are timed, on drawn images of the protocol's size: no dataset is needed.
The range is that of what was timed: other programs on the machine widen it. Weights are not downloaded.
"""

from __future__ import annotations

import dataclasses
import functools

from segbench.core import paths
from segbench.runtime import options, terminal

_SECONDS = 10.0  # of timing, an architecture


def main(argv: list[str] | None = None) -> int:
    """Prints the estimate of each architecture, and their sum."""
    parser = terminal.parser(__doc__)
    parser.add_argument("architecture", nargs="*", help="which of the protocol's architectures; default: all of them")
    options.add_protocol(parser)
    options.add_data(parser)
    options.add_device(parser)
    arguments = options.parse(parser, argv)
    protocol, architectures = options.read(arguments)

    from segbench.experiment import estimating, training_run
    from segbench.runtime import compute

    device = compute.choose(arguments.device, arguments.precision)
    sample = estimating.drawn_sample(protocol, None if protocol.drawn else paths.dataset(arguments.data))
    estimates, trials = [], protocol.search.trials or 1
    if protocol.search.hours is not None:
        terminal.say(f"each search takes its {protocol.search.budget}; the time shown for it is that of one trial")
    with terminal.progress("timing", len(architectures)) as advance:
        for architecture in architectures:
            random = dataclasses.replace(architecture, weights="random")
            classes, passes = len(protocol.data.labels), protocol.passes
            build = functools.partial(training_run.build, random, seed=0, classes=classes, passes=passes)
            one = estimating.of(protocol, architecture, sample, device, build, trials=trials, seconds=_SECONDS)
            estimates.append(one)
            advance(architecture.name)
    estimating.table(estimates)
    whole = estimating.total(estimates, sample)
    disk = sum(one.disk_gb for one in estimates) + sample.bytes / 1e9
    terminal.result(f"search and promotion: {estimating.shown(whole)}, {disk:.1f} GB on disk; {device.description}")
    if not protocol.drawn and not paths.dataset(arguments.data):
        terminal.say(f"counted for Cityscapes' {sample.counts.train} + {sample.counts.val} images; packing comes first")
    terminal.next_command(f"python -m segbench.search{options.repeat_args(arguments)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(terminal.run(main))
