"""Frames of a crystal that rotates freely: no motor tells its angle, and the frames roll about a pixel besides."""

from dataclasses import dataclass

import finufft
import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..geometry import q_lab_invA
from .crystals import Floats, Truth, random_truth
from .scattering import bragg_geometry, fine_crystal, scan_steps

_ACCURACY = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tumbling:
    """Counts (frames, rows, columns), and `volume`, those expected at even angles without roll.

    `rolls_deg` and `angles_steps` (frames,) are the truth; a roll turns the frame about the pixel `centre`, from
    rows to columns.
    """

    counts: NDArray[np.int32]
    volume: Floats
    angles_steps: Floats
    rolls_deg: Floats
    centre: tuple[float, float]
    truth: Truth


def simulate_tumbling(
    *,
    config: Config,
    angles_steps: Floats,
    rolls_deg: Floats,
    centre: tuple[float, float],
    detector: tuple[int, int] = (100, 100),
    photons: float = 1e3,
    oversampling: float = 8.0,
    seed: int = 0,
) -> Tumbling:
    """Frame k sees the crystal `angles_steps[k]` rocking steps from its Bragg angle, turned by `rolls_deg[k]`
    about the pixel `centre`: the direct beam's, on or off the detector, for a crystal that turns about the beam,
    as those of Björling et al. (Phys. Rev. Lett. 125, 246101 (2020)) do. The pattern turns with it as it is.

    `photons` are expected of a frame on average. The step moves q as far as a row; with as many steps as rows the
    crystal fills 1 / `oversampling` of all three axes. `volume` has what a frame would count at the steps
    -n//2 ... n - n//2, n being the rows.
    """
    frames = len(angles_steps)
    shape = (detector[0], *detector)
    geometry = bragg_geometry(config, detector)
    steps = scan_steps(geometry)
    h_invA = q_lab_invA(geometry, *geometry.arm_pixel)
    truth = random_truth(h_invA, steps, strain="medium", oversampling=oversampling, seed=seed)
    even = np.arange(shape[0], dtype=np.float64) - shape[0] // 2
    moved = _frames(truth, steps, shape, angles_steps, rolls_deg, centre)
    still = _frames(truth, steps, shape, even, np.zeros(len(even)), centre)
    scale = photons * frames / moved.sum()
    return Tumbling(
        counts=np.random.default_rng([seed, 3]).poisson(scale * moved).astype(np.int32),
        volume=scale * still,
        angles_steps=np.asarray(angles_steps, np.float64),
        rolls_deg=np.asarray(rolls_deg, np.float64),
        centre=centre,
        truth=truth,
    )


def _frames(
    truth: Truth,
    steps: Floats,
    shape: tuple[int, int, int],
    angles: Floats,
    rolls_deg: Floats,
    centre: tuple[float, float],
) -> Floats:
    """|A|^2 of a slice each: the crystal projected along the rocking axis with its phase, then a non-uniform
    transform at the pixels that the roll brings there."""
    amplitude, indices, fine = fine_crystal(truth, steps, shape)
    phases = np.exp(-2j * np.pi / fine[0] * np.outer(np.asarray(angles), indices[0]))
    slices = np.tensordot(phases, amplitude, axes=(1, 0))
    rows, columns = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in shape[1:]), indexing="ij")
    made = np.empty((len(slices), *shape[1:]))
    for number, (one, roll) in enumerate(zip(slices, np.deg2rad(rolls_deg))):
        row = np.cos(roll) * (rows - centre[0]) + np.sin(roll) * (columns - centre[1]) + centre[0] - shape[1] // 2
        column = (
            np.cos(roll) * (columns - centre[1]) - np.sin(roll) * (rows - centre[0]) + centre[1] - shape[2] // 2
        )
        x, y = 2 * np.pi / fine[1] * row.ravel(), 2 * np.pi / fine[2] * column.ravel()
        seen = finufft.nufft2d2(x, y, np.ascontiguousarray(one), isign=-1, eps=_ACCURACY, nthreads=1)
        made[number] = np.abs(seen.reshape(shape[1:])) ** 2
    return made
