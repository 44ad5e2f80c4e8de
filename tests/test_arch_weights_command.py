"""`python -m segbench.weights`: what there is, what is here, and what is fetched."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from segbench import architectures, weights
from segbench.architectures.parts import published
from segbench.core.errors import UserError
from segbench.runtime import options


@pytest.fixture(autouse=True)
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights on this machine, and a terminal as wide as the table."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(published, "_in_package", lambda name: None)
    monkeypatch.setenv("COLUMNS", "250")
    return tmp_path / "checkpoints"


def test_all_are_listed_with_licence_and_digest(nothing_cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = nothing_cached / "lraspp_mobilenet_v3_large-d234d4ea.pth"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    assert weights.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in architectures.names():
        for size, checkpoint in architectures.checkpoints(name).items():
            (line,) = (line for line in lines if line.split()[:2] == [name, size])
            assert checkpoint.name in line
            assert checkpoint.terms in line
            assert ("not here" in line) == (name != "lraspp")
    assert any(hashlib.sha256(b"weights").hexdigest()[:12] in line for line in lines)


def test_what_is_missing_is_fetched_after_its_licence_is_said(
    nothing_cached: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(address: str, path: str, *_: object, **__: object) -> None:
        assert "licence BSD-3-Clause" in capsys.readouterr().out
        Path(path).write_bytes(address.encode())

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    weights.main(["lraspp", "--fetch"])
    assert "not here" not in capsys.readouterr().out
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("fetched twice"))
    weights.main(["lraspp", "--fetch"])


def test_without_a_network_or_an_architecture_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(UserError, match=r"cannot be downloaded \(no network\)"):
        weights.main(["lraspp", "--fetch"])
    with pytest.raises(UserError, match="no architecture 'unet'; architectures: deeplab"):
        weights.main(["unet"])


def test_weights_that_forbid_commercial_use_are_downloaded_only_if_that_is_accepted(
    nothing_cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(options.LICENCE_VARIABLE, "")
    fetched: list[str] = []

    def from_hub(place: str) -> Path:
        fetched.append(place)
        return nothing_cached

    monkeypatch.setattr(published, "_from_hub", from_hub)
    with pytest.raises(UserError, match="not for commercial use; if you accept it, add --accept-licence"):
        weights.main(["mask2former", "--fetch"])
    with pytest.raises(UserError, match="not for commercial use; if you accept it, add --accept-licence"):
        architectures.create("mask2former", 8, "pretrained", {}, 0)
    assert not fetched
    weights.main(["mask2former", "--fetch", "--accept-licence"])
    assert fetched


def test_the_table_in_the_readme_is_that_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    """If it fails, put what `python -m segbench.weights --markdown` prints between the marks in README.md."""
    readme = (Path(weights.__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    _, _, rest = readme.partition("<!-- architectures: python -m segbench.weights --markdown -->\n")
    assert weights.main(["--markdown"]) == 0
    assert rest.partition("<!-- end -->")[0] == capsys.readouterr().out
    assert [name for name in architectures.names() if f"| `{name}` |" not in rest] == []
