"""From a scan and its kinematical retrieval to the refined crystal."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..types import FloatArray, LabImage, Reconstruction, RockingScan, ScanError
from .beams import Beams, along_diffracted
from .checkpoint import Checkpoint
from .constants import Polarisation, Susceptibilities
from .detector import FarField
from .fields import transport_of
from .frames import Frames, Settings
from .refinement import Progress, Refined, key_of, refine
from .start import Placed, frames_of, in_the_lab, placed, twin_of, without_refraction
from .transport import Transport
from .unpolarised import Unpolarised

POLARISATIONS = ("sigma", "pi", "unpolarised")

_FACTOR = 3.0  # between one weight of smoothing and the next
_WEIGHTS = 3  # that are tried on from the first


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinedScan:
    """The crystal that foretells the free pixels best: `refined` on the grid of `crystal`, and as `lab`.

    `start` is what it began from: the retrieval, or its twin (`twin`), less refraction and absorption. `smoothing`
    is the weight that was chosen; `free_misfits` has what each attempt came to, by "retrieved", "twin" and
    "smoothing <weight>".
    """

    refined: Refined
    crystal: Placed
    start: Placed
    lab: LabImage
    twin: bool
    smoothing: float
    free_misfits: Mapping[str, float]


def refine_scan(
    scan: RockingScan,
    result: Reconstruction,
    constants: Susceptibilities,
    settings: Settings | None = None,
    *,
    polarisation: Polarisation = "sigma",
    background: FloatArray | float = 0.0,
    device: str = "auto",
    choose_smoothing: bool = True,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> RefinedScan:
    """The crystal of `scan` through the dynamical model, from its retrieval `result`.

    The retrieval and its twin are both refined, and the one is taken that foretells the free pixels better, never
    the one that fits better. From there, with `choose_smoothing`, the weight of the total variation is taken up or
    down by threes as long as the free pixels are foretold better. `polarisation` is of the beam, to the scattering
    plane. `background` in counts is a number, (row, column) or (rocking, row, column). `checkpoint` is a file that
    a killed refinement goes on from; remove it when it is done. Raises ScanError for input that cannot be used.
    """
    if polarisation not in POLARISATIONS:
        raise ScanError(f"no polarisation {polarisation!r}; there are {', '.join(POLARISATIONS)}")
    chosen = settings or Settings()
    retrieved = placed(scan, result, constants.chi_0)
    beams = along_diffracted(
        retrieved.frame.wavelength_m,
        retrieved.frame.two_theta,
        chi_0=constants.chi_0,
        chi_h=constants.chi_h,
        chi_hbar=constants.chi_hbar,
    )
    starts = {"retrieved": retrieved, "twin": twin_of(retrieved)}
    starts = {name: without_refraction(each, beams) for name, each in starts.items()}
    frames, far_field = frames_of(scan, retrieved, background)
    transport = _transport(beams, retrieved, polarisation, device)
    key = _key(frames, retrieved, chosen, f"{constants}{polarisation}{choose_smoothing}")
    kept = None if checkpoint is None else Checkpoint(checkpoint, key)
    search = _Search(frames, far_field, transport, kept, progress or (lambda share, text: None))
    search.expect(len(starts) + (_WEIGHTS if choose_smoothing else 0))
    for name, each in starts.items():
        search.attempt(name, (each.density, each.s0), chosen)
    twin = search.best == "twin"
    if choose_smoothing and chosen.smoothing > 0:
        search.smooth(chosen)
    refined, used = search.result()
    start = starts["twin" if twin else "retrieved"]
    crystal = replace(start, density=np.asarray(refined.density), s0=np.asarray(refined.s0, np.float32))
    assert result.volume is not None
    return RefinedScan(
        refined=refined,
        crystal=crystal,
        start=start,
        lab=in_the_lab(crystal, result.volume),
        twin=twin,
        smoothing=used.smoothing,
        free_misfits=search.free_misfits(),
    )


def _transport(beams: Beams, crystal: Placed, polarisation: Polarisation, device: str) -> Transport:
    def of(pair: Beams) -> Transport:
        return transport_of(pair, _edges(crystal), crystal.density.shape[2], device=device)

    if polarisation == "unpolarised":
        return Unpolarised(of(beams), of(beams.in_plane()))
    return of(beams if polarisation == "sigma" else beams.in_plane())


def _edges(crystal: Placed) -> tuple[float, float, float]:
    x, y, z = map(float, crystal.edges_m)
    return x, y, z


def _key(frames: Frames, crystal: Placed, settings: Settings, more: str) -> str:
    one = key_of(frames, (crystal.density, crystal.s0), settings)
    return hashlib.sha256(f"{one}{more}{_edges(crystal)}".encode()).hexdigest()


class _Search:
    """Refinements of the same frames, and the best of them."""

    def __init__(
        self, frames: Frames, far_field: FarField, transport: Transport, kept: Checkpoint | None, tell: Progress
    ) -> None:
        self._model = frames, far_field, transport
        self._kept, self._progress = kept, tell
        self._found: dict[str, tuple[Refined, Settings]] = {}
        self._expected = 1

    def expect(self, attempts: int) -> None:
        """How many there will be at most."""
        self._expected = attempts

    @property
    def best(self) -> str:
        return min(self._found, key=lambda name: self.free_misfits()[name])

    def result(self) -> tuple[Refined, Settings]:
        return self._found[self.best]

    def free_misfits(self) -> dict[str, float]:
        return {name: min(each.free_misfits) for name, (each, _) in self._found.items()}

    def attempt(self, name: str, start: tuple[np.ndarray, np.ndarray], settings: Settings) -> None:
        part = None if self._kept is None else self._kept.part(name)
        found = refine(*self._model, start, settings, progress=self._told(name), checkpoint=part)
        self._found[name] = found, settings

    def smooth(self, settings: Settings) -> None:
        """Stronger, or if that is no better weaker, each from the best so far, until it is not better."""
        tried = 0
        for factor in (_FACTOR, 1 / _FACTOR):
            weight = settings.smoothing
            while tried < _WEIGHTS:
                weight, tried = weight * factor, tried + 1
                before, name = self.best, f"smoothing {weight:.3g}"
                best, _ = self.result()
                self.attempt(name, (best.density, best.s0), replace(settings, smoothing=weight))
                if self.best == before:
                    break
            if self.result()[1].smoothing > settings.smoothing:
                return

    def _told(self, name: str) -> Callable[[float, str], None]:
        done = len(self._found)
        return lambda share, text: self._progress((done + share) / self._expected, f"{name}, {text}")
