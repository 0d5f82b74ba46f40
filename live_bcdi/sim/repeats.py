"""Repeats of one scan as an experiment gives them, good ones and bad ones: what is wrong with each is known."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..geometry import rocking_circle
from ..types import Geometry, RockingScan, ScanError
from .crystals import Floats, Truth
from .parts import vector
from .scattering import diffraction_amplitude, rocking_step_deg, scan_steps

_ALIEN_PLACE = (0.18, -0.31, 0.29)  # of the array, from the peak
_DARK_SHARE = 5e-4  # of its counts that a monitor reads without beam


def moved(truth: Truth, q_invA: Floats) -> Truth:
    """The crystal with its peak moved by `q_invA` (3,): a displacement g . r of the lattice moves it by -|h| g."""
    gradient = np.asarray(truth.gradient_angstrom_per_nm) - q_invA * 10 / np.linalg.norm(truth.h_invA)
    return replace(truth, gradient_angstrom_per_nm=vector(gradient))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Repeated:
    """One crystal that is scanned again and again in `shape` (frames, rows, columns), `photons` expected a scan.

    A frame sums `acquisitions`, each of which the detector counts up to `saturation_counts`. The beam scatters by
    `beam` from frame to frame, and the monitor, of `monitor_counts`, follows it but for its own counting noise.
    """

    truth: Truth
    geometry: Geometry
    shape: tuple[int, int, int]
    photons: float
    beam: float = 0.0
    monitor_counts: float = 1e5
    saturation_counts: float = np.inf
    acquisitions: int = 1

    def expected(self, shift: Floats | tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Floats:
        """Counts where the beam is steady, of the crystal whose peak went by `shift` voxels."""
        steps = scan_steps(self.geometry)
        here = moved(self.truth, steps @ np.asarray(shift))
        still, pattern = (
            np.abs(diffraction_amplitude(each, steps, self.shape)) ** 2 for each in (self.truth, here)
        )
        return np.asarray(pattern * (self.photons / still.sum()))

    def scan(self, expected: Floats, random: np.random.Generator, *, brightness: float = 1.0) -> RockingScan:
        """Counts of what is expected, and of the beam's monitor."""
        frames = self.shape[0]
        beam = np.maximum(random.normal(1, self.beam, frames), 0.2) if self.beam else np.ones(frames)
        counts = random.poisson(expected * (brightness * beam)[:, None, None])
        angles = rocking_circle(self.geometry).angle_deg + rocking_step_deg(self.geometry) * (
            np.arange(frames) - frames // 2
        )
        limit = self.saturation_counts * self.acquisitions
        return RockingScan(
            name="repeated",
            intensity=np.minimum(counts, round(limit)) if np.isfinite(limit) else counts,
            angles_deg=angles,
            geometry=self.geometry,
            monitor=random.poisson(self.monitor_counts * beam).astype(np.float64),
            saturation_counts=limit if np.isfinite(limit) else None,
        )

    def series(
        self, count: int, *, drift_voxels: float = 0.4, fading: float = 0.0, seed: int = 0
    ) -> Iterator[RockingScan]:
        """Good scans: the peak drifts as a random walk of `drift_voxels` a scan along each axis, and of the counts
        the share `fading` is lost by the last."""
        random = np.random.default_rng([seed, 21])
        walk = np.cumsum(random.normal(0, drift_voxels, (count, 3)), axis=0)
        for number, shift in enumerate(walk - walk.mean(axis=0)):
            made = self.scan(self.expected(shift), random, brightness=1 - fading * number / max(count - 1, 1))
            yield replace(made, name=f"repeated-{number + 1}")

    def bad(self, kind: str, strength: float, *, seed: int = 0) -> RockingScan:
        """A scan with what `BAD` says, as strong as that says. Raises ScanError for another kind."""
        if kind not in BAD:
            raise ScanError(f"there is no bad scan of the kind {kind!r}; there are {', '.join(BAD)}")
        random = np.random.default_rng([seed, 22])
        made = BAD[kind](self, strength, random)
        return replace(made, name=f"{kind} {strength:g}")


