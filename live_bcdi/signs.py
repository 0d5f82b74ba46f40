"""Whether a configuration has the signs of its beamline: something is changed by a known amount, and the Bragg
peak of the same crystal must go where the geometry says.

Two scans, with a motor moved or the energy changed in between. The first gives the peak's vector G in the frame of
the innermost sample circle; the second must meet the Ewald sphere with the same G. A sign that is wrong in the
configuration is wrong in both geometries. No measurement tells a beamline from its mirror image: that the arm goes
the way the file says has to be seen.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import optimize

from .geometry import (
    Floats,
    chain_matrix,
    q_lab_invA,
    q_steps_invA,
    with_rocking_angle,
)
from .preprocess import find_centre, scan_mask
from .types import Geometry, RockingScan, Rotation, ScanError, Vector

LEAST_PX = 10.0  # the peak must move so far to tell anything
_NEAR_PX = 3.0  # the centre of a broad peak, and
_NEAR = 0.1  # what distance and pixel size may be off

Turned = Callable[[Geometry], Geometry]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a peak is: the angle of the rocking circle in degrees, and the pixel; fractions allowed."""

    angle_deg: float
    row: float
    column: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What two scans say of the signs. Lengths are in rows of the detector, rocking included.

    `changed` has what differs, before and after. `expected` is where the configuration puts the peak of the
    second scan, None where it could not be; `off_px` is how far from it the peak was seen, `moved_px` how far it
    moved at all. `shown` names
    the signs (`rows`, `columns`, a motor) of which the other one would not agree, `not_shown` those on which this
    change says nothing. Where the configuration does not agree, `would_agree` lists what to turn round.
    """

    changed: Mapping[str, tuple[float, float]]
    before: Place
    after: Place
    expected: Place | None
    moved_px: float
    off_px: float
    agrees: bool
    shown: tuple[str, ...]
    not_shown: tuple[str, ...]
    would_agree: tuple[str, ...]


def check_signs(before: RockingScan, after: RockingScan) -> Verdict:
    """Compare where the peak went with where it had to go. Raises ScanError where nothing was changed between the
    scans, where the peak moved less than LEAST_PX, and where a scan has no peak."""
    pair = (before.geometry, after.geometry)
    changed = _changed(*pair)
    if not changed:
        raise ScanError("the scans differ in no motor and not in energy; change one of them in between")
    seen = (peak_of(before), peak_of(after))
    moved_px = _moved_px(before.geometry, *seen)
    if moved_px < LEAST_PX:
        raise ScanError(f"the peak moved by {moved_px:.1f} pixels only; change more, so that it moves by 30 or so")
    near_px = max(_NEAR_PX, _NEAR * moved_px)
    off_px = _off_px(pair, seen)
    agrees = off_px <= near_px
    turns = dict(_turns(before.geometry))
    alone = {name: _off_px((turn(pair[0]), turn(pair[1])), seen) > near_px for name, turn in turns.items()}
    return Verdict(
        changed=changed,
        before=seen[0],
        after=seen[1],
        expected=expected_peak(before.geometry, seen[0], after.geometry),
        moved_px=moved_px,
        off_px=off_px,
        agrees=agrees,
        shown=tuple(name for name, differs in alone.items() if differs) if agrees else (),
        not_shown=tuple(name for name, differs in alone.items() if not differs) if agrees else (),
        would_agree=() if agrees else tuple(_would_agree(turns, pair, seen, near_px)),
    )


def peak_of(scan: RockingScan) -> Place:
    """The peak's centre of mass (`preprocess.find_centre`)."""
    have = np.ones(len(scan.intensity), bool) if scan.have is None else np.asarray(scan.have, bool)
    index, row, column = find_centre(scan.intensity.astype(np.float32), scan_mask(scan, have)[0])
    order = np.flatnonzero(have)
    return Place(angle_deg=float(np.interp(index, order, scan.angles_deg[order])), row=row, column=column)


