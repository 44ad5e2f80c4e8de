"""How much memory is left, within every limit that is set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from segbench.runtime import memory

GB = 10**9


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the control groups of a machine with 100 GB to give."""
    monkeypatch.setattr(memory, "_OWN", tmp_path / "own")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * GB))
    return tmp_path / "groups"


def group(folder: Path, values: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n")


def test_without_control_groups_the_machine_decides(machine: Path) -> None:
    assert memory.available() == 100 * GB


def test_a_group_and_those_above_it(machine: Path) -> None:
    machine.with_name("own").write_text("0::/jobs/one\n")
    stat = f"anon 5\nactive_file {GB}\ninactive_file {GB}"
    group(machine / "jobs/one", {"memory.max": "max", "memory.current": 3 * GB, "memory.stat": stat})
    assert memory.available() == 100 * GB
    group(machine / "jobs", {"memory.max": 8 * GB, "memory.current": 7 * GB, "memory.stat": stat})
    assert memory.available() == 3 * GB
    group(machine / "jobs/one", {"memory.max": 4 * GB})
    assert memory.available() == 3 * GB
    group(machine / "jobs/one", {"memory.max": 2 * GB})
    assert memory.available() == GB
    group(machine / "jobs/one", {"memory.max": 1})  # lowered below what is used
    assert memory.available() == 0


def test_groups_of_version_1_inside_a_container(machine: Path) -> None:
    machine.with_name("own").write_text("5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n")
    stat = "active_file 9\ninactive_file 9\ntotal_active_file 500000000\ntotal_inactive_file 0"
    values = {"memory.limit_in_bytes": 2**63 - 4096, "memory.usage_in_bytes": GB, "memory.stat": stat}
    group(machine / "memory", values)
    assert memory.available() == 100 * GB
    group(machine / "memory", {"memory.limit_in_bytes": 4 * GB})
    assert memory.available() == 3.5 * GB


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_the_address_space_is_a_limit() -> None:
    code = (
        "import resource, psutil; from segbench.runtime import memory\n"
        "limit = psutil.Process().memory_info().vms + 200_000_000\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "assert 100_000_000 < memory.available() <= 200_000_000, memory.available()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
