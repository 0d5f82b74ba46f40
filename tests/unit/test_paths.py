"""Path lengths against boxes whose answer is a formula, upright and turned."""

import numpy as np
import pytest

from live_bcdi.paths import filling, path_lengths_nm

VOXEL_NM = 8.0
N, FINE = 44, 4
HALF = np.array([12.25, 14.5, 10.75])  # in voxels: faces within them, where FINE parts of each tell exactly


def box(turn):
    """How full voxels of an array are of a box, turned about z."""
    fine = (np.arange(N * FINE) - N // 2 * FINE - (FINE - 1) / 2) / FINE
    x, y, z = np.meshgrid(fine, fine, fine, indexing="ij")
    inside = np.abs(np.cos(turn) * x + np.sin(turn) * y) < HALF[0]
    inside &= np.abs(np.cos(turn) * y - np.sin(turn) * x) < HALF[1]
    inside &= np.abs(z) < HALF[2]
    return inside.reshape(N, FINE, N, FINE, N, FINE).mean(axis=(1, 3, 5)).astype(np.float32)


def to_the_face_nm(direction, turn):
    """From the middle of each voxel."""
    places = np.stack(np.meshgrid(*[np.arange(N) - N // 2] * 3, indexing="ij"), -1).astype(float)
    rotation = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    along, place = rotation @ direction, places @ rotation.T
    with np.errstate(divide="ignore", invalid="ignore"):
        lengths = (HALF * np.sign(along) - place) / along
    return VOXEL_NM * np.where(np.isfinite(lengths), lengths, np.inf).min(axis=-1)


DIRECTIONS = [(0, 0, 1), (0, -1, 0), (1, 0, 0), (0.3, -0.5, 0.8), (-0.7, 0.6, 0.2), (-1, 1, -1)]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_lengths_in_an_upright_box_are_exact(direction):
    unit = np.array(direction, float) / np.linalg.norm(direction)
    filled = box(0.0)
    found = path_lengths_nm(filled, unit, VOXEL_NM)
    assert np.isnan(found[filled == 0]).all()
    error = (found - to_the_face_nm(unit, 0.0))[filled == 1]
    # a ray that leaves where two partly filled faces meet, a few in a hundred, goes through the filling of the
    # edge # between them
    exact = np.abs(error) < 1e-3
    assert exact.all() if np.count_nonzero(unit) == 1 else exact.mean() > 0.85
    assert np.abs(error).mean() < 0.03 * VOXEL_NM


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_partly_filled_edges_are_much_better_than_whole_voxels(direction):
    unit = np.array(direction, float) / np.linalg.norm(direction)
    filled = box(0.4)
    expected = to_the_face_nm(unit, 0.4)
    error, coarse = (
        (path_lengths_nm(each, unit, VOXEL_NM) - expected)[filled == 1] for each in (filled, filled > 0.5)
    )
    assert abs(error.mean()) < 0.04 * VOXEL_NM
    assert error.std() < 0.2 * VOXEL_NM
    assert error.std() < 0.7 * coarse.std() or coarse.std() < 1e-3


def test_voxels_need_not_be_cubes():
    slab = np.zeros((3, 40, 40), bool)
    slab[:, 5:35, 5:35] = True
    unit = np.array([0.0, 0.6, 0.8])
    found = path_lengths_nm(slab, unit, np.array([1.0, 2.0, 8.0]))
    # the middle of voxel (5, 30) is 59 nm of y and 36 nm of z from the faces
    assert found[1, 5, 30] == pytest.approx(36 / 0.8)
    assert found[1, 33, 5] == pytest.approx(3 / 0.6)


def test_a_hole_is_no_material():
    column = np.zeros((5, 5, 20), bool)
    column[2, 2, 2:18] = True
    column[2, 2, 8:12] = False
    found = path_lengths_nm(column, np.array([0.0, 0.0, 1.0]), 10.0)
    assert found[2, 2, 2] == pytest.approx(115)
    assert found[2, 2, 17] == pytest.approx(5)


def test_lengths_are_asked_of_the_support_alone():
    filled = box(0.0)
    found = path_lengths_nm(filled, np.array([0.0, 0.0, 1.0]), VOXEL_NM, support=filled > 0.5)
    assert np.isfinite(found[filled > 0.5]).all() and np.isnan(found[filled <= 0.5]).all()


def test_filling_is_that_of_the_amplitude_at_the_surface_only():
    """Also of a crystal whose amplitude falls inside, as absorption makes it."""
    filled = box(0.3)
    absorbed = np.exp(-np.arange(N) / 60.0)
    density = (filled * absorbed * np.exp(0.7j)).astype(np.complex64)
    found = filling(density, filled > 0.5)
    # at a corner the crystal nearby is not all round: the absorption across five voxels comes in
    assert np.abs(found - filled).max() < 0.12
    assert np.abs(found - filled).mean() < 0.01
    support = np.zeros((8, 8, 8), bool)
    support[4, 4, 4] = True  # all of it is surface
    np.testing.assert_array_equal(filling(np.ones((8, 8, 8), np.complex64), support), support)
