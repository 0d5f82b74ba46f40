"""A series of scans followed from one to the next: what is kept of each, how the crystal moved, which scans are no
good, and where it will be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..config import Preprocessing
from ..geometry import chain_matrix
from ..preprocess import as_set, prepare, rocking_grid_deg
from ..registration import locate
from ..types import RockingScan, ScanError, Vector
from .between import Motion, Peak, centred_geometry, find_peak, motion_between
from .outliers import FEWEST, FRAMES_TO_END, ScanFacts, Usual, not_seen, scan_facts
from .pairs import Around, Compared, around, compared, is_pulled
from .prediction import Expected, Prediction, Seen, View, predict, seen_at

JUDGED_WITH = 12  # scans: a crystal changes through an experiment, and what is usual with it
# Of simulated crystals whose peak is nearer than FRAMES_TO_END, or as far beyond with a fifth of its counts.
_CUT_STD_FRAMES = 1.0
_DEFAULTS = Preprocessing()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScanRecord:
    """All that the following of a series needs of a scan. `peak` is by this scan alone, `place_std` are those of
    its frame, row and column. `compared` is the peak beside that of the series' first scan, where a gap pulls at
    either (`beside`); `around` what others are compared with, None where that is not at hand."""

    peak: Peak
    view: View
    place_std: Vector
    facts: ScanFacts
    compared: Compared | None = None
    around: Around | None = None


def record_scan(
    scan: RockingScan, corner: tuple[int, int] = (0, 0), settings: Preprocessing = _DEFAULTS
) -> ScanRecord:
    """Of a scan, or of a part of its detector whose first pixel is `corner`, with the corrections of `settings`
    (flat field, monitor, background, aliens; for a dark frame see `cleaning.without_dark`), at full resolution.
    Raises ScanError where its angles are on no grid, or no peak stands out."""
    scan = as_set(scan, settings)
    volume, report = prepare(
        scan, settings.model_copy(update={"shape": None, "binning": None, "centring": "robust"})
    )
    facts = scan_facts(scan, volume, report)
    place = locate(volume.intensity, volume.mask)
    if facts.frames_to_end < FRAMES_TO_END:
        place = replace(place, covariance=place.covariance + np.diag([_CUT_STD_FRAMES**2, 0, 0]))
    peak = find_peak(volume, scan, place)
    have = np.ones(len(scan.angles_deg), bool) if scan.have is None else np.asarray(scan.have, bool)
    first_deg, step_deg = rocking_grid_deg(scan.angles_deg, have)
    voxel = np.array(place.voxel) + volume.centre - np.array(volume.intensity.shape) // 2
    frame, row, column = voxel[0], voxel[1] + corner[0], voxel[2] + corner[1]
    std = np.sqrt(np.diag(place.covariance))
    view = View(
        h_invA=peak.h_invA,
        steps_invA=chain_matrix(centred_geometry(volume, scan).sample).T @ volume.q_steps_invA,
        origin=(float(frame), float(row), float(column)),
        first_deg=first_deg,
        step_deg=step_deg,
    )
    return ScanRecord(
        peak=peak,
        view=view,
        place_std=(float(std[0]), float(std[1]), float(std[2])),
        facts=facts,
        around=around(volume, place),
    )


def beside(first: ScanRecord, own: ScanRecord) -> ScanRecord:
    """A record with its peak compared with that of the first scan of its series, whose surroundings are at hand,
    where a gap of the detector pulls at either; as it is where none does, or nothing can be compared."""
    if first.around is None or own.around is None or not is_pulled_at(first, own):
        return own
    one, other = (
        (each.peak, each.view.steps_invA, surroundings)
        for each, surroundings in ((first, first.around), (own, own.around))
    )
    found = compared(one, other)
    if found is None:
        return own
    pair, moved = found
    frame, row, column = (np.array(own.view.origin) + moved).tolist()
    view = replace(own.view, h_invA=pair.own.h_invA, origin=(frame, row, column))
    return replace(own, compared=pair, view=view)


def is_pulled_at(first: ScanRecord, own: ScanRecord) -> bool:
    """Whether two peaks are to be compared by what both measured. One that is cut off by the end of its scan is
    not: its place is off by more."""
    facts = first.facts, own.facts
    whole = all(each.frames_to_end >= FRAMES_TO_END for each in facts)
    return whole and any(is_pulled(each.measured) for each in facts)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Followed:
    """A series. Of each scan: its `motions` from the first that saw the crystal, None where it did not; `reasons`
    for which it is no good, none for most. `lost` is why the newest did not see the crystal, empty where it did;
    `next_place` where a scan set up as the last that saw it would have the peak."""

    motions: tuple[Motion | None, ...]
    reasons: tuple[tuple[str, ...], ...]
    prediction: Prediction
    next_place: Seen | None
    lost: str


def follow(records: Sequence[ScanRecord | str], times_s: Sequence[float] | None = None) -> Followed:
    """The scans of a series in the order of time; a sentence in the place of a record says why there is none.

    Raises ScanError for no scans, or times that do not rise.
    """
    found = _verdicts(records)
    seen = [each for each, (_, lost) in zip(records, found) if isinstance(each, ScanRecord) and not lost]
    first = seen[0] if seen else None
    motions = [
        _motion(seen, each) if isinstance(each, ScanRecord) and not lost else None
        for each, (_, lost) in zip(records, found)
    ]
    begin = next((number for number, motion in enumerate(motions) if motion is not None), 0)
    prediction = predict(motions[begin:], None if times_s is None else times_s[begin:])
    return Followed(
        motions=tuple(motions),
        reasons=tuple(reasons for reasons, _ in found),
        prediction=prediction,
        next_place=None if first is None else seen_at(prediction, first.peak, seen[-1].view),
        lost="; ".join(found[-1][0]) if found[-1][1] else "",
    )


def first_seen(records: Sequence[ScanRecord | str]) -> int | None:
    """Which scan of a series the others are compared with: the first that saw the crystal; None where none did."""
    return next((number for number, (_, lost) in enumerate(_verdicts(records)) if not lost), None)


def _verdicts(records: Sequence[ScanRecord | str]) -> list[tuple[tuple[str, ...], bool]]:
    known = tuple(record for record in records if isinstance(record, ScanRecord))
    judged = dict(zip(map(id, known), _judged(tuple(record.facts for record in known))))
    return [judged[id(each)] if isinstance(each, ScanRecord) else ((each,), True) for each in records]


def _motion(seen: Sequence[ScanRecord], own: ScanRecord) -> Motion:
    """From the first of `seen`, by what both measured where they were compared so. The first's own noise is that
    with which others were compared with it."""
    first = seen[0]
    pair = _pair(first, own)
    if own is first:
        pair = next((found for each in seen if (found := _pair(first, each)) is not None), None)
        return motion_between(*(2 * [first.peak if pair is None else pair.first]))
    return motion_between(first.peak, own.peak) if pair is None else motion_between(pair.first, pair.own)


def _pair(first: ScanRecord, own: ScanRecord) -> Compared | None:
    """None where a scan was compared with another one: what came later told that that was no good."""
    pair = own.compared
    return pair if pair is not None and np.array_equal(pair.first.h_invA, first.peak.h_invA) else None


def _judged(facts: tuple[ScanFacts, ...]) -> list[tuple[tuple[str, ...], bool]]:
    """Reasons of each, and whether it did not see the crystal; by the last JUDGED_WITH up to it that saw it, or
    the first: scans that did not see it, be they ever so many, are not what is usual."""
    seen: list[ScanFacts] = []
    usual: list[int] = []
    for each in facts:
        if not not_seen(each, seen[-JUDGED_WITH:]):
            seen.append(each)
        usual.append(max(len(seen), JUDGED_WITH))
    return [_verdict(each, tuple(seen[max(end - JUDGED_WITH, 0) : end])) for each, end in zip(facts, usual)]


@lru_cache(maxsize=256)
def _verdict(each: ScanFacts, usual: tuple[ScanFacts, ...]) -> tuple[tuple[str, ...], bool]:
    why = tuple(not_seen(each, usual))
    return (_usual(usual).wrong_with(each) if len(usual) >= FEWEST else why), bool(why)


@lru_cache(maxsize=32)
def _usual(facts: tuple[ScanFacts, ...]) -> Usual:
    return Usual(facts)


def motion_table(motion: Motion | None) -> dict[str, Any]:
    """The numbers of a motion as JSON has them; None for all where there is none."""
    if motion is None:
        names = ("rotation_mdeg", "rotation_std_mdeg", "strain", "strain_std", "counts_ratio")
        return dict.fromkeys(names)
    return {
        "rotation_mdeg": list(motion.rotation_mdeg),
        "rotation_std_mdeg": list(motion.rotation_std_mdeg),
        "strain": motion.strain,
        "strain_std": motion.strain_std,
        "counts_ratio": motion.counts_ratio,
    }


def place_table(record: ScanRecord | str) -> dict[str, Any]:
    """Where a scan saw its peak: rocking angle, row and column, with their error bars; None where it did not."""
    if not isinstance(record, ScanRecord):
        return dict.fromkeys(("angle_deg", "angle_std_deg", "row", "row_std", "column", "column_std"))
    view, std = record.view, record.place_std
    return {
        "angle_deg": view.first_deg + view.step_deg * view.origin[0],
        "angle_std_deg": abs(view.step_deg) * std[0],
        "row": view.origin[1],
        "row_std": std[1],
        "column": view.origin[2],
        "column_std": std[2],
    }


def prediction_table(followed: Followed) -> dict[str, Any]:
    """What is foretold, each number as {value, std, std2}: None where nobody knows."""
    told, place = followed.prediction, followed.next_place
    numbers = {
        "rotation_1_mdeg": told.rotation_mdeg[0],
        "rotation_2_mdeg": told.rotation_mdeg[1],
        "strain": told.strain,
        "counts_ratio": told.intensity,
    }
    if place is not None:
        numbers |= {"angle_deg": place.angle_deg, "row": place.row, "column": place.column}
    table: dict[str, Any] = {name: _plain(each) for name, each in numbers.items()}
    time_s = told.time_s if np.isfinite(told.time_s) else None
    return {**table, "scans": told.scans, "unseen": told.unseen, "time_s": time_s, "lost": followed.lost}


def _plain(expected: Expected) -> dict[str, float | None]:
    numbers = {"value": expected.value, "std": expected.std, "std2": expected.std2}
    return {name: number if np.isfinite(number) else None for name, number in numbers.items()}


def joined(records: Sequence[ScanRecord | str], followed: Followed) -> list[dict[str, Any]]:
    """A row a scan: its motion, its place, and why it is no good."""
    return [
        {**motion_table(motion), **place_table(record), "reasons": list(reasons)}
        for record, motion, reasons in zip(records, followed.motions, followed.reasons)
    ]


def recorded(
    scan: RockingScan, corner: tuple[int, int] = (0, 0), settings: Preprocessing = _DEFAULTS
) -> ScanRecord | str:
    """`record_scan`, or in its place why it cannot be."""
    try:
        return record_scan(scan, corner, settings)
    except ScanError as error:
        return str(error)
