"""The Cityscapes label table, its 8 categories, and the lookups derived from them.

The table is the official one (cityscapesScripts, helpers/labels.py); a test compares the two.
Pixels of a `*_gtFine_labelIds.png` are *raw ids*: 0..33, and 255 where an export wrote the licence plate's -1.
"""

from typing import NamedTuple


class Label(NamedTuple):
    name: str
    id: int  # as in the PNG, except the licence plate: -1 here, 255 there
    category: int  # the official categoryId, an index into CATEGORIES
    ignored: bool  # ignoreInEval: the official scores skip these pixels


CATEGORIES = ("void", "flat", "construction", "object", "nature", "sky", "human", "vehicle")
VOID = 0

LABELS = (
    Label("unlabeled", 0, 0, True),
    Label("ego vehicle", 1, 0, True),
    Label("rectification border", 2, 0, True),
    Label("out of roi", 3, 0, True),
    Label("static", 4, 0, True),
    Label("dynamic", 5, 0, True),
    Label("ground", 6, 0, True),
    Label("road", 7, 1, False),
    Label("sidewalk", 8, 1, False),
    Label("parking", 9, 1, True),
    Label("rail track", 10, 1, True),
    Label("building", 11, 2, False),
    Label("wall", 12, 2, False),
    Label("fence", 13, 2, False),
    Label("guard rail", 14, 2, True),
    Label("bridge", 15, 2, True),
    Label("tunnel", 16, 2, True),
    Label("pole", 17, 3, False),
    Label("polegroup", 18, 3, True),
    Label("traffic light", 19, 3, False),
    Label("traffic sign", 20, 3, False),
    Label("vegetation", 21, 4, False),
    Label("terrain", 22, 4, False),
    Label("sky", 23, 5, False),
    Label("person", 24, 6, False),
    Label("rider", 25, 6, False),
    Label("car", 26, 7, False),
    Label("truck", 27, 7, False),
    Label("bus", 28, 7, False),
    Label("caravan", 29, 7, True),
    Label("trailer", 30, 7, True),
    Label("train", 31, 7, False),
    Label("motorcycle", 32, 7, False),
    Label("bicycle", 33, 7, False),
    Label("license plate", -1, 7, True),
)

# The colour of each category: RGB 0..255, the Cityscapes colour of its most typical label.
COLOURS = (
    (0, 0, 0),
    (128, 64, 128),
    (70, 70, 70),
    (220, 220, 0),
    (107, 142, 35),
    (70, 130, 180),
    (220, 20, 60),
    (0, 0, 142),
)

# A predicted category is written to a label-id PNG as its most typical label (what the official evaluator reads).
TYPICAL_ID = (0, 7, 11, 20, 21, 23, 24, 26)

RAW_IDS = tuple(label.id % 256 for label in LABELS)  # one per row of LABELS: 0..33, then 255
UNKNOWN = 255

# CATEGORY_OF_RAW[raw id 0..255] -> category 0..7, or UNKNOWN where Cityscapes has no such id.
CATEGORY_OF_RAW = tuple(
    dict(zip(RAW_IDS, (label.category for label in LABELS), strict=True)).get(raw, UNKNOWN) for raw in range(256)
)
