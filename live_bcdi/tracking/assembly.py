"""A volume assembled from frames whose angles are not known, or not to be trusted, and that may roll.

In the spirit of Björling et al., Phys. Rev. Lett. 125, 246101 (2020), who find a probability for each frame at
each angle and roll from a volume, and the volume from those (Loh & Elser, Phys. Rev. E 80, 026705 (2009)). Here
the volume is a short Fourier series along the rocking axis (`band`) or, where no motor tells the angles, what one
crystal scatters (`crystal`), and the frames follow one another (`walk`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray, FloatArray, ScanError
from .band import Band, Floats, band_of, cutoff_of
from .centroid import LEAST_COUNTS
from .course import Found, anew, driven, free, infer, likeliest, near, peak
from .disorder import NEAR, Disorder, disorder
from .fringes import Fringes, fringes_along, fringes_of, smooth_series
from .rolls import Roll, Turned, turned_back, turned_blocks

_FEWEST_FRAMES = 12
_TERMS = 25  # where no motor tells how far the crystal turned
_BLOCK = 2  # pixels
_FILLED = 2  # times
_DARK = 0.01  # of a frame: a frame without counts does not decide alone


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Assembly:
    """What `assemble` found. `angles` (frames,) and their spread `angles_std` are in nominal steps; a frame less
    than a step from its nominal angle is left there, as `track_scan` tells that better. Without a motor they are
    in arbitrary units: direction, offset and scale are unknown, and slow warps hardly known. Rolls are in degrees,
    from rows to columns, about a common one that is not known. The standard deviations are by counting noise with
    the volume given, much less than the whole error.

    `volume` (places, rows, columns) has the counts of a frame at each of `places`, even ones, without roll, and
    without a motor smoothed across pixels too; `measured` is False, and it is 0, where no frame was near.
    """

    angles: Floats
    angles_std: Floats
    rolls_deg: Floats
    rolls_std_deg: Floats
    places: Floats
    volume: NDArray[np.float32]
    measured: NDArray[np.bool_]
    cutoff: float
    log_likelihood: float
    disorder: Disorder


def assemble(
    frames: FloatArray,
    *,
    nominal: FloatArray | None = None,
    bad_pixels: BoolArray | None = None,
    roll: Roll | None = None,
    cutoff: float | None = None,
    terms: int = _TERMS,
) -> Assembly:
    """The angle and roll of each of `frames` (frames, rows, columns; counts), and the volume they are slices of.

    `nominal` (frames,) are the motor's angles in rocking steps: then frames may be off by any number of steps, out
    of order, twice there or missing, and shift and stretch are the motor's. Without it the crystal rotates as it
    likes; it should come in at one side of the peak and go out at the other, `terms` being about 2.3 times the
    number of fringes that pass. `cutoff` (cycles a step) is measured where a motor tells the step. `roll` says
    about which pixel the frames turn, None that they do not. Pixels True in `bad_pixels` (rows, columns) are not
    used.

    Raises ScanError for few frames, frames without counts, or wrong shapes.
    """
    counts, good = _checked(frames, nominal, bad_pixels, terms)
    first = _first_alike(counts)
    once = first == np.arange(len(counts))
    turned = turned_blocks(counts[once], good, roll, _BLOCK)
    asked = np.arange(len(counts), dtype=np.float64) if nominal is None else np.asarray(nominal, np.float64)
    found, fringes = _found(turned, None if nominal is None else asked[once], cutoff, terms)
    angles, angles_std = near(found.posterior, found.course)
    places = np.arange(np.round(asked.min()), np.round(asked.max()) + 1)
    rolls_deg, rolls_std = peak(found.posterior.chance.sum(axis=2), turned.rolls_deg)
    band = found.course.band
    rate = band.order / band.period
    reach = NEAR if nominal is not None else 1 / (4 * rate)  # half of what a series of that band may be sampled by
    back, known = _backs(counts[once], good, roll, rolls_deg), (band, fringes.finer(_BLOCK))
    volume, measured = _volume(back, angles, places, known, reach)
    spread = (np.cumsum(once) - 1)[first]
    seen = Disorder(out_of_order=(), duplicates=(), missing=())
    if nominal is not None:
        seen = disorder(first, np.asarray(nominal, np.float64), angles[spread], angles_std[spread])
    return Assembly(
        angles=angles[spread],
        angles_std=angles_std[spread],
        rolls_deg=rolls_deg[spread],
        rolls_std_deg=rolls_std[spread],
        places=places,
        volume=volume,
        measured=measured,
        cutoff=rate,
        log_likelihood=found.posterior.log_likelihood,
        disorder=seen,
    )


def _first_alike(counts: Floats) -> NDArray[np.int64]:
    """The number of the first frame with the very same counts: its own, but for frames that were stored twice."""
    seen: dict[bytes, int] = {}
    enough = counts.sum(axis=(1, 2)) >= LEAST_COUNTS
    return np.array(
        [seen.setdefault(one.tobytes(), k) if much else k for k, (one, much) in enumerate(zip(counts, enough))]
    )


def _found(turned: Turned, nominal: Floats | None, cutoff: float | None, terms: int) -> tuple[Found, Fringes]:
    """By the motor's course, or the likeliest of the free ones."""
    if nominal is not None:
        rate = _rate(turned, nominal) if cutoff is None else cutoff
        fringes = fringes_along(rate)
        return infer(turned, driven(nominal, rate), fringes), fringes
    rate = (terms - 1) // 2 / band_of(np.arange(float(len(turned.counts))), 1.0).period
    fringes = fringes_of(turned.middle(), rate)
    first = likeliest([infer(turned, course, fringes) for course in free(turned, terms, fringes)])
    again = [infer(turned, course, fringes) for course in anew(first, turned)]
    return max([first, *again], key=lambda each: each.posterior.log_likelihood), fringes


