"""Known displacement in, known strain out, in the lab frame; sizes in nm along lab x, y, z."""

import numpy as np
import pytest
from scipy import ndimage

from live_bcdi import strain
from live_bcdi.config import CrystalConfig
from live_bcdi.geometry import direct_basis_nm
from live_bcdi.types import DiffractionVolume

Q = np.array([1.2, 2.1, -0.9])  # |Q| = 2.58 per ångström, along no axis
LENGTH = float(np.linalg.norm(Q))
# A sheared reciprocal grid, as a rocking scan has: columns are rocking, row, column steps.
STEPS = np.array([[2e-4, 1e-5, 5e-4], [9e-5, -5e-4, 0.0], [-1.2e-4, 1e-4, 6e-5]]) * 10
SHAPE = (64, 64, 64)


def volume(shape=SHAPE):
    return DiffractionVolume(
        intensity=np.zeros(shape, np.float32),
        mask=np.zeros(shape, bool),
        centre=(0.0, 0.0, 0.0),
        q_centre_invA=Q,
        q_steps_invA=STEPS,
    )


def lab_positions(shape=SHAPE):
    """Lab position in nm of every voxel of the object array, (3, ...)."""
    index = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij"))
    return np.tensordot(direct_basis_nm(STEPS, shape), index, axes=1)


def box(positions, half_nm):
    return (np.abs(positions) < np.reshape(half_nm, (3, 1, 1, 1))).all(axis=0)


def strained(strain_at_nm, half_nm=(60, 40, 50)):
    """A box with displacement u_h = strain_at_nm * s^2 / 2 along +h, s the position along h in nm, u in ångström:
    its strain d u_h / d x_h is strain_at_nm * s / 10."""
    positions = lab_positions()
    along = np.tensordot(Q / LENGTH, positions, axes=1)
    displacement = strain_at_nm * along**2 / 2
    return np.where(box(positions, half_nm), np.exp(-1j * LENGTH * displacement), 0).astype(np.complex64)


def along_q(image):
    """Lab position of every voxel along h, nm, about the box's middle."""
    index = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in image.support.shape], indexing="ij"))
    return np.tensordot(Q / LENGTH, index, axes=1) * image.voxel_nm


def core(image):
    """The support less one voxel: at the surface the linear interpolation mixes in the vacuum."""
    return ndimage.binary_erosion(image.support, iterations=1)


def test_box_has_its_size_along_the_lab_axes():
    image = strain.lab_image(strained(0.0), (0.0, 0.0, 0.0), volume())
    sizes = strain.extent_nm(image.support, image.voxel_nm)
    # a face is where linear interpolation falls to 0.3, 0.7 of a source voxel beyond the last full one, and the
    # bounding box counts whole cubic voxels; the edges differ by more than that, so no two axes can be swapped
    longest = np.linalg.norm(direct_basis_nm(STEPS, SHAPE), axis=0).max()
    np.testing.assert_allclose(sizes, (120, 80, 100), atol=1.4 * longest + image.voxel_nm)


def test_strain_of_1e_4_comes_out_as_1e_4():
    """A strain that rises by 1e-4 every 40 nm along h: the slope of what is measured is compared."""
    rate = 1e-4 / 40 * 10  # u in ångström, s in nm: strain = rate s / 10
    image = strain.lab_image(strained(rate), (0.0, 0.0, 0.0), volume())
    inside = core(image)
    along = along_q(image)[inside]
    slope, offset = np.polyfit(along, image.strain[inside], 1)
    # 2 %: linear interpolation of a phase that bends by 1e-3 rad a voxel is good to that; a wrong unit is a
    # factor of ten, a wrong |Q| at least two
    assert slope * 40 == pytest.approx(1e-4, rel=0.02)
    residual = image.strain[inside] - (slope * along + offset)
    assert residual.std() < 5e-6


def test_displacement_is_positive_along_plus_h():
    """Both ends pulled towards +h by the same quadratic field: u is larger at the ends than in the middle."""
    rate = 2e-3
    image = strain.lab_image(strained(rate), (0.0, 0.0, 0.0), volume())
    inside = core(image)
    along = along_q(image)[inside]
    curvature = np.polyfit(along, image.displacement_angstrom[inside], 2)[0]
    assert 2 * curvature == pytest.approx(rate, rel=0.02)
    assert np.nanmean(image.displacement_angstrom[image.support]) == pytest.approx(0, abs=1e-6)
    assert np.isnan(image.displacement_angstrom[~image.support]).all()


def test_displacement_beyond_one_period_is_unwrapped():
    image = strain.lab_image(strained(8e-3), (0.0, 0.0, 0.0), volume())
    inside = core(image)
    along = along_q(image)[inside]
    fit = np.polyfit(along, image.displacement_angstrom[inside], 2)
    assert np.ptp(image.displacement_angstrom[inside]) > 2 * np.pi / LENGTH
    assert 2 * fit[0] == pytest.approx(8e-3, rel=0.03)
    assert (image.displacement_angstrom[inside] - np.polyval(fit, along)).std() < 0.05


def test_the_ramp_taken_out_goes_into_q():
    slopes = (0.1, -0.05, 0.02)
    image = strain.lab_image(strained(0.0), slopes, volume())
    # A(q) of exp(i g.n) peaks at q = g: in voxels of the pattern, g n / 2 pi
    expected = Q + STEPS @ (np.array(slopes) * 64 / (2 * np.pi))
    np.testing.assert_allclose(image.q_centre_invA, expected)


