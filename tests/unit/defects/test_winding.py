"""Singularities of analytic dislocations, and of none."""

from itertools import pairwise

import numpy as np
import pytest

from live_bcdi.defects import count_singularities, phase_winding
from live_bcdi.sim.parts import Dislocation
from live_bcdi.types import ScanError

SPACING = 2.35  # angstrom
H = (0.0, 0.0, 2 * np.pi / SPACING)


def crystal(*lines, n=40, radius=15.0, noise=0.0, seed=0):
    """A ball with dislocations, a voxel a nanometre; noise of that standard deviation in the amplitude's unit."""
    points = np.stack(np.meshgrid(*[np.arange(n) - n // 2.0] * 3, indexing="ij"), axis=-1)
    support = np.linalg.norm(points, axis=-1) < radius
    h = np.array(H)
    u = sum((each.along_angstrom(points, h / np.linalg.norm(h)) for each in lines), np.zeros(support.shape))
    random = np.random.default_rng(seed)
    grain = noise * (random.normal(size=u.shape) + 1j * random.normal(size=u.shape)) / np.sqrt(2)
    return support * (np.exp(-1j * np.linalg.norm(h) * u) + grain), support


def screw(sign=1.0, x=3.3, y=1.2):
    return Dislocation(point_nm=(x, y, 0.0), line=(0.0, 0.0, 1.0), burgers_angstrom=(0.0, 0.0, sign * SPACING))


def edge():
    """Along y, with the half plane's b along h."""
    return Dislocation(point_nm=(-2.4, 0.0, 3.3), line=(0.0, 1.0, 0.0), burgers_angstrom=(0.0, 0.0, SPACING))


def by_brute_force(density, support, axis, corner):
    """The sum of wrapped steps once about a loop, over 2 pi."""
    b, c = np.eye(3, dtype=int)[(axis + 1) % 3], np.eye(3, dtype=int)[(axis + 2) % 3]
    path = [tuple(corner + step) for step in (0 * b, b, b + c, c, 0 * b)]
    if any(max(place) >= density.shape[0] or not support[place] for place in path):
        return 0
    total = sum(np.angle(density[there] * np.conj(density[here])) for here, there in pairwise(path))
    return round(total / (2 * np.pi))


def test_winding_is_the_sum_of_the_wrapped_steps_about_a_loop():
    random = np.random.default_rng(2)
    density = random.normal(size=(7, 7, 7)) + 1j * random.normal(size=(7, 7, 7))
    support = random.random((7, 7, 7)) < 0.9
    winding = phase_winding(density, support)
    assert np.count_nonzero(winding) > 100
    for axis in range(3):
        for corner in np.ndindex(winding.shape[1:]):
            assert winding[(axis, *corner)] == by_brute_force(density, support, axis, np.array(corner))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_screw_along_z_has_one_loop_in_each_plane_at_its_place_of_the_sign_of_minus_h_dot_b(sign):
    winding = phase_winding(*crystal(screw(sign)))
    where = np.argwhere(winding)
    assert (where[:, 0] == 2).all()
    assert (where[:, 1:3] == [20 + 3, 20 + 1]).all()
    assert set(winding[winding != 0]) == {-sign}
    # the chord at (3.3, 1.2) of a ball of 15, less what has not four corners inside
    assert 2 * np.sqrt(15**2 - 3.3**2 - 1.2**2) - 3 < len(where) < 2 * np.sqrt(15**2 - 3.3**2 - 1.2**2)


def test_an_edge_dislocation_winds_about_its_own_line():
    winding = phase_winding(*crystal(edge()))
    where = np.argwhere(winding)
    assert (where[:, 0] == 1).all()
    assert (where[:, [1, 3]] == [20 - 3, 20 + 3]).all()
    assert set(winding[winding != 0]) == {-1}


def test_no_line_ends_inside_the_crystal():
    """Of noise, which is all singularities: what goes into a cube comes out of it."""
    random = np.random.default_rng(5)
    density = random.normal(size=(12, 12, 12)) + 1j * random.normal(size=(12, 12, 12))
    winding = phase_winding(density, np.ones(density.shape, bool)).astype(int)
    inner = (slice(0, -1),) * 3
    out = sum(np.diff(winding[a], axis=a)[tuple(slice(0, 11) for _ in range(3))] for a in range(3))
    assert np.count_nonzero(winding[0][inner]) > 100
    assert not out[:-1, :-1, :-1].any()


def test_singularities_are_counted_in_noise_and_not_in_a_crystal_without_them():
    for seed in range(3):
        assert count_singularities(*crystal(noise=0.7, seed=seed)) == 0
        chord = 2 * np.sqrt(15**2 - 3.3**2 - 1.2**2)
        assert chord - 8 < count_singularities(*crystal(screw(), noise=0.7, seed=seed)) < 1.2 * chord


def test_a_core_that_the_support_leaves_out_is_found_all_the_same():
    density, support = crystal(screw(), noise=0.1)
    x, y, _ = np.indices(support.shape) - 20
    hollow = support & (np.hypot(x - 3.3, y - 1.2) > 1.5)
    assert not phase_winding(density * hollow, hollow).any()
    assert count_singularities(density * hollow, hollow) == count_singularities(*crystal(screw()))


def test_the_crystals_skin_and_an_empty_support_have_none():
    density, support = crystal(screw(x=13.3, y=0.4))
    assert phase_winding(density, support).any()
    assert count_singularities(density, support) == 0
    assert count_singularities(density, np.zeros_like(support)) == 0


def test_what_is_no_volume_with_its_support_is_refused():
    with pytest.raises(ScanError, match="its support"):
        phase_winding(np.ones((4, 4, 4), complex), np.ones((4, 4, 5), bool))
