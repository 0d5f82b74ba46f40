"""What changed between two images, against crystals whose change is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from live_bcdi.difference import compare
from live_bcdi.strain import crystal_support, displacement_angstrom, strain_along
from live_bcdi.types import LabImage, ScanError

Q = np.array([0.6, 2.4, 1.0])
Q_LENGTH = float(np.linalg.norm(Q))
ADDED = 4e-4  # strain that grows from the middle along h, a micrometre away from it


def added_displacement(along_nm):
    """u (angstrom) along h whose derivative by x_h is 5 ADDED x_h / 100 nm."""
    return 5 * ADDED * along_nm**2 / (2 * 100) * 10


def image(shift=(0, 0, 0), *, voxel_nm=5.0, shape=(56, 52, 48), q=Q, added=0.0, ramp=0.0) -> LabImage:
    """A lopsided ellipsoid with soft edges and a smooth displacement, `shift` nm from voxel n//2, on any voxels;
    `added` times the displacement of `added_displacement` besides."""
    x, y, z = np.meshgrid(
        *[(np.arange(n) - n // 2) * voxel_nm - s for n, s in zip(shape, shift)], indexing="ij", sparse=True
    )
    radius = np.sqrt((x / 70) ** 2 + (y / 55) ** 2 + (z / 60) ** 2 + 0.3 * x * y * z / 70**3)
    amplitude = 0.5 * (1 - np.tanh((radius - 1) * 9)) * (1 + 0.2 * z / 60)
    along_nm = (Q[0] * x + Q[1] * y + Q[2] * z) / Q_LENGTH
    u_angstrom = (
        0.5 * np.sin(x / 40) * np.cos(z / 45) + 0.4 * np.cos((x + y) / 30) + added * added_displacement(along_nm)
    )
    density = (amplitude * np.exp(-1j * np.linalg.norm(q) * u_angstrom + 1j * ramp)).astype(np.complex64)
    return of(density, voxel_nm, q)


def of(density, voxel_nm=5.0, q=Q) -> LabImage:
    support = crystal_support(density)
    return LabImage(
        density=density,
        support=support,
        displacement_angstrom=displacement_angstrom(density, support, float(np.linalg.norm(q))),
        strain=strain_along(density, support, q, voxel_nm),
        voxel_nm=voxel_nm,
        q_centre_invA=q,
    )


def test_an_image_differs_from_itself_by_nothing():
    first = image()
    same = compare(first, first)
    assert same.shift_nm == (0, 0, 0)
    assert same.overlap == 1
    assert same.correlation == pytest.approx(1)
    assert same.mean_strain == same.angle_deg == 0
    for array in (same.strain, same.displacement_angstrom, same.phase_rad, same.amplitude):
        assert np.nanmax(np.abs(array)) < 2e-5
        np.testing.assert_array_equal(np.isfinite(array), same.support)
    # the first keeps its voxels, so what is shown of it is what was stored, to the rounding of the splines
    box = np.argwhere(first.support).min(axis=0) - np.argwhere(same.first.support).min(axis=0)
    inside = np.argwhere(same.support)
    stored = first.strain[tuple((inside + box).T)]
    np.testing.assert_allclose(same.first.strain[same.support], stored, atol=1e-7)


def test_a_shifted_copy_differs_by_nothing_and_the_shift_is_said():
    """The copy is computed at its own place, not resampled: what is left is the splines' error."""
    shift_nm = (1.7, -8.3, 11.4)
    first, second = image(), image(shift_nm, ramp=1.0)
    found = compare(first, second)
    np.testing.assert_allclose(found.shift_nm, -np.array(shift_nm), atol=0.05)
    assert found.overlap > 0.97
    assert found.correlation > 0.999
    # the centres of mass are 0.01 nm off, since supports end at voxels, and strain changes by its size in 30 nm
    assert found.rms_strain < 0.01 * np.nanstd(first.strain)
    assert found.rms_displacement_angstrom < 0.003
    assert np.sqrt(np.nanmean(found.phase_rad**2)) < 0.003 * Q_LENGTH
    assert np.sqrt(np.nanmean(found.amplitude**2)) < 0.005


