"""Sheared voxels to cubic ones: against the sum written out, against analytic objects, and both ways against
each other. A dislocation is the test that no wrapped phase was touched."""

from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.geometry import direct_basis_nm, q_lab_invA
from live_bcdi.orthogonal import apodised, fourier_sum, orthogonalise
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.scattering import bragg_geometry, diffraction_amplitude, scan_steps
from live_bcdi.strain import strain_along
from live_bcdi.types import ScanError

ROOT = Path(__file__).resolve().parents[2]
# A sheared reciprocal grid, as a rocking scan has: columns are rocking, row, column steps in 1/ångström.
STEPS = np.array([[2e-4, 1e-5, 5e-4], [9e-5, -5e-4, 0.0], [-1.2e-4, 1e-4, 6e-5]]) * 10
SHAPE = (64, 64, 64)
BASIS_NM = direct_basis_nm(STEPS, SHAPE)


def lab_positions(shape=SHAPE, basis_nm=BASIS_NM):
    index = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij"))
    return np.tensordot(basis_nm, index, axes=1)


def image_positions(image, step):
    index = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in image.shape], indexing="ij"))
    return index * step


def smooth(positions):
    """A Gaussian crystal with a phase that bends, centred on the origin: known between voxels too, in nm."""
    x, y, z = positions
    phase = 0.8 * np.sin(0.05 * x + 0.3) + 4e-4 * (y**2 - z * x)
    return np.exp(-0.5 * (x**2 + y**2 + z**2) / 15**2 + 1j * phase)


def test_fourier_sum_is_the_sum_written_out():
    rng = np.random.default_rng(0)
    shape = (6, 5, 8)
    density = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    low = -(np.array(shape) // 2)
    where = rng.uniform(low[:, None], (low + np.array(shape) - 1)[:, None], (3, 40))
    index = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij")).reshape(3, -1)
    scaled = index / np.reshape(shape, (3, 1))
    transform = np.exp(-2j * np.pi * scaled.T @ index) @ density.ravel()
    expected = np.exp(2j * np.pi * where.T @ scaled) @ transform / density.size
    # the accuracy that is asked for is 1e-6 of the sum
    np.testing.assert_allclose(fourier_sum(density, where), expected, atol=1e-5)
    np.testing.assert_allclose(fourier_sum(density, index.astype(float)), density.ravel(), atol=1e-5)


def test_fourier_sum_does_not_wrap_around():
    outside = np.array([[4.0, -4.5], [0.0, 0.0], [0.0, 0.0]])
    assert not fourier_sum(np.ones((8, 8, 8)), outside).any()


@pytest.mark.parametrize(("method", "tolerance"), [("fourier", 2e-3), ("linear", 5e-2)])
def test_a_smooth_object_is_what_it_is_between_voxels(method, tolerance):
    """Fourier: what the Gaussian has beyond the array's edge, e^-8. Linear: (8 nm)^2 / 8 times the curvature of
    1 / (15 nm)^2 at the top, 3.5 %, and a bit for the phase."""
    image, step = orthogonalise(smooth(lab_positions()), BASIS_NM, method=method)
    assert step == pytest.approx(np.linalg.norm(BASIS_NM, axis=0).min())
    np.testing.assert_allclose(image, smooth(image_positions(image, step)), atol=tolerance)


def test_the_voxel_is_free():
    image, step = orthogonalise(smooth(lab_positions()), BASIS_NM, voxel_nm=6.0, method="fourier")
    assert step == 6.0
    np.testing.assert_allclose(image, smooth(image_positions(image, step)), atol=2e-3)


@pytest.fixture(scope="module")
def crystal():
    """A simulated faceted crystal, its band-limited object and the grid's basis."""
    shape = (48, 72, 72)
    geometry = bragg_geometry(load_config(ROOT / "config" / "34idc.toml"), shape[1:])
    steps, h = scan_steps(geometry), q_lab_invA(geometry, *geometry.arm_pixel)
    truth = random_truth(h, steps, strain="medium", oversampling=3.0, seed=1)
    amplitude = diffraction_amplitude(truth, steps, shape)
    return truth, np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(amplitude))), direct_basis_nm(steps, shape), h


