"""What the simulated detector counts, by brute force and by the signs that geometry gives."""

from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.config import parse_config
from live_bcdi.geometry import (
    d_spacing_angstrom,
    direct_basis_nm,
    q_crystal_invA,
    q_lab_invA,
    rocking_circle,
)
from live_bcdi.sim import Truth, measure, simulate_scan
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.scattering import (
    _SUPERSAMPLING,
    GOLD_111_ANGSTROM,
    blurred,
    bragg_geometry,
    diffraction_amplitude,
    rocking_step_deg,
    scan_steps,
)
from live_bcdi.types import ScanError

SHAPE = (8, 10, 12)
MIDDLE = np.array([4, 5, 6])


@pytest.fixture
def geometry(config):
    return bragg_geometry(config, SHAPE[1:])


@pytest.fixture
def truth(geometry) -> Truth:
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    return random_truth(h, scan_steps(geometry), strain="medium", oversampling=3.0, seed=0)


def fine_points_nm(truth, steps):
    """Lab points of the refined conjugate grid inside the crystal, (n, 3), by trying all of them."""
    fine = np.array(SHAPE) * _SUPERSAMPLING
    index = np.stack(np.meshgrid(*(np.arange(n) - n // 2 for n in fine), indexing="ij"), axis=-1)
    points = index.reshape(-1, 3) @ direct_basis_nm(steps, tuple(fine)).T
    return points[truth.inside(points)]


def exact_q_invA(geometry):
    """The scattering vector of every frame and pixel, relative to h, (n, 3); nothing linearised."""
    step_deg = rocking_step_deg(geometry)
    middle_deg = rocking_circle(geometry).angle_deg
    rows, columns = np.mgrid[: SHAPE[1], : SHAPE[2]]
    frames = [
        q_crystal_invA(geometry, middle_deg + (n - MIDDLE[0]) * step_deg, rows, columns) for n in range(SHAPE[0])
    ]
    return (np.stack(frames) - q_lab_invA(geometry, *MIDDLE[1:])).reshape(-1, 3)


def test_pattern_is_the_direct_sum_at_the_exact_q(geometry, truth):
    """A(q) = sum S exp(-i q.r) over lab points, at the q of each pixel and angle from the geometry.

    The simulation takes q on a straight grid: A can be off by sum |S| |dq . r| at most, and is expected to be
    off by less. Over these few pixels dq is some 1e-6 1/Å and r some 2e3 Å.
    """
    steps = scan_steps(geometry)
    points = fine_points_nm(truth, steps)
    q = exact_q_invA(geometry)
    straight = (np.argwhere(np.ones(SHAPE)) - MIDDLE) @ steps.T
    bound = len(points) * np.abs((q - straight) @ points.T * 10).max()
    direct = np.exp(-1j * (q @ points.T) * 10) @ truth.density_at(points)
    amplitude = diffraction_amplitude(truth, steps, SHAPE).ravel()
    error = np.abs(amplitude - direct).max()
    assert error <= bound
    assert bound < 0.02 * len(points)  # so the bound says something: the peak is near len(points)
    assert np.abs(amplitude).max() > 0.6 * len(points)


def test_pattern_is_the_direct_sum_at_the_straight_q_to_rounding(geometry, truth):
    steps = scan_steps(geometry)
    points = fine_points_nm(truth, steps)
    straight = (np.argwhere(np.ones(SHAPE)) - MIDDLE) @ steps.T
    direct = np.exp(-1j * (straight @ points.T) * 10) @ truth.density_at(points)
    assert diffraction_amplitude(truth, steps, SHAPE).ravel() == pytest.approx(direct, abs=1e-8 * len(points))


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["rocking", "row", "column"])
def test_peak_moves_to_the_pixel_that_sees_it(geometry, truth, axis):
    """A crystal whose lattice vector is h + k peaks at the frame, row and column where geometry finds h + k.

    S = exp(i k.r) is a displacement u_h = -k.r / |h|. The pixel's own q differs from h + k by the curvature only.
    """
    moved = MIDDLE + 2 * np.eye(3, dtype=int)[axis]
    angle_deg = rocking_circle(geometry).angle_deg + (moved[0] - MIDDLE[0]) * rocking_step_deg(geometry)
    h = q_lab_invA(geometry, *MIDDLE[1:])
    k = q_crystal_invA(geometry, angle_deg, *moved[1:]) - h
    ramp = tuple(-10 * k / np.linalg.norm(h))
    shifted = Truth(facets=truth.facets, h_invA=truth.h_invA, gradient_angstrom_per_nm=ramp)
    pattern = np.abs(diffraction_amplitude(shifted, scan_steps(geometry), SHAPE))
    assert np.unravel_index(pattern.argmax(), SHAPE) == tuple(moved)


def test_a_crystal_stretched_along_h_peaks_at_smaller_q(geometry, truth):
    """u_h = e x_h > 0 where the crystal is pulled along +h: the spacing grows by e, |q| falls by e (Bragg)."""
    strain = 3e-4  # about 1.6 pixels
    h = np.array(truth.h_invA)
    direction = h / np.linalg.norm(h)
    pulled = Truth(
        facets=truth.facets, h_invA=truth.h_invA, gradient_angstrom_per_nm=tuple(10 * strain * direction)
    )
    assert pulled.displacement_at(100 * direction) == pytest.approx(0.3, rel=1e-12)  # 100 nm * 3e-4 in Å
    steps = scan_steps(geometry)
    intensity = np.abs(diffraction_amplitude(pulled, steps, (24, 24, 24))) ** 2
    still = (
        np.abs(diffraction_amplitude(replace(pulled, gradient_angstrom_per_nm=(0, 0, 0)), steps, (24, 24, 24)))
        ** 2
    )
    places = (np.argwhere(np.ones((24, 24, 24))) - 12) @ steps.T
    # the difference of centres of mass; what the window cuts off differs by some percent of the shift
    shift = places.T @ (intensity.ravel() / intensity.sum() - still.ravel() / still.sum())
    assert shift @ direction == pytest.approx(-strain * np.linalg.norm(h), rel=0.1)
    assert np.linalg.norm(shift - (shift @ direction) * direction) < 0.1 * strain * np.linalg.norm(h)


def test_refining_the_grid_changes_little(geometry, truth, monkeypatch):
    """Facets are not stairs: 4 points a voxel edge agree with 8 to 2% of the pattern, 0.5% of its peak."""
    steps, shape = scan_steps(geometry), (32, 48, 48)
    coarse = diffraction_amplitude(truth, steps, shape)
    monkeypatch.setattr("live_bcdi.sim.scattering._SUPERSAMPLING", 2 * _SUPERSAMPLING)
    fine = diffraction_amplitude(truth, steps, shape) / 8
    assert np.abs(coarse - fine).max() < 0.005 * np.abs(fine).max()
    assert np.linalg.norm(coarse - fine) < 0.02 * np.linalg.norm(fine)


def test_motors_stand_at_the_bragg_peak_of_gold(config):
    scan, truth = simulate_scan(config=config, strain="none")
    geometry = scan.geometry
    assert geometry.arm_pixel == (48.0, 48.0)
    assert d_spacing_angstrom(geometry, 48, 48) == pytest.approx(GOLD_111_ANGSTROM, rel=1e-9)
    assert truth.h_invA == pytest.approx(tuple(q_lab_invA(geometry, 48, 48)))
    assert np.unravel_index(scan.intensity.argmax(), scan.intensity.shape) == (32, 48, 48)
    # Bragg's law for 1.37760 Å and 2.35455 Å
    assert scan.angles_deg[32] == pytest.approx(np.rad2deg(np.arcsin(1.377602 / 2 / 2.354550)), abs=1e-4)
    assert np.ptp(np.linalg.norm(scan_steps(geometry), axis=0)) < 1e-6


@pytest.mark.parametrize("strain", ["weak", "medium", "strong"])
def test_strained_peaks_stay_near_the_centre(config, strain):
    for seed in range(3):
        scan, _ = simulate_scan(config=config, strain=strain, seed=seed)
        peak = np.unravel_index(scan.intensity.argmax(), scan.intensity.shape)
        assert np.abs(np.subtract(peak, (32, 48, 48))).max() <= 2


def test_crystal_is_oversampled(config):
    """The autocorrelation of the noise-free crystal fits into 2/2.5 of every axis."""
    scan, truth = simulate_scan(config=config)
    parts = np.ptp(truth.vertices_nm() @ scan_steps(scan.geometry), axis=0) * 10 / (2 * np.pi)
    assert np.all(1 / parts >= 2.5)


def test_counts_are_poisson(config):
    """Total within 5 sigma; over bright voxels (n - mean)^2 / mean averages 1 within 5 sigma, sqrt(2 / voxels)."""
    photons = 3e6
    scan, truth = simulate_scan(config=config, shape=(32, 48, 48), photons=photons, seed=5)
    assert scan.intensity.dtype == np.int32
    assert abs(int(scan.intensity.sum()) - photons) < 5 * np.sqrt(photons)
    pattern = np.abs(diffraction_amplitude(truth, scan_steps(scan.geometry), (32, 48, 48))) ** 2
    mean = pattern * photons / pattern.sum()
    bright = mean > 20
    spread = (scan.intensity[bright] - mean[bright]) ** 2 / mean[bright]
    assert bright.sum() > 1000
    assert spread.mean() == pytest.approx(1.0, abs=5 * np.sqrt(2 / bright.sum()))


def test_background_adds_its_counts(config):
    shape = (32, 48, 48)
    scan, _ = simulate_scan(config=config, shape=shape, photons=1e5, background=0.5)
    expected = 1e5 + 0.5 * np.prod(shape)
    assert abs(int(scan.intensity.sum()) - expected) < 5 * np.sqrt(expected)


def test_seeds(config):
    def counts(seed):
        return simulate_scan(config=config, shape=(16, 16, 16), seed=seed)[0].intensity

    assert np.array_equal(counts(3), counts(3))
    assert not np.array_equal(counts(3), counts(4))


def test_the_same_crystal_can_be_measured_again(config):
    scan, truth = simulate_scan(config=config, shape=(16, 24, 24), photons=1e5, seed=2)
    again = measure(truth, scan.geometry, shape=(16, 24, 24), photons=1e5, seed=2)
    assert np.array_equal(again.intensity, scan.intensity)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (64, 96)}, "at least 8 frames"),
        ({"shape": (64, 4, 96)}, "at least 8 frames"),
        ({"photons": 0.0}, "photons must be positive"),
        ({"photons": np.nan}, "photons must be positive"),
        ({"background": -1.0}, "background not negative"),
        ({"blur": (0.5, 0.5)}, "three widths"),
        ({"blur": (0.5, -0.5, 0.5)}, "three widths"),
    ],
)
def test_faults(config, arguments, message):
    with pytest.raises(ScanError, match=message):
        simulate_scan(config=config, **arguments)


