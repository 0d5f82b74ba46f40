"""The crystal while the scan runs: a network's preview, or a few warm-started iterations on the frames so far,
well under a second.

It says what shape to expect and whether the scan is worth finishing. It is not a result: a small box around the
peak, detector-frame voxels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter, process_time
from typing import Protocol

import numpy as np

from .advice import PatternFacts
from .config import Preprocessing
from .geometry import direct_basis_nm
from .isosurface import Isosurface, isosurface
from .phasing import Pattern, Retrieval, Start, parse, retrieve
from .phasing.align import with_ramp
from .phasing.automatic import traits_of
from .phasing.kernels_numpy import Object
from .phasing.operators import ER, HIO, ShrinkWrap
from .preprocess import diffraction_volume, rocking_grid_deg
from .types import BoolArray, DiffractionVolume, Outcome, Reconstruction, RockingScan, ScanError, Vector

TRIANGLES = 12_000  # of the surface that each refresh sends: 0.2 MB


class Unlike(ScanError):
    """A pattern that a network cannot be asked about; the message is a sentence that says why."""


class Preview(Protocol):
    """A network's object of a pattern, and how sure it is: `metrics["phase_std_rad"]`. `also` are objects of the
    pattern's shape that may be better. Raises Unlike."""

    def __call__(self, pattern: Pattern, *, also: Sequence[Object] = ()) -> Reconstruction: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveEstimate:
    """The crystal as far as a scan shows it: `density` and `support` (rocking, row, column) on the detector's
    conjugate grid, voxel edges in nm along its axes; `frames` it was made of, `seconds` it took, `cpu_s` of them
    at work.

    `origin` is where the pattern was centred, in numbers that do not move with the window: the rocking angle in
    degrees, and row and column from the pixel that the arm points at. The next estimate starts from there.
    `surface` is in nm along the lab's axes, `q_centre_invA` the scattering vector there; `pattern` is what the
    frames show before they are retrieved. `preview` is what a network made of them, with the volume, and `defects`
    how likely the crystal has one, by name; without one, `unlike` says why, where a network refused.
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
    cpu_s: float = 0.0
    phase_std_rad: float | None = None
    defects: Mapping[str, float] = field(default_factory=dict)
    preview: Reconstruction | None = None
    unlike: str = ""


def live_estimate(
    scan: RockingScan,
    *,
    edge: int,
    iterations: int = 40,
    previous: LiveEstimate | None = None,
    preview: Preview | None = None,
) -> LiveEstimate:
    """A quick object from the frames so far in a box of `edge` voxels a side; what is not there yet is free.

    `scan` may be a box of the detector. Starts from `previous` where there is one of the same `edge`. With a
    `preview`, the object is the one that it chooses, unless it refuses the pattern. Raises ScanError where too
    little has been seen (fewer than 3 frames, no counts) or the retrieval diverged.
    """
    began_s, worked_s = perf_counter(), process_time()
    volume = diffraction_volume(scan, Preprocessing(shape=(edge, edge, edge)))
    origin, step_deg = _origin(scan, volume)
    pattern = Pattern(intensity=volume.intensity, mask=volume.mask)
    start = Start(seed=0)
    if previous is not None and previous.density.shape == volume.intensity.shape:
        start = Start(initial=_moved(previous, origin, step_deg), support=previous.support)
    seen, unlike = _previewed(pattern, start, preview)
    found = seen or _iterated(pattern, start, iterations, scan.name)
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
        cpu_s=process_time() - worked_s,
        phase_std_rad=None if seen is None else seen.metrics["phase_std_rad"],
        defects={} if seen is None else _defects(seen),
        preview=None if seen is None else replace(seen, volume=volume),
        unlike=unlike,
    )


def _previewed(pattern: Pattern, start: Start, preview: Preview | None) -> tuple[Reconstruction | None, str]:
    if preview is None:
        return None, ""
    try:
        return preview(pattern, also=() if start.initial is None else (start.initial,)), ""
    except Unlike as error:
        return None, str(error)


def _iterated(pattern: Pattern, start: Start, iterations: int, name: str) -> Retrieval:
    finish = max(iterations // 4, 1)
    recipe = max(iterations - finish, 1) * HIO + ShrinkWrap(sigma=1.0, threshold=0.15) + finish * ER
    found = retrieve(pattern, recipe, start=start)
    if found.outcome is Outcome.DIVERGED:
        raise ScanError(f"{name}: {found.outcome.value}")
    return found


def pattern_facts(pattern: Pattern) -> PatternFacts:
    """What advice is given by, of a centred pattern."""
    seen = traits_of(pattern)
    return PatternFacts(counts=seen.counts, oversampling=seen.oversampling, asymmetry=seen.asymmetry)


def _defects(seen: Reconstruction) -> dict[str, float]:
    ending = "_probability"
    return {name.removesuffix(ending): each for name, each in seen.metrics.items() if name.endswith(ending)}


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
