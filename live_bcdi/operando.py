"""One crystal under operation, run after run: numbers of a result, and the principal components of a series.

Of each result: the spacing d = 2 pi / |h| of the diffracting planes, so that d / d_first - 1 between scans is the
mean strain that the zero-mean strain map does not have; the standard deviation of the strain inside the crystal;
the counts; and where the peak is, so that between scans the crystal's rotation is known (`tracking`). Of a series:
how the measured pattern itself changes, before anything is retrieved (compare the order parameter of Serban et al.
2024, https://doi.org/10.1038/s42004-024-01331-y, which is of retrieved phases).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .preprocess import find_centre
from .tracking import Peak, find_peak, motion_between
from .types import DiffractionVolume, FloatArray, LabImage, Reconstruction, RockingScan, ScanError, Vector

EDGE = 25  # bins along each axis of a pattern, the peak in the middle one
SHARE = 0.5  # of the volume, about its peak, at most; beyond it there are few counts
KEPT = 3  # components
_MARGIN = 4  # voxels about what is kept, for the peak to be moved
_WHOLLY = 0.999  # of a voxel that lies between measured ones
_LEAST_SEEN = 0.5  # of a pattern's bins, and of each bin's voxels
_LEAST_REACH = 0.5  # of the series' median: a run that reaches less far would cut the others short


def numbers_of(result: Reconstruction) -> dict[str, float | None]:
    """`d_angstrom`, `strain_std`, `strain_std_error` and `intensity` (counts as phased) of a result.

    None where the geometry, or for the error the spread over the starts, is not known.
    """
    lab, volume = result.lab, result.volume
    h = lab.q_centre_invA if lab is not None else None if volume is None else volume.q_centre_invA
    std, error = (None, None) if lab is None else strain_spread(lab)
    return {
        "d_angstrom": None if h is None else 2 * np.pi / float(np.linalg.norm(h)),
        "strain_std": std,
        "strain_std_error": error,
        "intensity": None if volume is None else float(volume.intensity[~volume.mask].sum(dtype=np.float64)),
    }


def peak_table(result: Reconstruction, scan: RockingScan) -> dict[str, Any] | None:
    """The `Peak` of a result's scan as plain values; None where it cannot be located."""
    if result.volume is None:
        return None
    try:
        peak = find_peak(result.volume, scan)
    except ScanError:
        return None
    return {
        "h_invA": peak.h_invA.tolist(),
        "covariance_invA2": peak.covariance_invA2.tolist(),
        "rocking_axis": list(peak.rocking_axis),
        "counts": peak.counts,
    }


def peak_of(table: Any) -> Peak | None:
    """What `peak_table` gave; None for what results of before it, or a damaged file, have."""
    try:
        h, covariance = np.array(table["h_invA"], float), np.array(table["covariance_invA2"], float)
        x, y, z = map(float, table["rocking_axis"])
        counts = float(table["counts"])
    except (KeyError, TypeError, ValueError):
        return None
    good = h.shape == (3,) and covariance.shape == (3, 3) and np.isfinite([*h, *covariance.flat, x, y, z]).all()
    if not (good and h.any() and counts > 0):
        return None
    return Peak(h_invA=h, covariance_invA2=covariance, rocking_axis=(x, y, z), counts=counts)


def _turned(first: Peak | None, peak: Peak | None) -> dict[str, Any]:
    """How a run's crystal differs from that of the first run whose peak is known; None where that is not known."""
    names = ("rotation_mdeg", "rotation_std_mdeg", "peak_change", "peak_change_std")
    try:
        motion = None if first is None or peak is None else motion_between(first, peak)
    except ScanError:
        motion = None
    if motion is None:
        return dict.fromkeys(names)
    values = (list(motion.rotation_mdeg), list(motion.rotation_std_mdeg), motion.strain, motion.strain_std)
    return dict(zip(names, values))


def strain_spread(lab: LabImage) -> tuple[float | None, float | None]:
    """Standard deviation s of the strain e inside the crystal, and its uncertainty: mean |e - mean| sigma / s.

    That is what the uncertainty sigma of each voxel does to s where all voxels err together, an upper limit for
    that sigma. None where it is not known.
    """
    known = lab.support & np.isfinite(lab.strain)
    if not known.any():
        return None, None
    strain = lab.strain[known].astype(np.float64)
    off = np.abs(strain - strain.mean())
    std = float(np.sqrt(np.mean(off**2)))
    if lab.strain_std is None or std == 0:
        return std, None
    error = float(np.mean(off * lab.strain_std[known]) / std)
    return std, error if np.isfinite(error) else None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pattern:
    """The middle of a measured pattern: `counts` (rocking, row, column), the mean a voxel in each of EDGE bins an
    axis, NaN where nothing was measured; `reach_invA` is from the peak to the bins' end along each axis."""

    counts: NDArray[np.float32]
    reach_invA: Vector


