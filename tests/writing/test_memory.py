"""The budget follows what the process really has: the machine's memory and every cgroup above it."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from airflow_provider_ophys.writing.memory import (
    _left_in_cgroups,
    available_cpus,
    available_memory,
)

MIB = 2**20


def make_proc(tmp_path, cgroup, mountinfo):
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup)
    (proc / "mountinfo").write_text(mountinfo)
    return proc


def write(folder, **values):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_version_2_counts_the_tightest_limit_up_the_tree(tmp_path):
    root = tmp_path / "cgroup"
    proc = make_proc(tmp_path, "0::/pod/task\n", f"30 1 0:26 / {root} rw - cgroup2 cgroup2 rw\n")
    write(root / "pod", memory__max=512 * MIB, memory__high=400 * MIB, memory__current=300 * MIB)
    (root / "pod" / "memory.stat").write_text(f"anon 5\ninactive_file {50 * MIB}\n")
    write(root / "pod/task", memory__max="max", memory__high="max", memory__current=10 * MIB)
    assert list(_left_in_cgroups(proc)) == [(root / "pod", 150 * MIB)]


def test_version_1_and_no_limit(tmp_path):
    root = tmp_path / "memory"
    proc = make_proc(
        tmp_path,
        "4:memory:/docker/abc\n3:cpu:/\n",
        f"31 1 0:27 /docker/abc {root} rw - cgroup cgroup rw,memory\n",
    )
    write(root, memory__limit_in_bytes=256 * MIB, memory__usage_in_bytes=100 * MIB)
    assert list(_left_in_cgroups(proc)) == [(root, 156 * MIB)]
    write(root, memory__limit_in_bytes=9223372036854771712)
    assert list(_left_in_cgroups(proc)) == []


def test_a_full_cgroup_leaves_nothing_rather_than_less(tmp_path):
    root = tmp_path / "cgroup"
    proc = make_proc(tmp_path, "0::/task\n", f"30 1 0:26 / {root} rw - cgroup2 cgroup2 rw\n")
    write(root / "task", memory__max=10 * MIB, memory__current=11 * MIB)
    assert list(_left_in_cgroups(proc)) == [(root / "task", 0)]


def test_a_quota_bounds_the_cpus(tmp_path):
    root = tmp_path / "cgroup"
    proc = make_proc(tmp_path, "0::/pod/task\n", f"30 1 0:26 / {root} rw - cgroup2 cgroup2 rw\n")
    everywhere = available_cpus()
    write(root / "pod", cpu__max="max 100000")
    write(root / "pod/task", cpu__max="50000 100000")
    assert available_cpus(proc) == 1
    write(root / "pod/task", cpu__max="6400000 100000")
    assert available_cpus(proc) == everywhere


def test_a_quota_of_version_1_bounds_the_cpus_too(tmp_path):
    root = tmp_path / "cpu"
    proc = make_proc(tmp_path, "4:cpu,cpuacct:/\n", f"31 1 0:27 / {root} rw - cgroup cgroup rw,cpu,cpuacct\n")
    write(root, cpu__cfs_quota_us=100000, cpu__cfs_period_us=100000)
    assert available_cpus(proc) == 1
    write(root, cpu__cfs_quota_us=-1)
    assert available_cpus(proc) == available_cpus()


def test_without_proc_the_machine_alone_counts(tmp_path):
    assert list(_left_in_cgroups(tmp_path)) == []


def test_the_machine_bounds_what_is_available():
    assert 0 < available_memory() <= psutil.virtual_memory().total
    assert 1 <= available_cpus() <= psutil.cpu_count()


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_limit_of_the_process_counts(limit):
    """As `ulimit -v` and `ulimit -d` set it: what the process has already is not available either."""
    code = (
        "import resource\n"
        "from airflow_provider_ophys.writing.memory import available_memory\n"
        f"resource.setrlimit(resource.{limit}, (1536 * 2**20, 1536 * 2**20))\n"
        "print(available_memory())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 256 * MIB < int(run.stdout) < 1536 * MIB


def test_the_peak_is_what_was_allocated_meanwhile():
    # In a process of its own, where nothing that other tests left is given back meanwhile; on a busy machine it
    # may be long before its thread looks.
    code = (
        "import time\n"
        "import numpy as np\n"
        "from airflow_provider_ophys.writing.memory import PeakMemory\n"
        "with PeakMemory() as memory:\n"
        f"    held = np.ones({64 * MIB}, dtype='u1')\n"
        "    end = time.monotonic() + 30\n"
        f"    while memory.peak_bytes < {32 * MIB} and time.monotonic() < end:\n"
        "        time.sleep(0.01)\n"
        "    del held\n"
        "print(memory.peak_bytes)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) == pytest.approx(64 * MIB, rel=0.2)