def test_a_beamline_without_arm(config):
    table = config.model_dump()
    table["diffractometer"]["arm"] = ()
    with pytest.raises(ScanError, match="no detector arm"):
        simulate_scan(config=parse_config(table))


def test_rocking_about_h_is_no_scan(geometry):
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    axis = tuple(h / np.linalg.norm(h))
    along = replace(geometry, sample=(replace(geometry.sample[0], axis=axis), *geometry.sample[1:]))
    with pytest.raises(ScanError, match="its axis lies along h"):
        rocking_step_deg(along)


def test_partial_coherence_blurs_the_pattern_by_its_gaussian():
    """A Gaussian convolved with one of another width is the Gaussian of the added variances, term by term in q."""

    def bump(widths):
        axes = np.meshgrid(*[np.arange(n) - n // 2 for n in (24, 28, 32)], indexing="ij")
        return np.exp(-sum((axis / width) ** 2 for axis, width in zip(axes, widths)) / 2)

    widths, blur = (2.0, 2.5, 3.0), (0.5, 0.8, 1.1)
    wider = tuple(np.hypot(widths, blur))
    expected = bump(wider) * np.prod(widths) / np.prod(wider)
    np.testing.assert_allclose(blurred(bump(widths), blur), expected, atol=1e-4)  # what the array's edge cuts off
    assert blurred(bump(widths), (0.0, 0.0, 0.0)).tobytes() == bump(widths).tobytes()


def test_a_partially_coherent_scan_has_the_same_counts_and_less_contrast(config):
    shape = (32, 48, 48)
    sharp, _ = simulate_scan(config=config, shape=shape, photons=1e7)
    blunt, _ = simulate_scan(config=config, shape=shape, photons=1e7, blur=(0.8, 0.8, 0.8))
    assert blunt.intensity.sum() == pytest.approx(sharp.intensity.sum(), rel=5 / np.sqrt(1e7))
    assert blunt.intensity.max() < 0.8 * sharp.intensity.max()
    assert blunt.metadata["simulated"]["blur"] == [0.8, 0.8, 0.8]
