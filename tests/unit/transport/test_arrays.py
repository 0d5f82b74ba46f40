"""Patterns in numpy's own files: what cannot be read is said."""

import io
import zipfile

import numpy as np
import pytest

from live_bcdi.transport.arrays import read_pattern
from live_bcdi.types import ScanError

COUNTS = np.random.default_rng(0).poisson(3.0, (8, 8, 8))


def test_what_was_written_comes_back(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, intensity=COUNTS.astype(np.uint16), mask=(COUNTS > 5).astype(int))
    intensity, mask = read_pattern(path)
    np.testing.assert_array_equal(intensity, COUNTS)
    np.testing.assert_array_equal(mask, COUNTS > 5)


def test_a_damaged_archive_is_said(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, intensity=COUNTS)
    damaged = bytearray(path.read_bytes())
    damaged[200:260] = b"\xff" * 60  # in the compressed stream
    path.write_bytes(damaged)
    with pytest.raises(ScanError, match="not an array"):
        read_pattern(path)


def test_an_array_too_large_for_any_memory_is_said(tmp_path):
    path = tmp_path / "a.npy"
    header = io.BytesIO()
    shape = (100000, 100000, 10000)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    path.write_bytes(header.getvalue())
    with pytest.raises(ScanError, match="not an array"):
        read_pattern(path)


def test_a_member_that_is_no_array_is_said(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("intensity", "hello")
    with pytest.raises(ScanError, match="needs real numbers"):
        read_pattern(path)


def test_a_mask_of_words_is_said(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, intensity=COUNTS, mask=np.full(COUNTS.shape, "no"))
    with pytest.raises(ScanError, match="'mask' of booleans"):
        read_pattern(path)
