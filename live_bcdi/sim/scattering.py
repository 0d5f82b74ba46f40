"""A rocking scan of a known crystal: where the motors stand, what each pixel counts."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.optimize import brentq

from ..config import Config
from ..geometry import (
    direct_basis_nm,
    q_lab_invA,
    q_steps_invA,
    rocking_circle,
    two_theta_deg,
    wavelength_angstrom,
)
from ..types import Geometry, RockingScan, ScanError, Vector
from .crystals import Floats, Truth, random_truth, truth_to_dict
from .kinds import GOLD_ANGSTROM

GOLD_111_ANGSTROM = GOLD_ANGSTROM / np.sqrt(3)
ENERGY_KEV = 9.0
DISTANCE_M = 0.5  # where the configuration has none

# Each array axis is this many times as long as the crystal; phase retrieval needs more than 2.
OVERSAMPLING = 3.0

# Points an array voxel edge at which the crystal is evaluated, so that its facets are not stairs.
_SUPERSAMPLING = 4

# How the first two arm circles share the scattering angle: as in the measured scan S0054.
_ARM_SHARES = (1.0, 0.39)

_MONITOR_COUNTS = 1e6

COHERENT = (0.0, 0.0, 0.0)


def simulate_scan(
    *,
    config: Config,
    shape: tuple[int, int, int] = (64, 96, 96),
    photons: float = 2e6,
    strain: str = "medium",
    seed: int = 0,
    background: float = 0.0,
    blur: Vector = COHERENT,
    kind: str = "faceted",
) -> tuple[RockingScan, Truth]:
    """A gold crystal's (111) rocking scan on the configured beamline, and the crystal.

    `shape` is (frames, rows, columns); `photons` the counts expected from the crystal in all of them;
    `background` the counts expected in each pixel of each frame besides; `strain` one of `crystals.STRAINS`;
    `blur` the standard deviation, in frames, rows and columns, of the Gaussian that a partially coherent beam
    blurs the pattern with (a Gaussian mutual coherence); `kind` one of `crystals.KINDS`.
    The crystal fills a third of every array axis (OVERSAMPLING). The same arguments give the same scan.
    """
    _check(shape, photons, background, blur)
    geometry = bragg_geometry(config, shape[1:])
    h_invA = q_lab_invA(geometry, *geometry.arm_pixel)
    steps = scan_steps(geometry)
    truth = random_truth(h_invA, steps, strain=strain, oversampling=OVERSAMPLING, seed=seed, kind=kind)
    scan = measure(truth, geometry, shape=shape, photons=photons, seed=seed, background=background, blur=blur)
    name = strain if kind == "faceted" else f"{kind}-{strain}".replace(" ", "-")
    return replace(scan, name=f"simulated-{name}-{seed}"), truth


def measure(
    truth: Truth,
    geometry: Geometry,
    *,
    shape: tuple[int, int, int],
    photons: float,
    seed: int = 0,
    background: float = 0.0,
    blur: Vector = COHERENT,
) -> RockingScan:
    """Poisson counts of `truth` on a detector whose centre pixel n//2 sees h with the rocking circle where it is.

    The rocking step makes the array as wide along the rocking direction as along a row.
    """
    _check(shape, photons, background, blur)
    step_deg = rocking_step_deg(geometry)
    pattern = blurred(np.abs(diffraction_amplitude(truth, scan_steps(geometry), shape)) ** 2, blur)
    expected = pattern * (photons / pattern.sum()) + background
    counts = np.random.default_rng([seed, 1]).poisson(expected).astype(np.int32)
    centre_deg = rocking_circle(geometry).angle_deg
    return RockingScan(
        name="simulated",
        intensity=counts,
        angles_deg=centre_deg + (np.arange(shape[0]) - shape[0] // 2) * step_deg,
        geometry=geometry,
        monitor=np.full(shape[0], _MONITOR_COUNTS),
        exposure_s=1.0,
        hkl=(1.0, 1.0, 1.0),
        sample="simulated gold crystal",
        metadata={
            "simulated": {
                "truth": truth_to_dict(truth),
                "photons": float(photons),
                "background": float(background),
                "blur": [float(width) for width in blur],
                "seed": int(seed),
            }
        },
    )


def bragg_geometry(config: Config, detector_shape: tuple[int, int]) -> Geometry:
    """The configured diffractometer with gold's (111) on the detector's centre pixel n//2.

    The arm's first two circles share the scattering angle, the rocking circle stands at the Bragg angle, and
    the other sample circles, which only orient the crystal, at zero. `arm_pixel` is the centre pixel.
    """
    rows, columns = detector_shape
    bragg_deg = float(np.rad2deg(np.arcsin(wavelength_angstrom(ENERGY_KEV) / (2 * GOLD_111_ANGSTROM))))
    circles = config.diffractometer
    at_rest = {circle.motor: 0.0 for circle in (*circles.sample, *circles.arm)}

    def placed(turn_deg: float) -> Geometry:
        arm = {circle.motor: turn_deg * share for circle, share in zip(circles.arm, _ARM_SHARES, strict=False)}
        geometry = config.geometry(
            at_rest | arm | {circles.rocking: bragg_deg},
            energy_kev=ENERGY_KEV,
            distance_m=config.detector.distance_m or DISTANCE_M,
        )
        return replace(geometry, arm_pixel=(float(rows // 2), float(columns // 2)))

    def excess_deg(turn_deg: float) -> float:
        return two_theta_deg(placed(turn_deg), rows // 2, columns // 2) - 2 * bragg_deg

    if not circles.arm:
        raise ScanError(f"{config.beamline} has no detector arm, so it reaches no Bragg peak")
    return placed(float(brentq(excess_deg, 0.0, 2 * bragg_deg, xtol=1e-12)))


def rocking_step_deg(geometry: Geometry) -> float:
    """The step that moves q as far as one row does."""
    trial_deg = 1e-3
    rocking, row, _ = np.linalg.norm(q_steps_invA(geometry, trial_deg, *geometry.arm_pixel), axis=0)
    if rocking < 1e-9 * row:
        raise ScanError(f"turning {geometry.rocking!r} does not move q: its axis lies along h")
    return float(trial_deg * row / rocking)


def scan_steps(geometry: Geometry) -> Floats:
    """q_steps_invA of the simulated scan at the arm's pixel, (3, 3)."""
    return q_steps_invA(geometry, rocking_step_deg(geometry), *geometry.arm_pixel)


