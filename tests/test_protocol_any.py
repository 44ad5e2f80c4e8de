"""Whatever a TOML file holds, it is loaded and works, or is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segbench.core import protocol
from segbench.core.errors import UserError
from segbench.ledger import samplers
from tests.conftest import write_protocol


@pytest.fixture(scope="module")
def protocol_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_protocol(tmp_path_factory.mktemp("protocols") / "small")


SCALARS = (
    st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_subnormal=False)  # torch may flush them to zero
    | st.text(max_size=5)
    | st.sampled_from(["adam", "random", "val", "tpe", 1e308, -1e308, 2**53])
)


def tables(values: st.SearchStrategy[Any], keys: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Any]:
    return st.dictionaries(keys if keys is not None else st.text(max_size=3), values, max_size=3)


VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | tables(inner), max_leaves=5)
KINDS = st.sampled_from(["log_uniform", "uniform", "integer", "choice"])


def as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_toml(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def write_toml(path: Path, content: dict[str, Any]) -> None:
    path.write_text("".join(f"{as_toml(key)} = {as_toml(value)}\n" for key, value in content.items()))


OFTEN = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine


@OFTEN
@given(data=st.data())
def test_any_protocol_is_loaded_or_refused_in_one_line(protocol_folder: Path, data: st.DataObject) -> None:
    content: dict[str, Any] = {
        "title": "x",
        "data": {"size": [32, 64], "streets": {"train": 8, "val": 2, "size": [32, 32]}},
        "search": {"trials": 2, "epochs": 2, "train_images": 4, "val_images": 2},
        "final": {"epochs": 2},
        "augment": {},
    }
    keys = ["size", "seed", "seeds", "sampler", "pruner", "select_on", "scale", "flip", "colour", "trials", "", "a.b"]
    for _ in range(data.draw(st.integers(1, 3))):
        table = data.draw(st.sampled_from([content, *(v for v in content.values() if isinstance(v, dict))]))
        table[data.draw(st.sampled_from([*table, *keys]))] = data.draw(VALUES)
    write_toml(protocol_folder / "protocol.toml", content)
    try:
        loaded = protocol.load(protocol_folder)
    except UserError as error:
        one_line(error)
        return
    architecture = protocol.load_architecture(protocol_folder, "deeplab")
    assert len(protocol.fingerprint(loaded, architecture)) == 12
    samplers.sampler(loaded.search)


@OFTEN
@given(data=st.data())
def test_any_architecture_is_loaded_or_refused_in_one_line(protocol_folder: Path, data: st.DataObject) -> None:
    content: dict[str, Any] = {
        "title": "x",
        "batch_size": 2,
        "weights": "random",
        "space": {"lr": 0.1, "weight_decay": 0, "optimizer": "sgd"},
        "model": {},
    }
    space = VALUES | tables(st.lists(SCALARS, max_size=3), KINDS) | tables(VALUES, KINDS)
    names = st.sampled_from(["lr", "weight_decay", "optimizer", "queries"]) | st.text(max_size=3)
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.sampled_from(["space", "model", "", "baseline"]))
        if where and isinstance(content.get(where, {}), dict):
            content.setdefault(where, {})[data.draw(names)] = data.draw(space)
        else:
            content[data.draw(st.sampled_from([*content, "baseline"]))] = data.draw(VALUES)
    write_toml(protocol_folder / "deeplab.toml", content)
    try:
        loaded = protocol.load_architecture(protocol_folder, "deeplab")
    except UserError as error:
        one_line(error)
        return
    distributions = {name: samplers.distribution(values) for name, values in loaded.space.items()}
    drawn = samplers.draw(distributions, 0, 0)
    assert drawn["lr"] > 0
    assert drawn["weight_decay"] >= 0


@OFTEN
@given(content=st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_loaded_or_refused_in_one_line(protocol_folder: Path, content: bytes) -> None:
    (protocol_folder / "protocol.toml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        protocol.load(protocol_folder)
    one_line(caught.value)


def one_line(error: UserError) -> str:
    text = str(error)
    assert len(text.splitlines()) == 1
    assert len(text) < 500  # however long the value is
    return text
