"""Folders that take no files, and disks that are slow, full, or not for frames."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from live_bcdi.doctor import disk
from live_bcdi.transport.hdf5 import FrameWriter


def one(found, status, *words):
    assert [finding.status for finding in found] == [status], found
    for word in words:
        assert word in found[0].what
    assert found[0].do or status == "ok"


def test_a_folder_that_is_there_or_can_be_made(tmp_path):
    one(disk.room(tmp_path), "ok", str(tmp_path))
    one(disk.room(tmp_path / "not" / "yet"), "ok", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_nothing(tmp_path):
    """/proc: whoever we are."""
    from pathlib import Path

    one(disk.room(Path("/proc/runs")), "problem", "Nothing can be written to /proc")
    (tmp_path / "runs").write_text("mine")
    one(disk.room(tmp_path / "runs"), "problem", "is a file")


@pytest.mark.parametrize(
    ("free_gb", "files", "status", "word"),
    [
        (0.5, 10**6, "problem", "0.5 GB left"),
        (10, 10**6, "warning", "10.0 GB left"),
        (500, 900, "problem", "takes 900 more files"),
        (500, 20_000, "warning", "takes 20000 more files"),
    ],
)
def test_a_disk_that_is_nearly_full(tmp_path, monkeypatch, free_gb, files, status, word):
    full = SimpleNamespace(f_bavail=free_gb * 1e6, f_frsize=1000, f_favail=files, f_files=10**7)
    monkeypatch.setattr(disk.os, "statvfs", lambda folder: full)
    one(disk.room(tmp_path), status, word)


@pytest.fixture
def measured(tmp_path):
    """Ten frames of noise at ten a second, which do not compress: their bytes on disk."""
    (tmp_path / "frames").mkdir()
    images = np.random.default_rng(0).integers(0, 2**31 - 1, (10, 64, 64), dtype=np.int32)
    with FrameWriter(tmp_path / "frames" / "S1.h5", (64, 64), np.int32) as writer:
        for index, image in enumerate(images):
            writer.append(image, angle_deg=0.0, timestamp_s=100 + index / 10)
    with h5py.File(tmp_path / "frames" / "S1.h5") as file:
        return file["/entry/data/data"].id.get_storage_size()


def test_the_rate_of_the_last_scan(tmp_path, measured):
    (tmp_path / "frames" / "torn.h5").write_bytes(b"no HDF5")
    pace = disk.last_pace(tmp_path)
    assert pace.file.name == "S1.h5"
    assert pace.on_disk_s == pytest.approx(measured)  # ten frames, ten a second: what they hold, each second
    assert pace.raw_s == pytest.approx(10 * 64 * 64 * 4)


def test_a_disk_that_is_slower_than_the_detector(tmp_path, measured, monkeypatch):
    pace = disk.last_pace(tmp_path)
    for bytes_s, status in ((0.9 * measured, "problem"), (1.2 * measured, "warning"), (20.0 * measured, "ok")):
        monkeypatch.setattr(disk, "write_speed", lambda folder, bytes_s=bytes_s: bytes_s)
        one(disk.speed(tmp_path, pace), status, "S1.h5 needed")
    assert disk.last_pace(tmp_path / "nowhere") is None
    one(disk.speed(tmp_path, None), "ok", "no scan")


def test_a_speed_is_measured_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "WRITE_BYTES", 2 * disk.PIECE_BYTES)
    assert disk.write_speed(tmp_path) > 0
    assert list(tmp_path.iterdir()) == []


def test_growing_files_and_locks_by_two_processes(tmp_path):
    one(disk.growing_files(tmp_path), "ok", "SWMR")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot(tmp_path, monkeypatch):
    said = {"swmr": (1, "frame 0 did not appear to a reader in 3 s"), "lock": (-1, "")}
    monkeypatch.setattr(disk, "probe", lambda arguments, limit_s: said[arguments[0]])
    first, second = disk.growing_files(tmp_path)
    assert (first.status, second.status) == ("problem", "problem")
    assert "frame 0 did not appear" in first.what
    assert "no end in" in second.what
    assert list(tmp_path.iterdir()) == []
