"""A rocking scan of a crystal that turns while it is scanned: the angles it really had are known."""

from dataclasses import replace

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..config import Config
from ..geometry import axes_across, q_lab_invA, rocking_axis_lab, rocking_circle
from ..types import Geometry, RockingScan
from .crystals import Floats, Truth, random_truth
from .scattering import OVERSAMPLING, bragg_geometry, diffraction_amplitude, measure, rocking_step_deg, scan_steps

_TURNS = 9  # places within a frame that turns; a fringe is six steps and more


def simulate_moving(
    *,
    config: Config,
    offsets_steps: Floats,
    detector: tuple[int, int] = (48, 48),
    photons: float = 1e6,
    finer: float = 2.0,
    smear_steps: float = 0.0,
    shifts_px: Floats | None = None,
    gains: Floats | None = None,
    seed: int = 0,
) -> tuple[RockingScan, Truth]:
    """A scan whose frame k was counted `offsets_steps[k]` rocking steps beyond the angle that the file says.

    The step is `finer` times finer than that of `simulate_scan`, so that the crystal fills 1 / (3 finer) of the
    rocking axis. `photons` are expected of the whole scan where nothing moves. The axis turns by `smear_steps`
    about a frame's angle while it counts; `shifts_px` (frames, 2) is how far the pattern lies from where it
    belongs along rows and columns (`seen_by_frames` has both for a crystal that turns and strains); `gains`
    (frames,) are intensities that the monitor does not show.
    """
    shape = (len(offsets_steps), *detector)
    geometry = bragg_geometry(config, detector)
    h_invA, steps = q_lab_invA(geometry, *geometry.arm_pixel), scan_steps(geometry)
    truth = random_truth(h_invA, steps, strain="medium", oversampling=OVERSAMPLING, seed=seed)
    index = np.arange(shape[0], dtype=np.float64) - shape[0] // 2

    def light(offsets: Floats) -> Floats:
        places = np.asarray((index + offsets) / finer)
        return np.asarray(np.abs(diffraction_amplitude(truth, steps, shape, rocking=places)) ** 2)

    turns = (np.arange(_TURNS) + 0.5) / _TURNS - 0.5 if smear_steps else np.zeros(1)
    still = light(np.zeros(shape[0]))
    moved = np.mean([light(offsets_steps + smear_steps * turn) for turn in turns], axis=0)
    if shifts_px is not None:
        moved = np.stack([_shifted(frame, shift) for frame, shift in zip(moved, shifts_px)])
    if gains is not None:
        moved = moved * gains[:, None, None]
    counts = np.random.default_rng([seed, 2]).poisson(moved * (photons / still.sum())).astype(np.int32)
    scan = measure(truth, geometry, shape=shape, photons=photons, seed=seed)
    centre_deg = rocking_circle(geometry).angle_deg
    angles_deg = centre_deg + index * rocking_step_deg(geometry) / finer
    blur_deg = smear_steps * rocking_step_deg(geometry) / finer if smear_steps else None
    moving = replace(scan, intensity=counts, angles_deg=angles_deg, angular_blur_deg=blur_deg)
    return replace(moving, name=f"moving-{seed}"), truth


def seen_by_frames(
    geometry: Geometry, rotation_mdeg: Floats, strain: Floats, *, finer: float = 2.0
) -> tuple[Floats, Floats]:
    """The `offsets_steps` (frames,) and `shifts_px` (frames, 2) of `simulate_moving` for a crystal that in each
    frame is turned by `rotation_mdeg` (frames, 2), about the axes of `tracking.Motion`, and whose Δd/d is `strain`
    (frames,).

    The vector h of the reflection, turned and shortened, is where the middle of the pattern goes; the frames see
    that in steps of the axis and pixels.
    """
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    axis = rocking_axis_lab(geometry)
    axes = axes_across(h, (float(axis[0]), float(axis[1]), float(axis[2])))
    turned = Rotation.from_rotvec(np.deg2rad(1e-3 * rotation_mdeg) @ axes).apply(h) / (1 + strain)[:, None]
    moved = np.linalg.solve(scan_steps(geometry), (turned - h).T)
    return -finer * moved[0], moved[1:].T


def _shifted(frame: Floats, shift: Floats) -> Floats:
    """By the shift theorem: intensity is oversampled; what leaves at one edge comes in at the other."""
    spectrum = ndimage.fourier_shift(np.fft.fft2(frame), shift)
    return np.asarray(np.maximum(np.fft.ifft2(spectrum).real, 0))
