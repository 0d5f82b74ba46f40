"""What `live-bcdi track` does: scans from where they lie to how the crystal moved, within each and from one to the
next."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from .config import Config
from .offline import read_source
from .tracking import follow, track_scan
from .tracking.following import JUDGED_WITH, ScanRecord, beside, first_seen, joined, prediction_table, recorded
from .transport.images import as_counted
from .types import RockingScan, ScanError, TrackingResult


def track_sources(sources: Sequence[str], config: Config) -> dict[str, Any]:
    """`scans` has for each, in the order given, `name`, its motion from the first and its peak's place, `reasons`
    why it is no good, and `within`: the fields of its `TrackingResult`, or `why` there is none. `prediction` is
    that of the next.

    A source is a scan's file (NeXus/CXI) or the uid of a run in Tiled, or its beginning. Raises ScanError where
    one cannot be read.
    """
    names, within, times_s = [], [], []
    records: list[ScanRecord | str] = []
    for source in sources:  # one at a time: a series is larger than memory
        scan = as_counted(read_source(source, config), config.preprocess)
        names.append(scan.name)
        within.append(_within(scan))
        records.append(recorded(scan, settings=config.preprocess))
        times_s.append(_time_s(scan))
        if len(records) > JUDGED_WITH:
            records[-1] = _beside_first(records, records[-1])
    records[:JUDGED_WITH] = [_beside_first(records, record) for record in records[:JUDGED_WITH]]
    followed = follow(records, _rising(times_s))
    rows = joined(records, followed)
    scans = [
        {"source": source, "name": name, **row, "within": moved}
        for source, name, row, moved in zip(sources, names, rows, within)
    ]
    told: dict[str, Any] = {"scans": scans}
    if sum(isinstance(record, ScanRecord) for record in records) > 1:
        told["prediction"] = prediction_table(followed)
    return told


def _beside_first(records: Sequence[ScanRecord | str], own: ScanRecord | str) -> ScanRecord | str:
    """Compared with that of the first dozen which the series begins at: only these keep their surroundings."""
    at = first_seen(records[:JUDGED_WITH])
    first = None if at is None else records[at]
    if not isinstance(own, ScanRecord) or not isinstance(first, ScanRecord) or own is first:
        return own
    return replace(beside(first, own), around=None)


def _within(scan: RockingScan) -> dict[str, Any]:
    try:
        found = track_scan(scan)
    except ScanError as error:
        return {"why": str(error)}
    return {field.name: getattr(found, field.name) for field in fields(TrackingResult)}


def _time_s(scan: RockingScan) -> float:
    known = scan.timestamps_s
    return float(np.nanmin(known)) if known is not None and np.isfinite(known).any() else float("nan")


def _rising(times_s: Sequence[float]) -> Sequence[float] | None:
    """None where scans do not say when they were, or are given in another order: then they are as far apart."""
    return times_s if np.isfinite(times_s).all() and (np.diff(times_s) > 0).all() else None
