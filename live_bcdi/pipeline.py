"""From a rocking scan to a crystal with strain. The same call serves the command line and the services."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from time import perf_counter

import numpy as np

from .geometry import direct_basis_nm
from .phasing import (
    DEFAULT_STARTS,
    Pattern,
    Plan,
    Recipe,
    Start,
    as_recipe,
    metrics,
    phase_pattern,
    retrieve,
)
from .phasing.align import with_ramp, without_ramp
from .phasing.kernels_numpy import Object
from .phasing.operators import ER, HIO, ShrinkWrap
from .preprocess import diffraction_volume, good_length, rocking_grid_deg
from .strain import lab_image
from .types import BoolArray, DiffractionVolume, Outcome, Reconstruction, RockingScan, ScanError, Vector

Progress = Callable[[float, str], None]


def reconstruct(
    scan: RockingScan,
    *,
    recipe: Recipe | str | None = None,
    starts: int | None = None,
    seed: int = 0,
    threads: int = 1,
    budget_s: float | None = None,
    initial: Object | None = None,
    progress: Progress | None = None,
) -> Reconstruction:
    """Preprocess, phase, align, orthogonalise, strain; deterministic for a scan, recipe, starts and seed
    (without a budget). `initial` is an object to start the first start from, of the volume's shape;
    `progress` is told the share done and a line about it. Raises ScanError as its parts do.
    """
    tell = progress or (lambda share, text: None)
    plan = Plan(
        recipe=as_recipe(recipe),
        starts=starts or DEFAULT_STARTS,
        seed=seed,
        initial=initial,
        threads=threads,
        budget_s=budget_s,
    )
    volume = diffraction_volume(scan)
    tell(0.05, f"volume {volume.intensity.shape}, peak at {volume.centre}")
    pattern = Pattern(intensity=volume.intensity, mask=volume.mask)
    result, aligned = phase_pattern(pattern, plan, lambda share, text: tell(0.05 + 0.85 * share, text))
    result = replace(result, volume=volume, provenance=provenance(scan))
    if not aligned:
        return result
    resolution = metrics.transfer_function(aligned, volume.intensity, volume.mask, volume.q_steps_invA)
    tell(0.95, "orthogonalising")
    flat, slopes = without_ramp(result.density)
    done = replace(result, lab=lab_image(flat, slopes, volume), resolution=resolution)
    tell(1.0, done.outcome.value)
    return done


def provenance(scan: RockingScan) -> dict[str, str]:
    """What made a result: the scan, a checksum of what it holds, and the versions that matter."""
    digest = hashlib.sha256()
    for array in (scan.intensity, scan.angles_deg):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    versions = {name: version(name) for name in ("live_bcdi", "numpy", "scipy", "numba", "pyfftw")}
    return {"scan": scan.name, "input_sha256": digest.hexdigest(), **versions}


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveEstimate:
    """The crystal as far as a scan shows it: `density` and `support` (rocking, row, column) on the detector's
    conjugate grid, voxel edges in nm along its axes; `frames` it was made of, `seconds` it took.

    `origin` is where the pattern was centred, in voxels that do not move with the window (rocking angle over
    step, pixels from the one the arm points at), for the next estimate to start from.
    """

    density: Object
    support: BoolArray
    chi: float
    frames: int
    seconds: float
    voxel_nm: Vector
    origin: Vector


def live_estimate(
    scan: RockingScan,
    *,
    previous: LiveEstimate | None = None,
    iterations: int = 40,
    seed: int = 0,
    threads: int = 1,
) -> LiveEstimate:
    """A quick object from the frames so far, missing frames free; warm-started from `previous`.

    Raises ScanError where too little has been seen (fewer than 3 frames, no counts) or the retrieval diverged.
    """
    began = perf_counter()
    shape = (good_length(scan.intensity.shape[0]), *map(good_length, scan.intensity.shape[1:]))
    volume = diffraction_volume(scan, shape=(shape[0], shape[1], shape[2]))
    origin = _origin(scan, volume)
    start = Start(seed=seed)
    if previous is not None and previous.density.shape == volume.intensity.shape:
        start = Start(initial=_moved(previous, origin), support=previous.support)
    finish = max(iterations // 4, 1)
    recipe = max(iterations - finish, 1) * HIO + ShrinkWrap(sigma=1.5, threshold=0.15) + finish * ER
    found = retrieve(Pattern(intensity=volume.intensity, mask=volume.mask), recipe, start=start, threads=threads)
    if found.outcome is Outcome.DIVERGED:
        raise ScanError(f"{scan.name}: {found.outcome.value}")
    edges = np.linalg.norm(direct_basis_nm(volume.q_steps_invA, volume.intensity.shape), axis=0)
    return LiveEstimate(
        density=found.density,
        support=found.support,
        chi=found.chi,
        frames=len(scan.intensity) if scan.have is None else int(np.count_nonzero(scan.have)),
        seconds=perf_counter() - began,
        voxel_nm=(float(edges[0]), float(edges[1]), float(edges[2])),
        origin=origin,
    )


def _origin(scan: RockingScan, volume: DiffractionVolume) -> Vector:
    have = np.ones(len(scan.intensity), bool) if scan.have is None else scan.have
    first, step = rocking_grid_deg(scan.angles_deg, have)
    row, column = scan.geometry.arm_pixel
    return (first / step + volume.centre[0], volume.centre[1] - row, volume.centre[2] - column)


def _moved(previous: LiveEstimate, origin: Vector) -> Object:
    """The previous object with the phase ramp that moves its pattern to the new centre of the volume."""
    slopes = [-2 * np.pi * (new - old) / n for new, old, n in zip(origin, previous.origin, previous.density.shape)]
    return with_ramp(previous.density, (slopes[0], slopes[1], slopes[2]))
