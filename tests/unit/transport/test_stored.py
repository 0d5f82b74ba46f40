"""A result as arrays and a table, and back: nothing is lost but the rounding of complex numbers."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.transport.stored import result_arrays, result_from, result_metadata
from live_bcdi.types import ScanError

PAGE = Path(__file__).resolve().parents[3] / "docs" / "tiled.md"


def documented(kind):
    """The names in a listing of the page: before the two spaces, between commas."""
    block = re.search(rf"{kind}[^\n]*:\n\n```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return {name for line in block[1].splitlines() for name in line.split("  ")[0].split(", ")}


def test_the_page_lists_what_is_stored(result):
    arrays, table = stored(result)
    assert documented("arrays") == set(arrays)
    of_the_run = {"run", "name", "raw", "file", "finished", "complete"}
    assert documented("metadata") >= set(table) | of_the_run


def stored(result):
    """As a server gives it back: the table through JSON."""
    arrays = {name: values for name, (values, _) in result_arrays(result).items()}
    return arrays, json.loads(json.dumps(result_metadata(result), allow_nan=False))


def test_round_trip(result):
    back = result_from(*stored(result))
    for name in ("density", "support"):
        np.testing.assert_array_equal(getattr(back, name), getattr(result, name))
    for name in ("chi", "chi_starts", "recipe", "seed", "outcome", "provenance"):
        assert getattr(back, name) == getattr(result, name), name
    np.testing.assert_equal(dict(back.metrics), dict(result.metrics))
    for field in ("intensity", "mask", "centre", "q_centre_invA", "q_steps_invA"):
        np.testing.assert_array_equal(getattr(back.volume, field), getattr(result.volume, field))


def test_round_trip_of_the_lab_image(result):
    lab, back = result.lab, result_from(*stored(result)).lab
    np.testing.assert_allclose(back.density, lab.density, rtol=1e-6)
    assert back.density.dtype == np.complex64
    assert (back.voxel_nm, back.origin_nm) == (lab.voxel_nm, lab.origin_nm)
    fields = ("support", "displacement_angstrom", "strain", "displacement_std_angstrom", "strain_std")
    for field in (*fields, "q_centre_invA"):
        np.testing.assert_array_equal(getattr(back, field), getattr(lab, field))


def test_round_trip_of_what_the_starts_agree_on(result):
    back = result_from(*stored(result))
    assert back.resolution.half_nm == result.resolution.half_nm
    assert np.isnan(back.resolution.resolution_nm)
    np.testing.assert_array_equal(back.resolution.prtf, result.resolution.prtf)
    np.testing.assert_allclose(back.agreement.mode, result.agreement.mode, rtol=1e-6)
    for field in ("weights", "amplitude_std", "phase_std_rad"):
        np.testing.assert_array_equal(getattr(back.agreement, field), getattr(result.agreement, field))
    correlation, expected = back.agreement.correlation, result.agreement.correlation
    np.testing.assert_array_equal(correlation.voxels, expected.voxels)
    np.testing.assert_array_equal(correlation.correlation, expected.correlation)
    known = {name: nm for name, nm in expected.resolution_nm.items() if np.isfinite(nm)}
    assert {name: nm for name, nm in correlation.resolution_nm.items() if np.isfinite(nm)} == known
    assert set(correlation.resolution_nm) == set(expected.resolution_nm)


def test_a_result_without_geometry_and_of_one_start(result):
    bare = replace(result, volume=None, lab=None, resolution=None, agreement=None)
    back = result_from(*stored(bare))
    assert (back.volume, back.lab, back.resolution, back.agreement) == (None, None, None, None)


def test_a_result_from_before_the_intensity_was_stored(result):
    arrays, table = stored(result)
    for name in ("intensity", "mask", "fsc_voxels"):
        del arrays[name]
    for key in ("centre", "q_centre_invA", "q_steps_invA", "origin_nm", "resolution_half_nm", "fsc_resolution_nm"):
        del table[key]
    back = result_from(arrays, table)
    assert back.volume is None
    assert back.lab.origin_nm == (0.0, 0.0, 0.0)
    assert back.agreement.correlation is None
    np.testing.assert_array_equal(back.lab.strain, result.lab.strain)


@pytest.mark.parametrize("key", ["seed", "recipe", "voxel_nm", "metrics", "chi_starts"])
def test_what_is_missing_is_named(result, key):
    arrays, table = stored(result)
    del table[key]
    with pytest.raises(ScanError, match=f"not whole: .*{key}"):
        result_from(arrays, table)