@pytest.mark.parametrize("window", ["none", "hann"])
@pytest.mark.parametrize("method", ["linear", "fourier"])
def test_both_ways_show_the_crystal(crystal, method, window):
    """A crystal of 24 voxels cut at the array's edge of q: ringing of 5 % of the amplitude is a phase of 0.03."""
    truth, density, basis_nm, h = crystal
    image, step = orthogonalise(apodised(density, window), basis_nm, method=method)
    # the box is centred on the object's mass; the truth's is the origin to a tenth of a voxel
    points = np.moveaxis(image_positions(image, step), 0, -1)
    depth = truth.depth_nm(points)
    core = depth > 1.5 * step
    assert core.sum() > 1000
    rest = image * np.exp(-1j * truth.phase_at(points))
    assert np.angle(rest[core] / rest[core].mean()).std() < 0.04
    overlap = np.abs(image)[depth > 0].sum() / np.sqrt((np.abs(image) ** 2).sum() * (depth > 0).sum())
    assert overlap > 0.94
    along = h / np.linalg.norm(h)
    expected = (truth.displacement_at(points + 0.01 * along) - truth.displacement_at(points - 0.01 * along)) / 0.2
    strain = strain_along(image, depth > 0, h, step)
    slope = np.polyfit(expected[core], strain[core], 1)[0]
    # Hann halves what lies between the crystal's bends and the array's edge: up to a tenth of the strain
    assert slope == pytest.approx(1, abs=0.05 if window == "none" else 0.12)


def test_the_two_ways_agree(crystal):
    _, density, basis_nm, _ = crystal
    object_ = apodised(density, "hann")
    linear, _ = orthogonalise(object_, basis_nm, method="linear")
    fourier, _ = orthogonalise(object_, basis_nm, method="fourier")
    difference = np.linalg.norm(linear - fourier) / np.linalg.norm(fourier)
    # linear interpolation takes sin^2 off the waves near the array's edge; Hann has left few of them
    assert difference < 0.08
    assert difference > 1e-3  # or they are one way


def frame_along(line):
    first = np.cross(line, [0.0, 0.0, 1.0])
    first /= np.linalg.norm(first)
    return first, np.cross(line, first)


@pytest.mark.parametrize("method", ["linear", "fourier"])
@pytest.mark.parametrize("window", ["none", "blackman"])
def test_a_screw_dislocation_survives(method, window):
    """A line along no axis of either grid; with h along the Burgers vector the phase is the angle about it. The
    winding is 2 pi on every loop about it, and the phase is the angle everywhere away from the core, the branch
    cut of arctan included."""
    line = np.array([0.5, 0.3, 0.8])
    line /= np.linalg.norm(line)
    first, second = frame_along(line)

    def angle(positions):
        return np.arctan2(np.tensordot(second, positions, axes=1), np.tensordot(first, positions, axes=1))

    positions = lab_positions()
    density = np.exp(-0.5 * (np.linalg.norm(positions, axis=0) / 16) ** 2 + 1j * angle(positions))
    image, step = orthogonalise(apodised(density, window), BASIS_NM, method=method)
    where = image_positions(image, step)
    radius = np.linalg.norm(np.cross(np.moveaxis(where, 0, -1), line), axis=-1)
    ring = (radius > 12) & (np.linalg.norm(where, axis=0) < 26)
    # a voxel and a half of 8 nm from the core the angle turns by 2/3 rad a voxel; a wrapped phase that was
    # interpolated is wrong by up to pi beside the cut
    assert np.abs(np.angle(image * np.exp(-1j * angle(where)))[ring]).max() < 0.3
    for along_nm in (-15.0, 0.0, 15.0):
        turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        loop = along_nm * line + 14 * (np.outer(np.cos(turn), first) + np.outer(np.sin(turn), second))
        voxels = tuple(np.rint(loop / step).astype(int).T + np.reshape(image.shape, (3, 1)) // 2)
        around = image[voxels]
        assert np.angle(np.roll(around, -1) / around).sum() == pytest.approx(2 * np.pi, abs=1e-4)


def test_apodisation_keeps_the_sum_and_narrows_the_transform():
    rng = np.random.default_rng(1)
    density = rng.normal(size=(8, 9, 10)) + 1j * rng.normal(size=(8, 9, 10))
    seen = apodised(density, "blackman")
    # the window is 1 at q = 0, and the sum of the object is its transform there
    np.testing.assert_allclose(seen.sum(), density.sum(), rtol=1e-5)
    spectrum = np.abs(np.fft.fftshift(np.fft.fftn(seen)))
    assert spectrum[0].max() < 1e-4 * spectrum.max()
    np.testing.assert_array_equal(apodised(density, "none"), density.astype(np.complex64))


def test_nothing_and_too_much_are_said():
    with pytest.raises(ScanError, match="zero everywhere"):
        orthogonalise(np.zeros(SHAPE, complex), BASIS_NM)
    with pytest.raises(ScanError, match="larger voxel"):
        orthogonalise(smooth(lab_positions()), BASIS_NM, voxel_nm=0.1)
