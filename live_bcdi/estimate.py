"""The crystal while the scan runs: a few warm-started iterations on the frames so far, about a second of one core.

It says what shape to expect and whether the scan is worth finishing. It is not a result: one start, a small box
around the peak, detector-frame voxels.
"""

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .geometry import direct_basis_nm
from .phasing import Pattern, Start, as_recipe, retrieve
from .preprocess import diffraction_volume
from .types import BoolArray, DiffractionVolume, Outcome, RockingScan, ScanError, Vector


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveEstimate:
    """`density` and `support` (rocking, row, column) on the conjugate grid of an `edge`-cubed box of voxels
    `voxel_nm`, from `frames` frames within it; `place` is where the box stood, for the next warm start."""

    density: NDArray[np.complex64]
    support: BoolArray
    chi: float
    frames: int
    seconds: float
    voxel_nm: Vector
    place: Vector = field(repr=False)


def live_estimate(
    scan: RockingScan, *, edge: int, iterations: int, previous: LiveEstimate | None = None
) -> LiveEstimate:
    """Retrieve what there is of `scan`, from `previous` where there is one. Frames to come are free voxels.

    `scan` may be a box of the detector. Raises ScanError where there is not enough to phase yet.
    """
    began_s = time.perf_counter()
    volume = diffraction_volume(scan, shape=(edge, edge, edge))
    place = _place(scan, volume)
    pattern = Pattern(intensity=volume.intensity, mask=volume.mask)
    if previous is None or previous.density.shape != volume.intensity.shape:
        start = Start(seed=0)
    else:
        start = Start(initial=_moved(previous, place), support=previous.support)
    polish = max(1, iterations // 4)
    recipe = as_recipe(
        f"{iterations - polish}*HIO(beta=0.9) + ShrinkWrap(sigma=1.0, threshold=0.15) + {polish}*ER"
    )
    found = retrieve(pattern, recipe, start=start)
    if found.outcome is Outcome.DIVERGED or not found.support.any():
        raise ScanError(f"{scan.name}: the frames so far do not determine an object")
    lengths = np.linalg.norm(direct_basis_nm(volume.q_steps_invA, volume.intensity.shape), axis=0)
    return LiveEstimate(
        density=found.density,
        support=found.support,
        chi=found.chi,
        frames=len(scan.intensity) if scan.have is None else int(scan.have.sum()),
        seconds=time.perf_counter() - began_s,
        voxel_nm=(float(lengths[0]), float(lengths[1]), float(lengths[2])),
        place=place,
    )


def warm_up() -> None:
    """Load and compile what an estimate needs, before the first frame asks for it."""
    pattern = np.random.default_rng(0).poisson(2.0, (16, 16, 16)).astype(np.float32)
    retrieve(Pattern(intensity=pattern, mask=np.zeros(pattern.shape, bool)), as_recipe("2*HIO + 2*ER"))


def _place(scan: RockingScan, volume: DiffractionVolume) -> Vector:
    """The box's centre in voxels that do not depend on where the box was cut: angle, and pixels from the arm's."""
    angles = np.asarray(scan.angles_deg, float)
    step = (angles[-1] - angles[0]) / (len(angles) - 1)
    rocking, row, column = volume.centre
    arm_row, arm_column = scan.geometry.arm_pixel
    return (float(angles[0] / step + rocking), row - arm_row, column - arm_column)


def _moved(previous: LiveEstimate, place: Vector) -> NDArray[np.complex64]:
    """The object whose transform is that of `previous`, seen by a box that has moved in reciprocal space."""
    density = previous.density
    for axis, (here, before, length) in enumerate(zip(place, previous.place, density.shape)):
        ramp = np.exp(-2j * np.pi * round(here - before) * (np.arange(length) - length // 2) / length)
        density = density * ramp.reshape([-1 if axis == other else 1 for other in range(3)])
    return density.astype(np.complex64)
