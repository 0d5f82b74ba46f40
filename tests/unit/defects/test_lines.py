"""Dislocation lines against those that were put in: place, length, sense."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from live_bcdi.defects import find_lines
from live_bcdi.defects.lines import Line, _told_apart
from live_bcdi.types import ScanError

VOXEL_NM, RADIUS_NM = 5.0, 75.0
CASES = {
    "screw": dict(point=(17, -8, 0), way=(0, 0, 1)),
    "edge": dict(point=(0, 12, 21), way=(1, 0.4, 0)),
    "mixed": dict(point=(-20, 9, 4), way=(1, -1, 1), across=(1.2, 0.3)),
    "the other way": dict(point=(-20, 9, 4), way=(1, -1, 1), turns=-1.0),
}


@pytest.mark.parametrize("noise", [0.0, 0.7])
@pytest.mark.parametrize("case", CASES)
def test_a_line_is_found_at_its_place_with_its_length_and_sense(ball, dislocation, case, noise):
    true = dislocation(**CASES[case])
    (found,) = find_lines(ball(true, noise=noise))
    assert not found.closed
    assert true.distance_nm(found.points_nm).max() < VOXEL_NM
    way, point = np.array(true.line), np.array(true.point_nm)
    aside = point - (point @ way) * way
    chord = 2 * np.sqrt(RADIUS_NM**2 - aside @ aside)
    # up to a voxel at each end has no loop with four corners in the crystal, of which one voxel is given back
    assert chord - 2 * VOXEL_NM < found.length_nm < chord + VOXEL_NM
    # phi = -h.u: right-handed about the line it turns by -h.b
    turns_about_line = -np.sign(true.burgers_angstrom[2])
    np.testing.assert_allclose(found.sign * np.array(found.direction), turns_about_line * way, atol=0.12)
    assert max(found.direction, key=abs) > 0
    np.testing.assert_allclose(found.depth_nm, RADIUS_NM - np.linalg.norm(aside), atol=1.5 * VOXEL_NM)


def test_a_dipole_is_two_lines_of_opposite_sign(ball, dislocation):
    found = find_lines(ball(dislocation((25, 0, 0)), dislocation((-25, 0, 0), turns=-1.0), noise=0.5))
    assert {(line.sign, float(np.sign(line.points_nm[:, 0].mean()))) for line in found} == {(-1, 1.0), (1, -1.0)}


def test_lines_of_opposite_sign_that_pass_nearer_than_the_smoothing_tells_apart_are_two(ball, dislocation):
    """Skew, two voxels apart below the surface: smoothed, each goes up one and back down the other."""
    one = dislocation((0, 0, 0), (0, 0.3, 1))
    other = dislocation((9, 14, 45), (0.35, -0.25, 1), turns=-1.0)
    found = find_lines(ball(one, other, noise=0.3))
    assert [line.sign for line in sorted(found, key=lambda line: -line.sign)] == [1, -1]
    for true, sign in ((one, -1), (other, 1)):
        (line,) = (each for each in found if each.sign == sign)
        assert true.distance_nm(line.points_nm).mean() < VOXEL_NM


def along(*corners):
    """A line from corner to corner, sixty points to each."""
    legs = [np.linspace(one, other, 60) for one, other in pairwise(corners)]
    points = np.concatenate(legs)
    return Line(
        points_nm=points,
        length_nm=float(len(points)),
        direction=(0.0, 0.0, 1.0),
        sign=1,
        closed=False,
        depth_nm=9.0,
    )


def test_a_line_that_is_lost_when_seen_finely_is_kept_where_others_are_told_apart():
    """Two that cross, joined to two that turn back, and a short one elsewhere of which the finer look has nothing,
    or a piece. Where it has all, that is taken, and noise never."""
    joined = along((-30, 0, -60), (0, 0, -3), (30, 0, -60)), along((-30, 0, 60), (0, 0, 3), (30, 0, 60))
    apart = along((-30, 0, -60), (30, 0, 60)), along((30, 0, -60), (-30, 0, 60))
    short, piece = (along((0, 60, 0), (0, 60, end)) for end in (28, 9))
    noise = along((0, -50, 0), (0, -50, 20))
    whole = along((1, 60, 0), (1, 60, 28))
    for finer, right in (
        ([*apart], [*apart, short]),
        ([*apart, piece, noise], [*apart, short]),
        ([*apart, whole, noise], [*apart, whole]),
        ([apart[0], whole], [*joined, short]),
        ([whole, noise], [*joined, short]),
    ):
        found = _told_apart([*joined, short], finer, VOXEL_NM)
        assert {id(line) for line in found} == {id(line) for line in right}


def test_a_loop_from_the_surface_and_back_is_one_line_however_finely_it_is_seen(ball):
    """The phase of (rho - R) + i z about a middle on the surface turns once about the half ring within."""

    def half_ring(points):
        return np.angle(np.hypot(points[..., 0] - 70, points[..., 1]) - 40 + 1j * points[..., 2])

    (found,) = find_lines(ball(phase=half_ring, noise=0.3))
    assert not found.closed
    assert found.length_nm > 80


def test_a_double_burgers_vector_is_two_lines_of_one_sign(ball, dislocation):
    assert [line.sign for line in find_lines(ball(dislocation((7, 3, 0), turns=2.0)))] == [-1, -1]


def test_a_dislocation_loop_closes(ball):
    """The phase of (rho - R) + i z turns once about the ring of radius R."""

    def ring(points):
        return np.angle(np.hypot(points[..., 0], points[..., 1]) - 40 + 1j * points[..., 2])

    (found,) = find_lines(ball(phase=ring))
    assert found.closed
    assert found.length_nm == pytest.approx(2 * np.pi * 40, rel=0.06)
    np.testing.assert_allclose(np.hypot(*found.points_nm[:, :2].T), 40, atol=VOXEL_NM)
    np.testing.assert_allclose(found.direction, (0, 0, 1), atol=0.01)


def test_strain_a_wall_and_noise_are_no_dislocations(ball):
    def strained(points):
        x, y, z = np.moveaxis(points / RADIUS_NM, -1, 0)
        return 3 * np.sin(2 * x) * np.cos(1.5 * y) + 2 * z**2 + np.where(x + 0.3 * z > 0.1, 2.0, 0)

    for seed in range(3):
        assert find_lines(ball(phase=strained, noise=0.5, seed=seed)) == []


def test_a_core_without_amplitude_is_no_gap(ball, dislocation):
    true = dislocation((17, -8, 0))
    image = ball(true, noise=0.2)
    points = np.stack(np.meshgrid(*[(np.arange(40) - 20) * VOXEL_NM] * 3, indexing="ij"), axis=-1)
    hollow = image.support & (true.distance_nm(points) > 1.5 * VOXEL_NM)
    (found,) = find_lines(replace(image, density=image.density * hollow, support=hollow))
    assert true.distance_nm(found.points_nm).mean() < VOXEL_NM


def test_what_is_short_or_shallow_is_left_out(ball, dislocation):
    image = ball(dislocation((0, 66, 0)))
    (found,) = find_lines(image, margin_voxels=0.5)
    assert found.depth_nm < 3 * VOXEL_NM
    assert find_lines(image, margin_voxels=3) == []
    assert find_lines(image, margin_voxels=0.5, least_voxels=30) == []


def test_an_empty_support_is_refused(ball):
    image = ball()
    with pytest.raises(ScanError, match="support is empty"):
        find_lines(replace(image, support=np.zeros_like(image.support)))