def expected_change(found, kept: LabImage) -> tuple[np.ndarray, np.ndarray]:
    """What `added_displacement` is on the grid of a difference, which has the voxels of `kept`, about its mean in
    the support."""
    on_grid = found.first if kept.support.sum() == found.first.support.sum() else found.second
    away = np.argwhere(kept.support).min(axis=0) - np.argwhere(on_grid.support).min(axis=0)
    middle = np.array(kept.support.shape) // 2 - away
    grid = np.indices(found.support.shape) - np.reshape(middle, (3, 1, 1, 1))
    along_nm = np.tensordot(Q / Q_LENGTH, grid * found.first.voxel_nm, axes=1)
    strain, displacement = 5 * ADDED * along_nm / 100, added_displacement(along_nm)
    return strain - strain[found.support].mean(), displacement - displacement[found.support].mean()


@pytest.mark.parametrize("shift_nm", [(0, 0, 0), (2.2, -1.4, 0.7)])
def test_a_strain_that_was_added_is_found_with_its_sign(shift_nm):
    first = image()
    found = compare(first, image(shift_nm, added=1.0))
    strain, displacement = expected_change(found, first)
    inside = found.support
    assert strain[inside].std() > 5e-4
    # at the edge a voxel has a neighbour on one side only, and its strain is that of half a voxel beside
    deep = ndimage.binary_erosion(inside, np.ones((3, 3, 3)))
    assert deep.sum() > 0.6 * inside.sum()
    np.testing.assert_allclose(found.strain[deep], strain[deep], atol=6e-6)
    assert np.sqrt(np.mean((found.strain[inside] - strain[inside]) ** 2)) < 3e-5
    np.testing.assert_allclose(found.displacement_angstrom[inside], displacement[inside], atol=2e-3)
    phase = -Q_LENGTH * displacement[inside]
    phase = phase - np.angle(np.sum(np.exp(1j * phase)))
    wrapped = np.angle(np.exp(1j * (found.phase_rad[inside] - phase)))
    assert np.abs(wrapped - np.median(wrapped)).max() < 2e-3 * Q_LENGTH
    assert found.rms_strain == pytest.approx(strain[inside].std(), rel=0.02)


def test_the_other_way_round_it_has_the_other_sign():
    there, back = compare(image(), image(added=1.0)), compare(image(added=1.0), image())
    np.testing.assert_allclose(there.strain[there.support], -back.strain[back.support], atol=1e-6)
    np.testing.assert_allclose(there.displacement_angstrom, -back.displacement_angstrom, atol=1e-4)


def test_a_displacement_of_more_than_a_spacing_is_not_folded():
    first = image()
    found = compare(first, image(added=12.0))
    _, displacement = expected_change(found, first)
    assert np.ptp(displacement[found.support]) * 12 > 2 * np.pi / Q_LENGTH
    change = found.displacement_angstrom[found.support] - 12 * displacement[found.support]
    assert np.abs(change).max() < 1e-3


def test_another_lattice_is_the_mean_strain_and_nothing_else():
    """The same displacement seen with a shorter Q, as of a lattice that is wider by a thousandth."""
    found = compare(image(), image(q=Q / 1.001))
    assert found.mean_strain == pytest.approx(1e-3)
    assert found.rms_strain < 2e-6
    assert found.rms_displacement_angstrom < 1e-4


@pytest.mark.parametrize("turned_round", [False, True])
def test_different_voxels_meet_on_the_coarser_ones(turned_round):
    fine, coarse = image((1.0, 0, -2.0)), image(voxel_nm=8.0, shape=(36, 34, 32), added=1.0)
    sign = -1 if turned_round else 1
    found = compare(coarse, fine) if turned_round else compare(fine, coarse)
    assert found.first.voxel_nm == found.second.voxel_nm == 8.0
    strain, _ = expected_change(found, coarse)
    inside = found.support
    gone = found.strain[inside] * sign - strain[inside]
    assert np.sqrt(np.mean(gone**2)) < 0.2 * strain[inside].std()
    assert found.overlap > 0.9


def test_the_twin_is_said_and_not_undone():
    first = image()
    density = first.density[::-1, ::-1, ::-1].conj()
    found = compare(first, of(np.ascontiguousarray(density)))
    assert found.twin_correlation > 0.998
    assert found.correlation < found.twin_correlation - 0.01
    # conj(S(-r)) has u(-r) -> -u(r): its strain is that of the point opposite, and the difference is not zero
    assert found.rms_strain > 0.5 * np.nanstd(first.strain)
    same = compare(first, image((2, 1, 0)))
    assert same.twin_correlation < same.correlation - 0.01


def test_what_cannot_be_compared_is_said():
    first = image()
    with pytest.raises(ScanError, match="B has no crystal"):
        compare(first, replace(first, support=np.zeros_like(first.support)))
    with pytest.raises(ScanError, match="A has no crystal"):
        compare(replace(first, density=np.full_like(first.density, np.nan)), first)
