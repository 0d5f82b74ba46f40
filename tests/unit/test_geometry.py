"""Geometry against measured numbers, closed forms, and its own definitions by brute force."""

import json
from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.geometry import (
    bragg_turns_deg,
    chain_matrix,
    d_spacing_angstrom,
    direct_basis_nm,
    pixel_of,
    pixel_place_m,
    q_crystal_invA,
    q_lab_invA,
    q_steps_invA,
    rocking_circle,
    rotation_matrix,
    two_theta_deg,
    wavelength_angstrom,
    with_rocking_angle,
)
from live_bcdi.types import Geometry, Rotation, ScanError


@pytest.fixture
def geometry() -> Geometry:
    """34-ID-C as it stood for S0054, written out here on purpose."""
    return Geometry(
        energy_kev=9.0,
        distance_m=0.5,
        pixel_um=(55.0, 55.0),
        arm_pixel=(128.0, 128.0),
        beam_direction=(0.0, 0.0, 1.0),
        row_direction=(0.0, -1.0, 0.0),
        column_direction=(1.0, 0.0, 0.0),
        sample=(
            Rotation(motor="theta", axis=(0.0, 1.0, 0.0), angle_deg=0.20855),
            Rotation(motor="chi", axis=(0.0, 0.0, -1.0), angle_deg=90.0),
            Rotation(motor="phi", axis=(0.0, 1.0, 0.0), angle_deg=-5.0),
        ),
        arm=(
            Rotation(motor="delta", axis=(0.0, 1.0, 0.0), angle_deg=32.174),
            Rotation(motor="gamma", axis=(-1.0, 0.0, 0.0), angle_deg=12.6346),
        ),
        rocking="theta",
    )


@pytest.mark.parametrize("reading", ["geometry_arm_at_pixel_128_128", "geometry_arm_at_pixel_256_256"])
def test_measured_scan_s0054(shared, geometry, reading):
    """The centre of mass is given to 1e-3 pixel, so q to 2.5e-7 1/Å of 2.69: everything to 1e-6 relative."""
    expected = json.loads((shared / "expected_S0054.json").read_text())
    table = expected[reading]
    at = replace(geometry, arm_pixel=tuple(map(float, table["pixel_of_arm_centre"])))
    _, row, column = expected["peak"]["centre_of_mass"]
    q = q_lab_invA(at, row, column)
    length = table["Q_invA"]
    assert q == pytest.approx(table["q_lab_invA"], abs=1e-6 * length)
    assert chain_matrix(at.sample).T @ q == pytest.approx(table["q_sample_invA"], abs=1e-6 * length)
    assert np.linalg.norm(q) == pytest.approx(length, rel=1e-6)
    assert d_spacing_angstrom(at, row, column) == pytest.approx(table["d_A"], rel=1e-6)
    assert two_theta_deg(at, row, column) == pytest.approx(table["two_theta_deg"], rel=1e-6)

    steps = q_steps_invA(at, expected["scan"]["step_deg"], row, column)
    lengths = [table["dq_rock_invA"], table["dq_row_invA"], table["dq_col_invA"]]
    assert np.linalg.norm(steps, axis=0) == pytest.approx(lengths, rel=1e-6)
    assert _angle_deg(steps[:, 0], steps[:, 1]) == pytest.approx(table["angle_rock_row_deg"], rel=1e-6)
    assert _angle_deg(steps[:, 0], steps[:, 2]) == pytest.approx(table["angle_rock_col_deg"], rel=1e-6)
    voxel_nm = np.linalg.norm(direct_basis_nm(steps, (201, 256, 256)), axis=0)
    assert voxel_nm == pytest.approx(table["direct_voxel_len_nm"], rel=1e-6)


def _angle_deg(a, b):
    return np.rad2deg(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))


def test_wavelength_of_the_copper_k_alpha_line():
    """8.0478 keV is 1.5406 Å (Bearden 1967), known to five digits."""
    assert wavelength_angstrom(8.0478) == pytest.approx(1.5406, abs=5e-5)


def test_rotations_are_right_handed():
    turn = rotation_matrix((0.0, 1.0, 0.0), 90.0)
    assert turn @ [0, 0, 1] == pytest.approx([1, 0, 0], abs=1e-15)
    assert rotation_matrix((1.0, 0.0, 0.0), 90.0) @ [0, 1, 0] == pytest.approx([0, 0, 1], abs=1e-15)
    assert turn.T @ turn == pytest.approx(np.eye(3), abs=1e-15)


def test_chain_turns_the_inside_first():
    outer = Rotation(motor="a", axis=(0.0, 1.0, 0.0), angle_deg=90.0)
    inner = Rotation(motor="b", axis=(0.0, 0.0, 1.0), angle_deg=90.0)
    # the inner circle takes x to y, which the outer leaves alone
    assert chain_matrix([outer, inner]) @ [1, 0, 0] == pytest.approx([0, 1, 0], abs=1e-15)
    assert chain_matrix([inner, outer]) @ [1, 0, 0] == pytest.approx([0, 0, -1], abs=1e-15)


def test_arm_at_zero_sees_no_scattering_at_its_pixel(geometry):
    straight = replace(geometry, arm=())
    assert q_lab_invA(straight, 128, 128) == pytest.approx([0, 0, 0], abs=1e-12)


