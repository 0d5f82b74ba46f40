"""Axes and units of what people look at, against the geometry they are from."""

from dataclasses import replace

import numpy as np
import pytest

from live_bcdi import labelled
from live_bcdi.transport.stored import result_arrays, result_metadata


def volume(result, name):
    arrays = result_arrays(result)
    values, about = arrays[name]
    return labelled.volume(name, values, about, result_metadata(result), set(arrays))


def test_the_lab_frame_is_in_nm_from_voxel_n_over_2(result):
    strain = volume(result, "strain")
    assert strain.dims == ("x", "y", "z")
    for axis in "xyz":
        np.testing.assert_allclose(strain[axis], [5.1 * k for k in (-3, -2, -1, 0, 1, 2, 3)])
        assert strain[axis].attrs["units"] == "nm"
    np.testing.assert_array_equal(strain.values, result.lab.strain)
    assert (strain.attrs["units"], strain.attrs["definition"]) == ("1", "d u_h / d x_h")
    assert strain.attrs["ancillary_variables"] == "strain_std"
    assert "ancillary_variables" not in volume(result, "amplitude").attrs


def test_no_spread_is_promised_that_is_not_there(result):
    single = replace(result, agreement=None, lab=replace(result.lab, strain_std=None))
    assert "ancillary_variables" not in volume(single, "strain").attrs


def test_detector_axes_are_reciprocal_to_those_of_the_intensity(result):
    """b_j . g_k = 2 pi delta_jk / N_j, from the coordinates and directions alone."""

    def steps(array):
        found = [(array[axis].values, array[axis].attrs["direction"]) for axis in array.dims]
        return np.array([(values[1] - values[0]) * np.asarray(direction) for values, direction in found])

    density, intensity = volume(result, "density"), volume(result, "intensity")
    assert density.dims == ("rocking", "row", "column")
    assert intensity.dims == ("q_rocking", "q_row", "q_column")
    assert {intensity[axis].attrs["units"] for axis in intensity.dims} == {"1/angstrom"}
    products = 10 * steps(density) @ steps(intensity).T  # nm and 1/angstrom
    assert products == pytest.approx(np.diag(2 * np.pi / np.array([4, 5, 6])), abs=1e-12)
    assert [float(density[axis][n // 2]) for axis, n in zip(density.dims, (4, 5, 6))] == [0, 0, 0]


def test_without_a_geometry_axes_are_voxels(result):
    density = volume(replace(result, volume=None), "density")
    np.testing.assert_array_equal(density["column"], [-3, -2, -1, 0, 1, 2])
    assert density["column"].attrs["units"] == "voxel"


def test_frames_lie_against_the_angle(scan):
    frames = labelled.frames(scan)
    assert frames.dims == ("angle", "row", "column")
    np.testing.assert_array_equal(frames["angle"], scan.angles_deg)
    assert (frames["angle"].attrs["units"], frames["angle"].attrs["circle"]) == ("degree", "theta")
    np.testing.assert_array_equal(frames.sel(angle=scan.angles_deg[3]), scan.intensity[3])
    for name, values in (("monitor", scan.monitor), ("have", scan.have), ("bad_pixels", scan.bad_pixels)):
        np.testing.assert_array_equal(frames[name], values)


def test_a_table_goes_flat_and_without_what_is_none():
    table = {"a": 1, "m": [[1.0, 2.0], [3.0, 4.0]], "b": {"c": 2.5, "d": None, "e": {"1/7": "g"}}, "h": None}
    assert labelled.flat(table) == {"a": 1, "m.0": [1.0, 2.0], "m.1": [3.0, 4.0], "b.c": 2.5, "b.e.1_7": "g"}
