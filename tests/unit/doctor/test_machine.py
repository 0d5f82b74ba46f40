"""Python, libraries, GPU, threads: each made to fail."""

import sys

import pytest

from live_bcdi.config import PhasingConfig
from live_bcdi.doctor import machine


def statuses(found):
    return [finding.status for finding in found]


def test_an_old_python():
    (told,) = machine.python("3.10.4", ">=3.11")
    assert told.status == "problem"
    assert "3.10.4" in told.what
    assert statuses(machine.python("3.12.1", ">=3.11")) == ["ok"]
    assert statuses(machine.own_python()) == ["ok"]


def test_libraries_that_are_missing_old_or_others():
    wanted = ["h5py>=3.16", "numpy>=2.2", "ophyd-async<0.22,>=0.21", "colorama; sys_platform == 'plan9'"]
    tested = {"h5py": "3.16.0", "numpy": "2.4.6", "ophyd-async": "0.21.3"}
    there = dict(tested)
    (told,) = machine.libraries(wanted, there.get, tested)
    assert (told.status, "All 3 libraries" in told.what) == ("ok", True)
    assert statuses(machine.libraries(wanted, {**there, "numpy": "2.4.9"}.get, tested)) == ["ok"]
    (told,) = machine.libraries(wanted, {**there, "numpy": "2.5.0"}.get, tested)
    assert (told.status, "numpy 2.5.0 (2.4.6)" in told.what) == ("warning", True)
    (told,) = machine.libraries(wanted, {**there, "h5py": "3.2.0"}.get, tested)
    assert (told.status, "h5py 3.2.0 (wanted >=3.16)" in told.what) == ("problem", True)
    (told,) = machine.libraries(wanted, {"h5py": "3.16.0", "numpy": "2.4.6"}.get, tested)
    assert (told.status, "not installed: ophyd-async" in told.what) == ("problem", True)
    assert "constraints.txt" in told.do


def test_our_own_libraries_are_known_and_pinned():
    versions = machine.tested_versions()
    assert {"numpy", "h5py", "ophyd-async", "packaging"} <= set(versions)
    assert machine.installed_version("no-such-package") is None
    assert "problem" not in statuses(machine.own_libraries())


@pytest.mark.parametrize(
    ("device", "driver", "cupy", "status", "word"),
    [
        ("cpu", True, True, "ok", "Not asked for"),
        ("auto", False, False, "ok", "fine"),
        ("cuda", False, False, "problem", "no NVIDIA driver"),
        ("auto", True, False, "warning", "no cupy"),
        ("cuda", True, False, "problem", "no cupy"),
    ],
)
def test_a_gpu_that_is_not_there(device, driver, cupy, status, word):
    (told,) = machine.gpu(PhasingConfig(device=device), driver, cupy)
    assert (told.status, word in told.what) == (status, True)


@pytest.mark.parametrize(
    ("outcome", "status", "word"),
    [
        ((0, ""), "ok", "what the CPU gives"),
        ((1, "a warning\nCUDA driver version is insufficient"), "warning", "used: CUDA driver version"),
        ((-1, ""), "warning", "no end in"),
    ],
)
def test_a_gpu_that_is_tried(monkeypatch, outcome, status, word):
    monkeypatch.setattr(machine, "probe", lambda arguments, limit_s: outcome)
    (told,) = machine.gpu(PhasingConfig(), True, True)
    assert (told.status, word in told.what) == (status, True)


def test_threads_that_are_too_many():
    assert statuses(machine.threads(PhasingConfig(threads=2), None, 4, {"OMP_NUM_THREADS": "1"})) == ["ok"]
    (told,) = machine.threads(PhasingConfig(threads=2), 3, 4, {})
    assert "threads 2 x [jobs] workers 3 are more than the 4 cores" in told.what
    (told,) = machine.threads(PhasingConfig(threads=2), None, 4, {"OMP_NUM_THREADS": "64"})
    assert (told.status, "OMP_NUM_THREADS is 64" in told.what) == ("warning", True)
    assert statuses(machine.threads(PhasingConfig(threads=2), None, 4, {"OMP_NUM_THREADS": "many"})) == ["warning"]


def test_hdf5_with_and_without_its_filter(monkeypatch):
    assert statuses(machine.hdf5()) == ["ok"]
    assert statuses(machine.transforms()) == ["ok"]
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(ModuleNotFoundError):  # which `bounded` tells
        machine.hdf5()
