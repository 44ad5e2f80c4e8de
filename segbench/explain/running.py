"""Measures promoted models scene by scene, and stores the values after each: a rerun measures only what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from segbench.core import artefacts, paths
from segbench.core.errors import UserError
from segbench.core.labels import IGNORED
from segbench.core.records import ModelCard
from segbench.data import packing
from segbench.data.batches import Normalisation, normalise
from segbench.engine import inference
from segbench.explain import measures
from segbench.explain.measures import Extras
from segbench.explain.probe import Probe, Scene, draws
from segbench.ledger import explanations, models
from segbench.ledger.models import Promoted
from segbench.runtime import terminal
from segbench.runtime.compute import Compute


@dataclass(frozen=True)
class Task:
    """One model and what is still to be measured of it."""

    model: Promoted
    data: packing.Dataset
    left: dict[str, list[str]]  # measures, by scene
    scenes: list[str]  # all of them


def task(model: Promoted, number: int, extras: Extras, prepare: str) -> Task:
    """What to measure on `number` final images of a model, evenly spread. Raises UserError if its packed images, which
    the command `prepare` packs again, or the names of its final images are gone."""
    _, names = models.confusions(model.folder / artefacts.CONFUSIONS, model.card.labels)
    if not names:
        raise UserError(
            f"{model.folder / artefacts.CONFUSIONS} is missing or damaged, and names the final images; remove "
            f"{model.folder}, then promote {model.card.architecture} again"
        )
    scenes = measures.spread(names, number)
    known = explanations.read(model)
    wanted = measures.planned(scenes, extras)
    left = {name: [m for m in wanted[name] if m not in known.get(name, {})] for name in scenes}
    return Task(model, _data(model.card, prepare), {name: missing for name, missing in left.items() if missing}, scenes)


def run(tasks: Sequence[Task], compute: Compute) -> None:
    """Measures all that is left of all models. Raises UserError for weights that are not their card's."""
    total = sum(len(task.scenes) for task in tasks)
    done = total - sum(len(task.left) for task in tasks)
    if done == total:
        terminal.say("measured already, nothing to do")
        return
    with terminal.progress("explaining", total, done) as advance:
        for each in tasks:
            for scene in _measured(each, compute):
                advance(f"{each.model.card.architecture}, seed {each.model.card.seed}, {scene}")


def _measured(task: Task, compute: Compute) -> Iterator[str]:
    """Measures one model, and yields the name of each scene that is done."""
    if not task.left:
        return
    card = task.model.card
    model = inference.rebuild(card, task.model.weights)
    untrained = inference.untrained(card, task.model.folder).eval().to(compute.device)
    probe = Probe(model, len(card.categories), compute.device)
    functions = measures.by_name(untrained)
    known = explanations.read(task.model)
    for name, missing in task.left.items():
        scene = load(task.data, name, model.normalisation, compute.device)
        for measure in missing:
            known.setdefault(name, {})[measure] = functions[measure](probe, scene)
        explanations.write(task.model, known)
        yield name


def load(data: packing.Dataset, name: str, normalisation: Normalisation, device: torch.device) -> Scene:
    """A scene of the validation split. The other images come from there too, as the network has not seen them, unless
    there are fewer than three."""
    index = data.val.names.index(name)
    pool, usable = data.val, [i for i in range(len(data.val)) if i != index]
    if len(usable) < 2:
        pool, usable = data.train, list(range(len(data.train)))
    chosen = draws(name, "others").choice(usable, 2, replace=len(usable) < 2)
    pixels = torch.from_numpy(np.stack([data.val.images[index], *(pool.images[i] for i in chosen)])).to(device)
    image, *others = normalise(pixels, normalisation).contiguous()
    label_set = data.val.label_set
    truth = torch.from_numpy(np.array(label_set.class_of_raw)[data.val.labels[index]]).to(device)
    labelled = ~torch.isin(truth, torch.tensor([IGNORED, *label_set.void], device=device))
    return Scene(name, pixels[0], image, truth, labelled, tuple(others))


def _data(card: ModelCard, prepare: str) -> packing.Dataset:
    """The packed images that the model was trained and scored on."""
    folder = paths.cache() / card.cache
    again = f"pack them again: {prepare}"
    again += "" if card.drawn else " --data DIR"
    try:
        data = packing.Dataset(
            packing.open_split(folder / "train", card.labels),
            packing.open_split(folder / "val", card.labels),
            card.size,
            folder,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"the packed images of {card.study} are gone or damaged ({folder}); {again}") from error
    if data.fingerprint != card.data_fingerprint:
        raise UserError(
            f"{folder} holds other images than {card.study} was scored on (fingerprint {data.fingerprint}, expected "
            f"{card.data_fingerprint}); restore the dataset, then {again}"
        )
    return data