def _rate(turned: Turned, nominal: Floats) -> float:
    return cutoff_of(
        turned.counts[np.argsort(nominal, kind="stable"), turned.counts.shape[1] // 2].astype(np.float64)
    )


def _backs(counts: Floats, good: NDArray[np.bool_], roll: Roll | None, rolls_deg: Floats) -> Floats:
    centre = (0.0, 0.0) if roll is None else roll.centre
    return np.stack([turned_back(one, good, centre, float(deg)) for one, deg in zip(counts, rolls_deg)])


def _volume(
    back: Floats, angles: Floats, places: Floats, known: tuple[Band, Fringes], reach: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The series through all counts at `places`, and where a frame is near enough and has the pixel. A hole in a
    frame first counts as the pixel's mean, then as the series says."""
    holes = ~np.isfinite(back)
    whole = np.where(holes, np.nansum(back, axis=0) / np.maximum((~holes).sum(axis=0), 1), back)
    for _ in range(_FILLED if holes.any() else 0):
        whole = np.where(holes, _series(whole, angles, angles, known), whole)
    near_by = (np.abs(places[:, None] - angles) <= reach).astype(np.float32)
    measured = np.tensordot(near_by, (~holes).astype(np.float32), axes=1) > 0
    made = np.where(measured, _series(whole, angles, places, known), 0)
    return made.astype(np.float32), measured


def _series(counts: Floats, angles: Floats, places: Floats, known: tuple[Band, Fringes]) -> Floats:
    """Least squares with weights that fall with a frame's brightness."""
    band, fringes = known
    light = counts.sum(axis=(1, 2))
    weighted = band.values(angles) / (light + _DARK * light.mean())[:, None]
    gram = weighted.T @ band.values(angles)
    right = np.tensordot(weighted, counts, axes=(0, 0))
    series = smooth_series(gram, right, band, fringes, float(light.mean()))
    return np.asarray(np.maximum(np.tensordot(band.values(places), series, axes=1), 0))


def _checked(
    frames: FloatArray, nominal: FloatArray | None, bad_pixels: BoolArray | None, terms: int
) -> tuple[Floats, NDArray[np.bool_]]:
    counts = np.asarray(frames, np.float64)
    if counts.ndim != 3 or len(counts) < _FEWEST_FRAMES:
        raise ScanError(
            f"an assembly needs {_FEWEST_FRAMES} frames of rows and columns at least, not {counts.shape}"
        )
    if min(counts.shape[1:]) < _BLOCK:
        raise ScanError(f"frames of {counts.shape[1:]} pixels are too small to be assembled")
    if nominal is not None and (np.shape(nominal) != (len(counts),) or not np.isfinite(nominal).all()):
        raise ScanError(f"{len(counts)} frames need as many finite nominal angles, not {np.shape(nominal)}")
    good = np.ones(counts.shape[1:], bool) if bad_pixels is None else ~np.asarray(bad_pixels, bool)
    if good.shape != counts.shape[1:]:
        raise ScanError(f"the bad pixels are {good.shape}, the frames {counts.shape[1:]}")
    if not np.isfinite(counts[:, good]).all() or (counts[:, good] < 0).any():
        raise ScanError("counts must be finite and not negative; name the bad pixels")
    if not counts[:, good].sum() > 0:
        raise ScanError("the frames have no counts outside the bad pixels")
    if not 3 <= terms <= 2 * len(counts):
        raise ScanError(f"{terms} terms: there must be 3 at least, and no more than twice the frames")
    return np.where(good, counts, 0), good
