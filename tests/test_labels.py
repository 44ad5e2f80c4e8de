"""The label table is the official one."""

from segbench.core import labels


def test_table_equals_cityscapes_scripts() -> None:
    from cityscapesscripts.helpers.labels import labels as official

    ours = [(one.name, one.id, one.category, one.ignored) for one in labels.LABELS]
    assert ours == [(one.name, one.id, one.categoryId, one.ignoreInEval) for one in official]
    assert list(labels.CATEGORIES) == list(dict.fromkeys(one.category for one in official))


def test_lookups_agree_with_the_table() -> None:
    assert labels.CATEGORY_OF_RAW[7] == labels.CATEGORIES.index("flat")
    assert labels.CATEGORY_OF_RAW[255] == labels.CATEGORIES.index("vehicle")  # the licence plate's -1
    assert labels.CATEGORY_OF_RAW[34] == labels.UNKNOWN
    assert [labels.CATEGORY_OF_RAW[raw] for raw in labels.TYPICAL_ID] == list(range(8))
    assert len(labels.COLOURS) == len(labels.CATEGORIES)
    assert len(set(labels.COLOURS)) == len(labels.COLOURS)
