"""What a segment is: things, stuff, groups, void, and their numbers."""

import numpy as np
import torch
from cityscapesscripts.helpers.labels import labels as official

from segbench.core import labels, panoptic
from segbench.data import segments


def test_things_and_unassigned_labels_are_the_official_ones():
    for name in ("cityscapes-8", "cityscapes-19"):
        chosen = labels.shipped(name)
        base, countable = panoptic.coding(chosen)
        for one in official:
            if one.id >= 0:
                assert (base[one.id] == panoptic.VOID) == one.ignoreInEval, one.name
                assert countable[one.id] == (one.hasInstances and not one.ignoreInEval), one.name
        things = [chosen.classes[index].name for index in panoptic.things(chosen)]
        expected = {"cityscapes-8": ["human", "vehicle"]}.get(
            name, [one.name for one in official if one.hasInstances and not one.ignoreInEval]
        )
        assert things == expected
        assert len(panoptic.stuff(chosen)) == len(chosen) - len(things) - len(chosen.void)


def test_instances_groups_stuff_and_void_have_the_numbers_of_the_contract():
    chosen = labels.shipped("cityscapes-8")
    human, vehicle, flat = (chosen.names.index(name) * panoptic.SPAN for name in ("human", "vehicle", "flat"))
    # A person, a rider of the same k, two groups of one class; road; a caravan, and void, with and without instances.
    raw = np.array([[24, 25, 24, 25, 26, 7, 29, 29, 0, 255]], np.uint8)
    plane = np.array([[3, 3, 0, 0, 255, 9, 1, 0, 1, 0]], np.uint8)
    void = panoptic.VOID
    expected = [
        human + 24 * 256 + 3, human + 25 * 256 + 3, human, human, vehicle + 26 * 256 + 255, flat, void, void, void, void
    ]  # fmt: skip
    assert panoptic.truth(raw, plane, chosen).tolist() == [expected]
    on_device = segments.truth(torch.from_numpy(raw)[None], torch.from_numpy(plane)[None], chosen)
    assert on_device.dtype == torch.int64
    assert on_device.tolist() == [[expected]]


def test_no_number_leaves_its_class():
    raw, plane = np.full((1, 1), 255, np.uint8), np.full((1, 1), 255, np.uint8)
    one = labels.Class("last", (1, 2, 3), (labels.Label(255),), thing=True)
    chosen = labels.LabelSet("two", "two", (labels.Class("a", (0, 0, 0), (labels.Label(1),)), one))
    assert panoptic.truth(raw, plane, chosen).item() // panoptic.SPAN == 1