def test_a_dislocation_survives():
    """Around a screw-like phase vortex the phase gains 2 pi and nothing jumps: the gradient is that of 1/r."""
    n = 41
    x, y, _ = np.meshgrid(*[np.arange(n) - n // 2] * 3, indexing="ij")
    support = np.hypot(x, y) < 18
    density = np.where(support, np.exp(1j * np.arctan2(y, x)), 0)
    gradient = strain.phase_gradient(density, support)
    ring = (np.hypot(x, y) > 6) & (np.hypot(x, y) < 16)
    tangential = (-y * gradient[0] + x * gradient[1]) / np.maximum(np.hypot(x, y), 1)
    # the central difference of arctan over 2 voxels is off by 1/(3 r^2): 1 % at r = 6
    np.testing.assert_allclose((tangential * np.hypot(x, y))[ring], 1, atol=0.015)


def test_gradient_at_the_surface_is_one_sided():
    density = np.exp(0.3j * np.arange(8))[:, None, None] * np.ones((8, 3, 3))
    support = np.zeros(density.shape, bool)
    support[2:6, 1, 1] = True
    gradient = strain.phase_gradient(density, support)
    np.testing.assert_allclose(gradient[0][support], 0.3, atol=1e-12)
    np.testing.assert_allclose(gradient[1:, support], 0, atol=1e-12)


def test_crystal_is_the_largest_piece():
    density = np.zeros((20, 20, 20), complex)
    density[2:12, 2:12, 2:12] = 1
    density[15:18, 15:18, 15:18] = 1.1j
    support = strain.crystal_support(density, 0.3)
    assert support.sum() == 1000
    assert not support[15:].any()


def test_the_fourier_way_and_a_window_reach_the_lab_image():
    """A box that fills less of the sheared array, so that a windowed one does not reach round its edge."""
    rate = 1e-4 / 40 * 10
    density = strained(rate, half_nm=(40, 30, 35))
    plain = strain.lab_image(density, (0.0, 0.0, 0.0), volume())
    image = strain.lab_image(density, (0.0, 0.0, 0.0), volume(), CrystalConfig(method="fourier", window="hann"))
    assert image.density.shape != plain.density.shape or not np.allclose(image.density, plain.density, atol=0.02)
    inside = ndimage.binary_erosion(image.support, iterations=3)
    slope = np.polyfit(along_q(image)[inside], image.strain[inside], 1)[0]
    # Hann takes a few per cent of the strain of a box ten rocking voxels thick
    assert slope * 40 == pytest.approx(1e-4, rel=0.1)


def test_the_spread_of_starts_is_that_of_their_known_strains():
    """Starts with strain rates a, 2a, 3a about one box: the standard deviation of strain is a |s| / 10, s along h,
    and that of displacement a |s^2 / 2 - its mean|. The phase of a start does not count."""
    rate = 1e-5
    starts = [np.exp(1j * k).astype(np.complex64) * strained(k * rate) for k in (1, 2, 3)]
    image = strain.lab_image(starts[1], (0.0, 0.0, 0.0), volume())
    image = strain.with_spread(image, starts, volume())
    index = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in image.support.shape], indexing="ij"))
    lab = index * image.voxel_nm + np.reshape(image.origin_nm, (3, 1, 1, 1))
    along = np.tensordot(Q / LENGTH, lab, axes=1)
    middle = ndimage.binary_erosion(image.support, iterations=4)
    expected = rate * np.abs(along - along[image.support].mean()) / 10
    # in a core of the box central differences are exact for a square; linear interpolation damps curvature alike
    np.testing.assert_allclose(image.strain_std[middle], expected[middle], atol=0.05 * expected[middle].max())
    bend = rate * along**2 / 2
    bend = np.abs(bend - bend[image.support].mean())
    np.testing.assert_allclose(
        image.displacement_std_angstrom[middle], bend[middle], atol=0.05 * bend[middle].max()
    )
    for values in (image.strain_std, image.displacement_std_angstrom):
        assert np.isnan(values[~image.support]).all()


def test_one_start_has_no_spread():
    image = strain.lab_image(strained(0.0), (0.0, 0.0, 0.0), volume())
    assert strain.with_spread(image, [strained(0.0)], volume()) is image


def test_the_image_tells_where_it_lies():
    """A box moved by whole voxels of the detector's array moves the origin by their lab vectors."""
    box_nm = (25, 20, 22)  # with room around it in the array
    moved = np.roll(strained(0.0, box_nm), (3, -2, 4), axis=(0, 1, 2))
    here = strain.lab_image(strained(0.0, box_nm), (0.0, 0.0, 0.0), volume())
    there = strain.lab_image(moved, (0.0, 0.0, 0.0), volume())
    off = np.subtract(there.origin_nm, here.origin_nm) - direct_basis_nm(STEPS, SHAPE) @ [3, -2, 4]
    # the support's middle may fall between two lab voxels, and either is taken
    np.testing.assert_allclose(off / here.voxel_nm, np.rint(off / here.voxel_nm), atol=1e-4)
    assert np.abs(off).max() < 1.01 * here.voxel_nm
