"""From a scan and its kinematical retrieval to the refined crystal."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..types import FloatArray, LabImage, Reconstruction, RockingScan, ScanError, StorageError
from .beams import Beams, along_diffracted
from .checkpoint import Checkpoint
from .constants import Polarisation, Susceptibilities
from .detector import FarField
from .fields import transport_of
from .frames import Frames, Settings
from .progress import Progress, TimeLeft
from .refinement import Refined, key_of, refine
from .start import Placed, frames_of, in_the_lab, placed, refraction_divided_out, twin_of
from .transport import Transport
from .unpolarised import Unpolarised

POLARISATIONS = ("sigma", "pi", "unpolarised")

_LOG = logging.getLogger(__name__)

SMOOTHINGS = (60.0, 20.0, 6.0, 2.0)  # weaker ones fit the noise of 3e7 counts (docs/dynamical.md)


@dataclass(frozen=True, kw_only=True, slots=True)
class RefinedScan:
    """The crystal that foretells the free pixels best: `refined` on the grid of `crystal`, and as `lab`.

    `retrieved` is the retrieval on that grid, `start` what was begun from: that, or its twin (`twin`), less
    refraction and absorption. `smoothing` is the last weight that came to anything: weaker ones
    foretold the free pixels no better than what they began from. `free_misfits` has what each attempt came to, by
    "retrieved, smoothing 60" and the like: how much worse the other twin's are says how sure this one is. An
    attempt that failed is not in it.
    """

    refined: Refined
    crystal: Placed
    retrieved: Placed
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
    smoothings: Sequence[float] = SMOOTHINGS,
    polarisation: Polarisation = "sigma",
    background: FloatArray | float = 0.0,
    device: str = "auto",
    threads: int = 1,
    checkpoint: Path | str | None = None,
    progress: Progress | None = None,
) -> RefinedScan:
    """The crystal of `scan` through the dynamical model, from its retrieval `result`.

    The retrieval and its twin are both refined, with one weight of the total variation after the other, each from
    what the last came to: the strong ones lead past what a poor retrieval has wrong, the weak ones let the counts
    speak. What foretells the free pixels best is taken, never what fits best. `settings.smoothing` is not looked
    at. `threads` share the march and the far field. `polarisation` is of the beam, to the scattering plane.
    `background` in counts by monitor and flat field is a number, (row, column) or (rocking, row, column).
    `checkpoint` is a file that a killed refinement goes on from; remove it when it is done. `progress` is told the
    share of all attempts, and the time left of them. Raises ScanError for input that cannot be used.
    """
    if polarisation not in POLARISATIONS:
        raise ScanError(f"no polarisation {polarisation!r}; there are {', '.join(POLARISATIONS)}")
    if not smoothings:
        raise ScanError("give at least one weight of smoothing")
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
    starts = {name: refraction_divided_out(each, beams) for name, each in starts.items()}
    frames, far_field = frames_of(scan, retrieved, background, threads=threads)
    transport = _transport(beams, retrieved, polarisation, (device, threads))
    volume = result.volume
    assert volume is not None
    more = f"{constants}{polarisation}{tuple(smoothings)}{volume.centre}{volume.q_steps_invA.tolist()}"
    # of what was placed: how that is rounded may differ from machine to machine
    key = key_of((frames, far_field, transport), (result.density, result.support), chosen, more)
    kept = None if checkpoint is None else Checkpoint(Path(checkpoint), key)
    tell = TimeLeft(progress or (lambda share, text: None))
    search = _Search(frames, far_field, transport, kept, tell)
    search.expected = len(starts) * len(smoothings)
    for name, each in starts.items():
        search.descend(name, each, [replace(chosen, smoothing=weight) for weight in smoothings])
    best = search.best()
    search.tell(1.0, f"taken: {best.label}")
    start = starts[best.name]
    crystal = replace(start, density=np.asarray(best.found.density), s0=np.asarray(best.found.s0, np.float32))
    return RefinedScan(
        refined=best.found,
        crystal=crystal,
        retrieved=retrieved,
        start=start,
        lab=in_the_lab(crystal, volume),
        twin=best.name == "twin",
        smoothing=best.smoothing,
        free_misfits={each.label: each.free_misfit for each in search.attempts},
    )


def _transport(beams: Beams, crystal: Placed, polarisation: Polarisation, on: tuple[str, int]) -> Transport:
    def of(pair: Beams) -> Transport:
        return transport_of(pair, _edges(crystal), crystal.density.shape[2], device=on[0], threads=on[1])

    if polarisation == "unpolarised":
        return Unpolarised(of(beams), of(beams.in_plane()))
    return of(beams if polarisation == "sigma" else beams.in_plane())


def _edges(crystal: Placed) -> tuple[float, float, float]:
    x, y, z = map(float, crystal.edges_m)
    return x, y, z


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attempt:
    name: str
    smoothing: float
    found: Refined

    @property
    def label(self) -> str:
        return f"{self.name}, smoothing {self.smoothing:.3g}"

    @property
    def free_misfit(self) -> float:
        return min(self.found.free_misfits)


class _Search:
    """Refinements of the same frames, and the best of them."""

    def __init__(
        self, frames: Frames, far_field: FarField, transport: Transport, kept: Checkpoint | None, tell: TimeLeft
    ) -> None:
        self._model = frames, far_field, transport
        self._kept, self.tell = kept, tell
        self.attempts: list[_Attempt] = []
        self.expected, self._begun = 1, 0
        self._error: ScanError | None = None

    def best(self) -> _Attempt:
        """Raises the last ScanError where nothing was found."""
        if self._error is not None and not self.attempts:
            raise self._error
        return min(self.attempts, key=lambda each: each.free_misfit)

    def descend(self, name: str, crystal: Placed, ways: Sequence[Settings]) -> None:
        """One refinement after the other, each from the last one's end; the rest is left out where one fails, as
        the wrong twin's may."""
        until = self._begun + len(ways)
        try:
            self._descend(name, crystal, ways)
        except StorageError:
            raise
        except ScanError as error:
            _LOG.warning("refining the %s was given up: %s", name, error)
            self._error = error
        self._begun = until

    def _descend(self, name: str, crystal: Placed, ways: Sequence[Settings]) -> None:
        start, offsets = (crystal.density, crystal.s0), None
        for settings in ways:
            label = f"{name}, smoothing {settings.smoothing:.3g}"
            part = None if self._kept is None else self._kept.part(label)
            told = self._told(label)
            found = refine(*self._model, start, settings, offsets_rad=offsets, progress=told, checkpoint=part)
            self.attempts.append(_Attempt(name=name, smoothing=settings.smoothing, found=found))
            start, offsets = (found.density, found.s0), found.offsets_rad
            self._begun += 1

    def _told(self, label: str) -> TimeLeft:
        done, whole = self._begun, self.expected
        return self.tell.part(done, whole, f"{label} ({done + 1} of {whole}), ")
