"""Several processes that train one model: the same result as one, and one voice."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from segbench import architectures, promote, search
from segbench.core.errors import UserError
from segbench.core.records import ModelCard
from segbench.ledger import models, tracking
from segbench.runtime import global_batch, process_group, terminal
from tests import together
from tests.conftest import PROTOCOL, write_protocol

ROOT = Path(__file__).parent.parent
SHORT = PROTOCOL.replace("trials = 2\nepochs = 2", "trials = 1\nepochs = 1") + "train_images = 10\n"


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of process 1 of 3, which has not joined the others."""
    for name, value in (("WORLD_SIZE", 3), ("RANK", 1), ("LOCAL_RANK", 1)):
        monkeypatch.setenv(name, str(value))
    return monkeypatch


def deterministic(folder: Path) -> Path:
    """A protocol with parts of unequal size: 10 images are batches of 7 and 3. Adam would make much of the smallest
    differences. Its recipe has all that looks at gradients, weights and pixels of more than one process."""
    recipe = '[recipe]\nschedule = "poly"\nclip_norm = 1.0\nema = 0.5\n'
    write_protocol(folder, SHORT + recipe)
    with (folder / "deeplab.toml").open("a") as file:
        file.write('[recipe]\nlabel_smoothing = 0.1\nclass_weights = "effective"\nbackbone_lr = 0.5\n')
    for file in folder.glob("[!p]*.toml"):
        text = re.sub("batch_size = .*", "batch_size = 7", file.read_text())
        file.write_text(re.sub("optimizer = .*", 'optimizer = "sgd"', text))
    return folder


def promotions(protocol: str) -> list[tuple[Path, ModelCard]]:
    return [(one.folder, one.card) for one in models.promoted(protocol)]


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return sum(float((one[name].double() - other[name].double()).square().sum()) for name in one) ** 0.5


@pytest.mark.slow
def test_two_processes_come_to_what_one_comes_to(
    storage: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together.without_chance(monkeypatch)
    options = ["--protocol", str(deterministic(tmp_path / "small")), "--data", str(drawn), "--device", "cpu"]
    assert search.main([*options, "--quiet"]) == 0
    twin = shutil.copytree(storage, tmp_path / "twin")
    assert promote.main([*options, "--quiet"]) == 0
    alone = promotions("small")

    monkeypatch.setenv("SEGBENCH_STORAGE", str(twin))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "tests.together"]
    told = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert told.returncode == 0, told.stderr
    assert "rank 0" in told.stdout
    assert "rank 1" in told.stdout
    assert told.stdout.count("promoted models of small") == told.stdout.count("next:  ") == 1
    assert "segbench" not in told.stderr

    assert [card.architecture for _, card in alone] == ["deeplab", "mask2former"]
    for (folder, one), (other_folder, other) in zip(alone, promotions("small"), strict=True):
        assert (other.device.kind, other.device.processes) == ("cpu", 2)
        assert other.speed.device.processes == one.device.processes == 1
        assert other.best.epoch == one.best.epoch
        assert other.last.lr == one.last.lr
        for name in ("train_loss", "val_loss", "val_nll", "miou", "pixel_accuracy"):
            assert getattr(other.last, name) == pytest.approx(getattr(one.last, name), rel=1e-4), name
        for name in ("grad_norm", "grad_norm_max"):  # unscaled, they would differ by a factor of two
            assert getattr(other.last, name) == pytest.approx(getattr(one.last, name), rel=0.01), name
        weights, others = (load_file(where / "last.safetensors") for where in (folder, other_folder))
        untrained = architectures.create(one.architecture, 8, "random", one.model, one.seed)[0].state_dict()
        # Training magnifies rounding: initial weights changed by one part in 10 million end 0.4 % of the way apart.
        assert distance(weights, others) < 0.01 * distance(weights, untrained)
        assert np.load(other_folder / "confusions.npz")["confusions"].sum() == 8 * 32 * 64
        mlflow = tracking.client()
        steps = [metric.step for metric in mlflow.get_metric_history(other.run_id, "miou")]
        assert steps == [1, 2]
        experiment = mlflow.get_run(other.run_id).info.experiment_id
    assert len(mlflow.search_runs([experiment], "tags.kind = 'promotion'")) == 2


def test_the_shares_of_a_batch(group: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 3, 7, 8):
        batch = torch.arange(number)
        shares, images = [], []
        for rank in range(3):
            group.setenv("RANK", str(rank))
            own, share = global_batch.part(batch)
            assert len(own) > 0
            shares.append(share)
            images.append(own)
        assert sum(shares) == pytest.approx(1)
        if number >= 3:
            assert torch.equal(torch.cat(images), batch)
        else:  # as if each were alone
            assert all(torch.equal(own, batch) for own in images)


def test_search_is_one_process(group: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="search runs in one process, but torchrun or accelerate started 3; use --w"):
        search.main(["deeplab", "--protocol", "demo"])


def test_what_several_processes_cannot_do(group: pytest.MonkeyPatch, protocol: Path) -> None:
    where = ["deeplab", "--protocol", str(protocol), "--quiet"]
    with pytest.raises(UserError, match="--compile is for one process; 3 were started"):
        promote.main([*where, "--compile"])
    with pytest.raises(UserError, match="--device cuda:1 is for one process; 3 were started"):
        promote.main([*where, "--device", "cuda:1"])
    group.setenv("WORLD_SIZE", "9")
    with pytest.raises(UserError, match=r"deeplab.toml has batch_size 8, which 9 processes cannot share; start at mo"):
        promote.main(where)


def test_accelerate_may_be_missing(group: pytest.MonkeyPatch) -> None:
    group.setitem(sys.modules, "accelerate", None)
    with (
        pytest.raises(UserError, match=r"need accelerate: pip install 'segbench\[cluster\]'"),
        process_group.joined("cpu"),
    ):
        pass


def test_one_process_speaks(group: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        terminal.warn("strange")
        terminal.banner("drawn")
        raise UserError("wrong")

    assert terminal.run(fail) == 2
    assert capfd.readouterr() == ("", "")
    group.setenv("RANK", "0")
    assert terminal.run(fail) == 2
    assert capfd.readouterr().err == "segbench: warning: strange\nsegbench: error: wrong\n"


def test_whether_a_batch_is_sharded_is_the_models_own_matter() -> None:
    """Two models in one process do not share it, and it ends with the block, whatever happens inside."""
    models_ = [architectures.create("deeplab", 8, "random", {"size": "tiny"}, 0)[0] for _ in range(2)]
    before = {name: value.data_ptr() for name, value in models_[0].state_dict(keep_vars=True).items()}
    for model in models_:
        global_batch.share_norms(model, torch.device("cpu"))
    norms = [[m for m in model.modules() if isinstance(m, nn.BatchNorm2d)] for model in models_]
    assert {type(norm) for norm in norms[0]} == {global_batch._Elsewhere}
    assert {name: value.data_ptr() for name, value in models_[0].state_dict(keep_vars=True).items()} == before
    with contextlib.suppress(KeyError), global_batch.sharded(models_[0], True):
        assert [model.is_sharded for model in models_] == [True, False]
        assert [{norm.is_sharded for norm in each} for each in norms] == [{True}, {False}]
        raise KeyError
    assert not models_[0].is_sharded
    assert not any(norm.is_sharded for norm in norms[0])
    with global_batch.sharded(models_[0], False):
        assert not models_[0].is_sharded