def pattern_of(volume: DiffractionVolume) -> Pattern:
    """The pattern about its peak. Raises ScanError where it has no counts.

    A volume has its peak at a whole voxel; by the fraction it is moved with cubic splines, as its place between
    the voxels would be the largest change from run to run. Bins are whole voxels wide, so that a volume of a
    slightly other shape has the same.
    """
    shape = volume.intensity.shape
    reach = [EDGE / 2 * max(1, int(SHARE * count / EDGE)) for count in shape]  # voxels
    middle = tuple(
        slice(max(0, count // 2 - round(by) - _MARGIN), count // 2 + round(by) + _MARGIN)
        for count, by in zip(shape, reach)
    )
    intensity, mask = volume.intensity[middle], volume.mask[middle]
    at = np.array([count // 2 - part.start for count, part in zip(shape, middle)])
    move = at - find_centre(intensity, mask)
    moved = ndimage.shift(np.where(mask, 0, intensity), move, order=3)
    measured = ndimage.shift((~mask).astype(np.float32), move, order=1) > _WHOLLY
    bins = [_overlaps(mid + 0.5 - by, mid + 0.5 + by, n) for mid, by, n in zip(at, reach, moved.shape)]
    first, second, third = (float(step) for step in reach * np.linalg.norm(volume.q_steps_invA, axis=0))
    return Pattern(counts=_binned(np.where(measured, moved, np.nan), bins), reach_invA=(first, second, third))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Components:
    """Principal components of a series: `scores` (runs, k), each from that of the first run that fits, as a share
    of the mean pattern's size; NaN for runs that do not fit, which `unfit` names by their number, with the reason.
    `explained` (k,) is each component's share of the variance. k is at most KEPT, and 0 for fewer than two runs.
    """

    scores: NDArray[np.float64]
    explained: NDArray[np.float64]
    unfit: Mapping[int, str]


def components(patterns: Sequence[Pattern]) -> Components:
    """How far each pattern of a series went, along the directions in which they differ most.

    Patterns have their counts divided by their sum over the bins that all of them measured, of the box about the
    peak that all of them reach. Components are those of their Gram matrix, (runs, runs): the same as of the
    covariance of the bins. Of a mixture of two patterns the first component is linear in the fraction. The sign
    is such that the run that went farthest from the first is positive.
    """
    unfit = _unfit(patterns)
    fit = [number for number in range(len(patterns)) if number not in unfit]
    scores = np.full((len(patterns), max(0, min(KEPT, len(fit) - 1))), np.nan)
    if len(fit) < 2:
        return Components(scores=scores, explained=np.zeros(0), unfit=unfit)
    rows = _alike([patterns[number] for number in fit])
    mean = rows.mean(axis=0)
    gram = (rows - mean) @ (rows - mean).T
    values, vectors = np.linalg.eigh(gram)
    values, vectors = np.maximum(values[::-1], 0)[: scores.shape[1]], vectors[:, ::-1][:, : scores.shape[1]]
    found = vectors * np.sqrt(values) / np.linalg.norm(mean)
    found = found - found[0]
    farthest = np.take_along_axis(found, np.abs(found).argmax(axis=0)[None], axis=0)
    scores[fit] = found * np.where(farthest < 0, -1.0, 1.0)
    variance = float(np.trace(gram))
    return Components(scores=scores, explained=values / variance if variance > 0 else 0 * values, unfit=unfit)


def _unfit(patterns: Sequence[Pattern]) -> dict[int, str]:
    found = {}
    reach = np.array([pattern.reach_invA for pattern in patterns]).reshape(-1, 3)
    usual = np.median(reach, axis=0) if len(patterns) else reach
    for number, pattern in enumerate(patterns):
        seen = np.isfinite(pattern.counts)
        short = np.flatnonzero(reach[number] < _LEAST_REACH * usual)
        if seen.mean() < _LEAST_SEEN:
            found[number] = f"only {seen.mean():.0%} of its pattern was measured"
        elif not pattern.counts[seen].sum() > 0:
            found[number] = "its pattern has no counts"
        elif len(short):
            axis = ("rocking", "row", "column")[short[0]]
            found[number] = (
                f"its pattern reaches {reach[number, short[0]]:.2g}/Å along {axis}, others {usual[short[0]]:.2g}/Å"
            )
    return found


def _alike(patterns: Sequence[Pattern]) -> NDArray[np.float64]:
    """(runs, bins): what all have measured, in the box that all reach, 1 in sum a run."""
    reach = np.array([pattern.reach_invA for pattern in patterns])
    common = reach.min(axis=0)
    rows = np.stack([_within(pattern, common / own).ravel() for pattern, own in zip(patterns, reach)])
    rows = rows[:, np.isfinite(rows).all(axis=0)]
    sums = rows.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(rows, sums, out=np.zeros_like(rows), where=sums > 0), np.float64)


def _within(pattern: Pattern, share: FloatArray) -> NDArray[np.float64]:
    """The pattern in EDGE bins of the inner `share` (3,) of it."""
    if np.allclose(share, 1, rtol=0, atol=1e-9):
        return pattern.counts.astype(np.float64)
    half = EDGE / 2
    bins = [_overlaps(half * (1 - part), half * (1 + part), EDGE) for part in share]
    return _binned(pattern.counts, bins).astype(np.float64)


def _overlaps(start: float, end: float, count: int) -> NDArray[np.float64]:
    """(EDGE, count): how much of each of `count` voxels, of length 1 from 0, lies in each bin, start to end."""
    edges = np.linspace(start, end, EDGE + 1)
    voxels = np.arange(count)
    low, high = np.maximum(edges[:-1, None], voxels), np.minimum(edges[1:, None], voxels + 1)
    return np.asarray(np.maximum(high - low, 0), np.float64)


def _binned(values: FloatArray, bins: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Mean of the voxels that are not NaN in each bin; NaN where most of the bin is."""
    known = np.isfinite(values)
    weight = _summed(known.astype(np.float64), bins)
    total = _summed(np.where(known, values, 0.0), bins)
    whole = np.prod([part.sum(axis=1).max() for part in bins])
    mean = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > _LEAST_SEEN * whole)
    return np.asarray(mean, np.float32)


def _summed(values: FloatArray, bins: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    for part in bins:  # each takes the first axis and puts its own last
        values = np.tensordot(values, part, axes=(0, 1))
    return np.asarray(values, np.float64)


def series_fields(results: Sequence[Mapping[str, Any]], patterns: Mapping[str, Pattern | str]) -> dict[str, Any]:
    """Fields of the update `operando` of the newest result's series.

    `results` are summaries of results in the order of time, each with the table `operando` (docs/tiled.md);
    `patterns` has, by run, its pattern, or why there is none.
    """
    newest = results[-1]["operando"]
    runs = [each for each in results if each["operando"]["series"] == newest["series"]]
    with_pattern = [each["run"] for each in runs if isinstance(patterns.get(each["run"]), Pattern)]
    found = components([pattern for run in with_pattern if isinstance(pattern := patterns[run], Pattern)])
    scores = dict(zip(with_pattern, found.scores))
    why = {run: text for run, text in patterns.items() if isinstance(text, str)}
    why |= {with_pattern[number]: text for number, text in found.unfit.items()}
    first_d = next((d for each in runs if (d := each["operando"]["d_angstrom"])), None)
    peaks = [peak_of(each["operando"].get("peak")) for each in runs]
    turned = [_turned(next(filter(None, peaks), None), peak) for peak in peaks]
    return {
        "series": newest["series"],
        "state": newest["state"] and {key: newest["state"][key] for key in ("name", "unit")},
        "explained": found.explained.tolist(),
        "runs": [
            _row(each, first_d, scores.get(each["run"]), why.get(each["run"])) | motion
            for each, motion in zip(runs, turned)
        ],
    }


def _row(
    result: Mapping[str, Any], first_d: float | None, scores: NDArray[np.float64] | None, why: str | None
) -> dict[str, Any]:
    table = result["operando"]
    state, d = table["state"] or {}, table["d_angstrom"]
    fits = scores is not None and bool(np.isfinite(scores).all())
    return {
        **{key: result.get(key) for key in ("run", "name", "chi", "resolution_nm")},
        **{key: table[key] for key in ("time_s", "strain_std", "strain_std_error", "intensity")},
        "state": state.get("value"),
        "state_std": state.get("std"),
        "state_why": state.get("why"),
        "d_change": d / first_d - 1 if d and first_d else None,
        "components": scores.tolist() if fits and scores is not None else [],
        "components_why": why,
    }