def diffraction_amplitude(
    truth: Truth, q_steps: Floats, shape: tuple[int, int, int], *, rocking: Floats | None = None
) -> NDArray[np.complex128]:
    """A(n) = sum over r of S(r) exp(-i q.r) at q = (n - N//2) . `q_steps`, relative to h; shape `shape`.
    `rocking` has other places for the frames than n - N//2, in rocking steps from the middle.

    The same as the FFT of the crystal on the detector's conjugate grid (`geometry.direct_basis_nm`), but on a
    grid `_SUPERSAMPLING` times finer and only around the crystal: three small Fourier matrices instead of one
    large, mostly empty transform.
    """
    amplitude, indices, fine = fine_crystal(truth, q_steps, shape)
    places = [np.arange(count, dtype=np.float64) - count // 2 for count in shape]
    if rocking is not None:
        places[0] = rocking
    for index, total, frequency in zip(indices, fine, places, strict=True):
        fourier = np.exp(-2j * np.pi / total * np.outer(index, frequency))
        amplitude = np.tensordot(amplitude, fourier, axes=(0, 0))  # the new axis goes last: they rotate
    return amplitude


def fine_crystal(
    truth: Truth, q_steps: Floats, shape: tuple[int, int, int]
) -> tuple[NDArray[np.complex128], list[Floats], tuple[int, int, int]]:
    """S on the grid of `diffraction_amplitude`, only around the crystal; the index of each point along each axis
    of that grid, and the whole grid's shape."""
    fine = (shape[0] * _SUPERSAMPLING, shape[1] * _SUPERSAMPLING, shape[2] * _SUPERSAMPLING)
    basis_nm = direct_basis_nm(q_steps, fine)
    corners = np.linalg.solve(basis_nm, truth.vertices_nm().T)
    indices = [np.arange(np.floor(low), np.ceil(high) + 1) for low, high in zip(corners.min(1), corners.max(1))]
    points_nm = np.stack(np.meshgrid(*indices, indexing="ij"), axis=-1) @ basis_nm.T
    return truth.density_at(points_nm), indices, fine


def blurred(pattern: Floats, widths: Vector) -> Floats:
    """`pattern` convolved with a Gaussian of `widths` (standard deviations in voxels), periodic.

    The Gaussian is the continuous one, not its samples: exact as long as the pattern is sampled well enough.
    """
    if tuple(widths) == COHERENT:
        return pattern
    transform = ndimage.fourier_gaussian(fft.fftn(pattern), widths)
    smeared: Floats = np.maximum(fft.ifftn(transform).real, 0)
    return smeared


def _check(shape: tuple[int, ...], photons: float, background: float, blur: Vector) -> None:
    if len(shape) != 3 or min(shape) < 8:
        raise ScanError(f"a simulated scan needs at least 8 frames, rows and columns, not {shape}")
    if not (np.isfinite(photons) and photons > 0 and np.isfinite(background) and background >= 0):
        raise ScanError(f"photons must be positive and background not negative: {photons}, {background}")
    if len(blur) != 3 or not (np.isfinite(blur).all() and min(blur) >= 0):
        raise ScanError(f"the pattern is blurred by three widths that are not negative, not {blur}")
