"""The crystal while the scan runs: a few warm-started iterations on the frames so far, well under a second.

It says what shape to expect and whether the scan is worth finishing. It is not a result: one start, a small box
around the peak, detector-frame voxels.
"""

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from .advice import PatternFacts
from .config import Preprocessing
from .geometry import direct_basis_nm
from .isosurface import Isosurface, isosurface
from .phasing import Pattern, Start, parse, retrieve
from .phasing.align import with_ramp
from .phasing.automatic import traits_of
from .phasing.kernels_numpy import Object
from .phasing.operators import ER, HIO, ShrinkWrap
from .preprocess import diffraction_volume, rocking_grid_deg
from .types import BoolArray, DiffractionVolume, Outcome, RockingScan, ScanError, Vector

TRIANGLES = 12_000  # of the surface that each refresh sends: 0.2 MB


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveEstimate:
    """The crystal as far as a scan shows it: `density` and `support` (rocking, row, column) on the detector's
    conjugate grid, voxel edges in nm along its axes; `frames` it was made of, `seconds` it took.

    `origin` is where the pattern was centred, in numbers that do not move with the window: the rocking angle in
    degrees, and row and column from the pixel that the arm points at. The next estimate starts from there.
    `surface` is in nm along the lab's axes, `q_centre_invA` the scattering vector there; `pattern` is what the
    frames show before they are retrieved.
    """

    density: Object
    support: BoolArray
    chi: float
    frames: int
    seconds: float
    voxel_nm: Vector
    origin: Vector
    q_centre_invA: Vector
    pattern: PatternFacts
    surface: Isosurface | None = None


def live_estimate(
    scan: RockingScan, *, edge: int, iterations: int = 40, previous: LiveEstimate | None = None
) -> LiveEstimate:
    """A quick object from the frames so far in a box of `edge` voxels a side; what is not there yet is free.

    `scan` may be a box of the detector. Starts from `previous` where there is one of the same `edge`. Raises
    ScanError where too little has been seen (fewer than 3 frames, no counts) or the retrieval diverged.
    """
    began_s = perf_counter()
    volume = diffraction_volume(scan, Preprocessing(shape=(edge, edge, edge)))
    origin, step_deg = _origin(scan, volume)
    start = Start(seed=0)
    if previous is not None and previous.density.shape == volume.intensity.shape:
        start = Start(initial=_moved(previous, origin, step_deg), support=previous.support)
    finish = max(iterations // 4, 1)
    recipe = max(iterations - finish, 1) * HIO + ShrinkWrap(sigma=1.0, threshold=0.15) + finish * ER
    pattern = Pattern(intensity=volume.intensity, mask=volume.mask)
    found = retrieve(pattern, recipe, start=start)
    if found.outcome is Outcome.DIVERGED:
        raise ScanError(f"{scan.name}: {found.outcome.value}")
    basis_nm = direct_basis_nm(volume.q_steps_invA, (edge, edge, edge))
    edges = np.linalg.norm(basis_nm, axis=0)
    q_x, q_y, q_z = volume.q_centre_invA
    surface = isosurface(found.density, found.support, basis_nm, triangles=TRIANGLES)
    return LiveEstimate(
        density=found.density,
        support=found.support,
        chi=found.chi,
        frames=len(scan.intensity) if scan.have is None else int(np.count_nonzero(scan.have)),
        seconds=perf_counter() - began_s,
        voxel_nm=(float(edges[0]), float(edges[1]), float(edges[2])),
        origin=origin,
        q_centre_invA=(float(q_x), float(q_y), float(q_z)),
        pattern=pattern_facts(pattern),
        surface=surface,
    )


def pattern_facts(pattern: Pattern) -> PatternFacts:
    """What advice is given by, of a centred pattern."""
    seen = traits_of(pattern)
    return PatternFacts(counts=seen.counts, oversampling=seen.oversampling, asymmetry=seen.asymmetry)


def warm_up() -> None:
    """Load and compile what an estimate needs, before the first frame asks for it."""
    pattern = np.random.default_rng(0).poisson(2.0, (16, 16, 16)).astype(np.float32)
    retrieve(Pattern(intensity=pattern, mask=np.zeros(pattern.shape, bool)), parse("2*HIO + 2*ER"))


def _origin(scan: RockingScan, volume: DiffractionVolume) -> tuple[Vector, float]:
    """Where the volume is centred, and the rocking step in degrees."""
    have = np.ones(len(scan.intensity), bool) if scan.have is None else scan.have
    first, step = rocking_grid_deg(scan.angles_deg, have)
    row, column = scan.geometry.arm_pixel
    rocking, *pixel = volume.centre
    return (first + step * rocking, pixel[0] - row, pixel[1] - column), step


def _moved(previous: LiveEstimate, origin: Vector, step_deg: float) -> Object:
    """The previous object with the phase ramp that moves its pattern to the new centre of the volume.

    A volume is centred on a whole frame, so the way from one centre to the other is whole steps; what the
    encoder's noise and the newly fitted step add to it is rounded off.
    """
    degrees, rows, columns = np.subtract(origin, previous.origin)
    shift = (round(degrees / step_deg), rows, columns)
    slopes = [-2 * np.pi * voxels / n for voxels, n in zip(shift, previous.density.shape)]
    return with_ramp(previous.density, (slopes[0], slopes[1], slopes[2]))