def expected_peak(before: Geometry, peak: Place, after: Geometry) -> Place | None:
    """Where the peak of a crystal that was seen at `peak` is with motors and energy of `after`.

    Solves R(angle) G = q(row, column) by Powell's hybrid method; None where no angle and pixel near `peak` do.
    """
    fixed = _fixed_invA(before, peak)
    scale = np.linalg.norm(q_steps_invA(after, 1e-3, peak.row, peak.column)[:, 1])

    def miss(place: Floats) -> Floats:
        return _miss_invA(fixed, after, Place(angle_deg=place[0], row=place[1], column=place[2])) / scale

    found = optimize.root(miss, (peak.angle_deg, peak.row, peak.column))
    if not found.success:
        return None
    angle_deg, row, column = (float(value) for value in found.x)
    return Place(angle_deg=angle_deg, row=row, column=column)


def _fixed_invA(geometry: Geometry, place: Place) -> Floats:
    """The peak's vector in the frame that turns with the innermost sample circle."""
    sample = chain_matrix(with_rocking_angle(geometry, place.angle_deg).sample)
    return np.asarray(sample.T @ q_lab_invA(geometry, place.row, place.column))


def _miss_invA(fixed: Floats, geometry: Geometry, place: Place) -> Floats:
    sample = chain_matrix(with_rocking_angle(geometry, place.angle_deg).sample)
    return np.asarray(sample @ fixed - q_lab_invA(geometry, place.row, place.column))


def _off_px(pair: tuple[Geometry, Geometry], seen: tuple[Place, Place]) -> float:
    """How far the second peak is from what the first one foretells, in rows."""
    row = q_steps_invA(pair[1], 1e-3, seen[1].row, seen[1].column)[:, 1]
    miss = _miss_invA(_fixed_invA(pair[0], seen[0]), pair[1], seen[1])
    return float(np.linalg.norm(miss) / np.linalg.norm(row))


def _moved_px(geometry: Geometry, before: Place, after: Place) -> float:
    rocking, row, column = np.linalg.norm(q_steps_invA(geometry, 1e-3, before.row, before.column), axis=0)
    turned = (after.angle_deg - before.angle_deg) / 1e-3 * rocking / row
    return float(np.hypot(np.hypot(after.row - before.row, (after.column - before.column) * column / row), turned))


def _changed(before: Geometry, after: Geometry) -> dict[str, tuple[float, float]]:
    """Motors and energy that differ, but for the rocking circle, which each scan turns."""
    circles = [(*geometry.sample, *geometry.arm) for geometry in (before, after)]
    names = [[circle.motor for circle in each] for each in circles]
    if names[0] != names[1] or before.rocking != after.rocking:
        raise ScanError(f"the scans are of two diffractometers or circles: {names[0]} and {names[1]}")
    pairs = {"energy_kev": (before.energy_kev, after.energy_kev)}
    for first, second in zip(*circles):
        if first.motor != before.rocking:
            pairs[first.motor] = (first.angle_deg, second.angle_deg)
    return {name: pair for name, pair in pairs.items() if not np.isclose(*pair, rtol=1e-6, atol=1e-4)}


def _turns(geometry: Geometry) -> Iterator[tuple[str, Turned]]:
    """Each sign of the file, by name, and what turns it round."""
    yield "rows", lambda old: replace(old, row_direction=_opposite(old.row_direction))
    yield "columns", lambda old: replace(old, column_direction=_opposite(old.column_direction))
    for circle in (*geometry.sample, *geometry.arm):
        yield circle.motor, _turn(circle.motor)


def _turn(motor: str) -> Turned:
    def turned(circles: tuple[Rotation, ...]) -> tuple[Rotation, ...]:
        return tuple(replace(c, axis=_opposite(c.axis)) if c.motor == motor else c for c in circles)

    return lambda old: replace(old, sample=turned(old.sample), arm=turned(old.arm))


def _opposite(vector: Vector) -> Vector:
    return (-vector[0], -vector[1], -vector[2])


def _would_agree(
    turns: Mapping[str, Turned], pair: tuple[Geometry, Geometry], seen: tuple[Place, Place], near_px: float
) -> list[str]:
    """Single signs that explain what was seen when turned round; else pairs of them."""
    for count in (1, 2):
        found = []
        for names in combinations(turns, count):
            both = pair
            for name in names:
                both = (turns[name](both[0]), turns[name](both[1]))
            if _off_px(both, seen) <= near_px:
                found.append(" and ".join(names))
        if found:
            return found
    return []