def test_one_arm_circle_is_two_theta(geometry):
    """With only delta, |q| = 4 pi / lambda sin(delta / 2), towards +x and -z (Bragg's law)."""
    delta = replace(geometry, arm=(replace(geometry.arm[0], angle_deg=30.0),))
    k = 2 * np.pi / wavelength_angstrom(9.0)
    expected = [k * np.sin(np.pi / 6), 0.0, k * (np.cos(np.pi / 6) - 1)]
    assert q_lab_invA(delta, 128, 128) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert two_theta_deg(delta, 128, 128) == pytest.approx(30.0, rel=1e-12)


def test_both_arm_circles_combine_by_their_cosines(geometry):
    """cos(2 theta) = cos(delta) cos(gamma) for perpendicular axes."""
    angles = [np.deg2rad(circle.angle_deg) for circle in geometry.arm]
    expected = np.rad2deg(np.arccos(np.prod(np.cos(angles))))
    assert two_theta_deg(geometry, 128, 128) == pytest.approx(expected, rel=1e-10)


def test_rows_and_columns_go_where_the_configuration_says(geometry):
    """Rows grow downwards and columns outboard; at small angles q moves with the pixel."""
    straight = replace(geometry, arm=())
    assert q_lab_invA(straight, 129, 128)[1] < 0
    assert q_lab_invA(straight, 128, 129)[0] > 0


def test_q_keeps_the_shape_of_its_pixels(geometry):
    rows, columns = np.mgrid[:4, :5]
    grid = q_lab_invA(geometry, rows, columns)
    assert grid.shape == (4, 5, 3)
    assert grid[2, 3] == pytest.approx(q_lab_invA(geometry, 2, 3), rel=1e-15)


def test_crystal_q_is_what_the_turned_crystal_sees(geometry):
    """A lattice vector fixed to the innermost circle that meets pixel q at 0.3° has the same components there."""
    fixed = chain_matrix(with_rocking_angle(geometry, 0.3).sample).T @ q_lab_invA(geometry, 100, 90)
    back = chain_matrix(geometry.sample) @ fixed
    assert q_crystal_invA(geometry, 0.3, 100, 90) == pytest.approx(back, rel=1e-12)


def test_rocking_step_is_the_cross_product_with_the_axis(geometry):
    """To first order a crystal turned by d about y sees q moved by -d (y x q)."""
    step_deg = 1e-3
    steps = q_steps_invA(geometry, step_deg, 120, 130)
    expected = -np.deg2rad(step_deg) * np.cross([0, 1, 0], q_lab_invA(geometry, 120, 130))
    # the next term of the central difference is d^2 / 24 = 1e-11 of it
    assert steps[:, 0] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_an_inner_rocking_circle_turns_about_its_carried_axis(geometry):
    phi = replace(geometry, rocking="phi")
    axis = chain_matrix(phi.sample[:2]) @ phi.sample[2].axis
    step = q_steps_invA(phi, 1e-3, 120, 130)[:, 0]
    expected = -np.deg2rad(1e-3) * np.cross(axis, q_lab_invA(phi, 120, 130))
    assert step == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_direct_basis_is_reciprocal_to_the_steps(geometry):
    """b_j . g_k = 2 pi delta_jk / N_j, with b in nm and g in 1/Å."""
    shape = (61, 70, 84)
    steps = q_steps_invA(geometry, 0.005, 120, 130)
    basis = direct_basis_nm(steps, shape)
    for j in range(3):
        for k in range(3):
            expected = 2 * np.pi / shape[j] if j == k else 0.0
            assert 10 * basis[:, j] @ steps[:, k] == pytest.approx(expected, abs=1e-12)


def test_a_flat_scan_is_an_error(geometry):
    steps = q_steps_invA(geometry, 0.005, 120, 130)
    steps[:, 0] = steps[:, 1] + steps[:, 2]
    with pytest.raises(ScanError, match="no third dimension"):
        direct_basis_nm(steps, (10, 10, 10))


def test_with_rocking_angle_moves_only_that_circle(geometry):
    moved = with_rocking_angle(geometry, 7.0)
    assert rocking_circle(moved).angle_deg == 7.0
    assert moved.sample[1:] == geometry.sample[1:]
    assert moved.arm == geometry.arm


def test_the_pixel_that_a_ray_meets(geometry):
    row, column = np.array([0.0, 10.5, 63.0]), np.array([5.0, 40.0, 255.0])
    places = pixel_place_m(geometry, row, column)
    assert pixel_of(geometry, 3 * places) == pytest.approx(np.stack([row, column], axis=-1))
    assert np.isnan(pixel_of(geometry, -places)).all()


def test_the_turns_that_meet_braggs_law(geometry):
    """By brute force: a peak that a pixel sees is in Bragg's condition, and stays it when it is turned back."""
    h = q_lab_invA(geometry, 100.0, 90.0)
    assert bragg_turns_deg(geometry, h)[0] == pytest.approx(0, abs=1e-9)
    k = 2 * np.pi / wavelength_angstrom(geometry.energy_kev) * np.asarray(geometry.beam_direction)
    axis = rocking_circle(geometry).axis
    for away in (-3.0, 0.2):
        turned = rotation_matrix(axis, away) @ h
        turns = bragg_turns_deg(geometry, turned)
        assert turns[0] == pytest.approx(-away, abs=1e-9) and len(turns) == 2
        for turn in turns:
            out = k + rotation_matrix(axis, turn) @ turned
            assert np.linalg.norm(out) == pytest.approx(np.linalg.norm(k), rel=1e-12)
    assert not len(bragg_turns_deg(geometry, 3 * h * np.linalg.norm(k) / np.linalg.norm(h)))  # longer than 2 |k|
