"""An unharmed search and promotion, to which those that were hurt are compared."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import PROTOCOL, write_protocol
from tests.faults import harness
from tests.faults.harness import Found, Place

SMALL = PROTOCOL.replace("trials = 2\nepochs = 2", "trials = 2\nepochs = 3").replace("epochs = 2", "epochs = 3")


@pytest.fixture(scope="session")
def where(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments of a search of two trials of three epochs, and of its promotion in as many."""
    asked = write_protocol(tmp_path_factory.mktemp("asked") / "small", SMALL)
    return ["deeplab", "--protocol", str(asked), "--data", str(drawn)]


@pytest.fixture(scope="session")
def unharmed(where: list[str], made_databases: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A storage with a finished search and promotion. Do not change it; copy it."""
    place = Place(Path(shutil.copytree(made_databases, tmp_path_factory.mktemp("unharmed") / "storage")), where)
    assert place.run("search") == 0, place.output()
    place.searched = harness.found(place)  # type: ignore[attr-defined]
    assert place.run("promote") == 0, place.output()
    return place


@pytest.fixture(scope="session")
def searched(unharmed: Place) -> Found:
    """What the unharmed search left, before the promotion."""
    found: Found = unharmed.searched  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="session")
def promoted(unharmed: Place) -> Found:
    """What the unharmed search and promotion left."""
    return harness.found(unharmed)


@pytest.fixture
def place(where: list[str], made_databases: Path, unharmed: Place, tmp_path: Path) -> Place:
    """A storage with empty databases and the packed dataset."""
    storage = Path(shutil.copytree(made_databases, tmp_path / "storage"))
    shutil.copytree(unharmed.storage / "cache", storage / "cache")
    return Place(storage, where)