def _alien(source: Repeated, strength: float, random: np.random.Generator) -> RockingScan:
    """Another crystal has `strength` of the peak's counts, off to a side."""
    at_rest = source.expected()
    places = [round(share * n) for share, n in zip(_ALIEN_PLACE, source.shape)]
    other = np.roll(np.flip(at_rest), places, axis=(0, 1, 2))
    return source.scan(at_rest + strength * other, random)


def _hot(source: Repeated, strength: float, random: np.random.Generator) -> RockingScan:
    """So many pixels count 300 more in each frame."""
    made = source.scan(source.expected(), random)
    rows, columns = source.shape[1:]
    for pixel in random.choice(rows * columns, round(strength), replace=False):
        made.intensity[:, pixel // columns, pixel % columns] += 300
    return made


def _turned_away(source: Repeated, strength: float, random: np.random.Generator) -> RockingScan:
    """The peak is so many frames before the last; negative beyond it."""
    return source.scan(source.expected((source.shape[0] // 2 - 1 - strength, 0.0, 0.0)), random)


def _lost(source: Repeated, strength: float, random: np.random.Generator) -> RockingScan:
    """Of the crystal `strength` is in the beam; besides there is 1 count in 1000 voxels."""
    return source.scan(strength * source.expected() + 1e-3, random)


def _beam_lost(source: Repeated, strength: float, random: np.random.Generator) -> RockingScan:
    """The last share `strength` of the frames are without beam."""
    dark = np.arange(source.shape[0]) >= round((1 - strength) * source.shape[0])
    made = source.scan(np.where(dark[:, None, None], 0, source.expected()), random)
    assert made.monitor is not None
    return replace(made, monitor=np.where(dark, _DARK_SHARE * source.monitor_counts, made.monitor))


def _jumped(source: Repeated, strength: float, random: np.random.Generator) -> RockingScan:
    """In the middle of the scan the crystal jumped by so many pixels, in a direction of the detector at random."""
    angle = random.uniform(0, 2 * np.pi)
    after = source.expected((0.0, strength * float(np.cos(angle)), strength * float(np.sin(angle))))
    later = np.arange(source.shape[0]) >= source.shape[0] // 2 + random.integers(-3, 4)
    return source.scan(np.where(later[:, None, None], after, source.expected()), random)


def _stale(source: Repeated, strength: float, random: np.random.Generator) -> RockingScan:
    """So many frames, about the peak, are the one before them."""
    made = source.scan(source.expected(), random)
    first = source.shape[0] // 2 - round(strength) // 2
    made.intensity[first : first + round(strength)] = made.intensity[first - 1]
    return made


def _missing(source: Repeated, strength: float, random: np.random.Generator) -> RockingScan:
    """So many frames, anywhere, never came."""
    made = source.scan(source.expected(), random)
    lost = random.choice(source.shape[0], round(strength), replace=False)
    made.intensity[lost] = 0
    return replace(made, have=~np.isin(np.arange(source.shape[0]), lost))


def _saturated(source: Repeated, strength: float, random: np.random.Generator) -> RockingScan:
    """The peak is `strength` times as bright as the detector can count."""
    at_rest = source.expected()
    limit = source.saturation_counts * source.acquisitions
    return source.scan(at_rest, random, brightness=strength * limit / float(at_rest.max()))


BAD: dict[str, Callable[[Repeated, float, np.random.Generator], RockingScan]] = {
    "alien": _alien,
    "hot pixels": _hot,
    "turned away": _turned_away,
    "crystal lost": _lost,
    "beam lost": _beam_lost,
    "jump": _jumped,
    "stale frames": _stale,
    "missing frames": _missing,
    "saturated": _saturated,
}
