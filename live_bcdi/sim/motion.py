"""A rocking scan of a crystal that turns while it is scanned: the angles it really had are known."""

from dataclasses import replace

import numpy as np

from ..config import Config
from ..geometry import q_lab_invA, rocking_circle
from ..types import RockingScan
from .crystals import Floats, Truth, random_truth
from .scattering import OVERSAMPLING, bragg_geometry, diffraction_amplitude, measure, rocking_step_deg, scan_steps


def simulate_moving(
    *,
    config: Config,
    offsets_steps: Floats,
    detector: tuple[int, int] = (48, 48),
    photons: float = 1e6,
    finer: float = 2.0,
    seed: int = 0,
) -> tuple[RockingScan, Truth]:
    """A scan whose frame k was counted `offsets_steps[k]` rocking steps beyond the angle that the file says.

    The step is `finer` times finer than that of `simulate_scan`, so that the crystal fills 1 / (3 finer) of the
    rocking axis. `photons` are expected of the whole scan where nothing moves.
    """
    shape = (len(offsets_steps), *detector)
    geometry = bragg_geometry(config, detector)
    h_invA, steps = q_lab_invA(geometry, *geometry.arm_pixel), scan_steps(geometry)
    truth = random_truth(h_invA, steps, strain="medium", oversampling=OVERSAMPLING, seed=seed)
    index = np.arange(shape[0], dtype=np.float64) - shape[0] // 2
    still, moved = (
        np.abs(diffraction_amplitude(truth, steps, shape, rocking=np.asarray((index + offset) / finer))) ** 2
        for offset in (np.zeros(shape[0]), offsets_steps)
    )
    counts = np.random.default_rng([seed, 2]).poisson(moved * (photons / still.sum())).astype(np.int32)
    scan = measure(truth, geometry, shape=shape, photons=photons, seed=seed)
    centre_deg = rocking_circle(geometry).angle_deg
    angles_deg = centre_deg + index * rocking_step_deg(geometry) / finer
    return replace(scan, name=f"moving-{seed}", intensity=counts, angles_deg=angles_deg), truth
