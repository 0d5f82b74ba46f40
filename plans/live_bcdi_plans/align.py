"""Finding a Bragg peak and centring the crystal, as bluesky plans: one run each, and every exposure an Event.

    found = yield from find_peak(station, range_deg=1.5)
    aligned = yield from align_crystal(station, range_deg=1.5, range_um=30.0)

Where to look next, `live_bcdi.steering` decides from what was counted so far. What the plans do of it is refused
beyond the limits of the configuration; where they fail, the motors go back to where they were.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.utils import MsgGenerator

from live_bcdi.geometry import q_lab_invA
from live_bcdi.steering import (
    Found,
    Look,
    Lost,
    Maximise,
    Next,
    Search,
    Sweep,
    Swept,
    find_spots,
    next_look,
    next_sweep,
    shells_of,
)
from live_bcdi.steering.aiming import arm_onto, reach_deg, stage_across
from live_bcdi.steering.spots import Spot, peak_counts
from live_bcdi.types import ScanError

from .alignment import Alignment, Settings, Shot, Station, as_one_run

_BOX = 24  # pixels an edge: the peak and its first fringes
_TIMES = 3  # that the arm is put right
_MOST_LOOKS = 15
_ROUGHLY = 4.0  # times the tolerance: the rocking circle before the sample is centred
_AROUND_DEG = 0.3  # of where a sweep saw the peak


@dataclass(frozen=True, kw_only=True, slots=True)
class Aligned:
    """Motors stand at `positions`, each of those centred known to `std` (degrees, micrometres); the peak is at
    (`row`, `column`). It took `exposures`, and `dose_s` seconds of full beam."""

    positions: Mapping[str, float]
    std: Mapping[str, float]
    row: float
    column: float
    exposures: int
    dose_s: float


def find_peak(
    station: Station,
    range_deg: float = 1.5,
    across_deg: float = 0.0,
    settings: Settings | None = None,
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[Found]:
    """Search `range_deg` of the rocking circle to both sides of where it is, and `across_deg` of the other
    rotation (`settings.across`), by ever shorter sweeps, dark first and then brighter. It ends with the circles at
    the peak.

    Raises ScanError, before anything moves, where that is beyond the limits; and where there is no peak, with the
    motors back where they were.
    """
    work = yield from Alignment.of(station, settings or Settings())
    search = _search(work, range_deg, across_deg)
    args = {"range_deg": range_deg, "across_deg": across_deg}
    return (yield from as_one_run(work, "find_peak", args, md, _found(work, search)))


def align_crystal(
    station: Station,
    range_deg: float = 1.5,
    across_deg: float = 0.0,
    range_um: float = 30.0,
    settings: Settings | None = None,
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[Aligned]:
    """Find the peak, put it on `settings.pixel` by the arm, and centre: rocking circle, sample across the beam in
    both directions within `range_um`, rocking circle again; each until its error is below the tolerance. With
    `range_deg` 0 the peak is taken to be where the circles stand.

    Raises ScanError as `find_peak` does, and where one of these is not found to its tolerance.
    """
    work = yield from Alignment.of(station, settings or Settings())
    search = _search(work, range_deg, across_deg)
    if not 0 < range_um < math.inf:
        raise ScanError(f"the sample is centred within a range in micrometres, not {range_um}")
    stage = stage_across(work.config, work.geometry, work.settings.beam_um)
    for motor in stage:
        work.check([work.home[motor] - range_um, work.home[motor] + range_um], motor)
    args = {"range_deg": range_deg, "across_deg": across_deg, "range_um": range_um}
    return (yield from as_one_run(work, "align_crystal", args, md, _aligned(work, search, stage, range_um)))


def _search(work: Alignment, range_deg: float, across_deg: float) -> Search | None:
    """None where nothing is to be searched. Raises ScanError beyond the limits."""
    settings, start = work.settings, work.home[work.rocking]
    if not (0 <= range_deg < math.inf and 0 <= across_deg < math.inf):
        raise ScanError(f"a peak is searched within ranges in degrees, not {range_deg} and {across_deg}")
    if range_deg == 0:
        work.check(start, work.rocking)
        return None
    work.check([start - range_deg, start + range_deg], work.rocking)
    other = _other(work) if across_deg else ""
    across = work.home.get(other, 0.0)
    if other:
        work.check([across - across_deg, across + across_deg], other)
    return Search(
        start_deg=start,
        limits_deg=(start - range_deg, start + range_deg),
        coarse_deg=max(settings.coarse_deg, settings.fine_deg),
        fine_deg=settings.fine_deg,
        pixel=work.pixel,
        across_start_deg=across,
        across_limits_deg=(across - across_deg, across + across_deg),
        reach_deg=reach_deg(work.geometry, other, work.shape) if other else math.inf,
        most=settings.most,
    )


def _other(work: Alignment) -> str:
    """The rotation besides the rocking circle: the innermost that moves the peak, where none is named."""
    if work.settings.across is not None:
        return work.settings.across
    others = [circle.motor for circle in work.geometry.sample if circle.motor != work.rocking]
    reaches = {motor: reach_deg(work.geometry, motor, work.shape) for motor in others}
    if not reaches:
        raise ScanError("no rotation besides the rocking circle turns the sample; search without across_deg")
    return min(reaches, key=lambda motor: reaches[motor])


def _found(work: Alignment, search: Search | None) -> MsgGenerator[Found]:
    """The circles at the peak; dark first, because what is not known may be bright."""
    if search is None:
        raise ScanError("a search takes a range of the rocking circle above 0 degrees")
    why = ""
    for transmission in work.settings.transmissions:
        yield from work.attenuate(transmission)
        told = yield from _swept(work, search)
        if isinstance(told, Found):
            yield from work.go(work.rocking, told.angle_deg)
            said = {"position": told.angle_deg, "std": told.std_deg, **_of_spot(told.spot)}
            yield from work.tell("found", motor=work.rocking, **said)
            return told
        why = told.why
        yield from work.tell("lost", motor=work.rocking, why=why)
    raise ScanError(why)


def _swept(work: Alignment, search: Search) -> MsgGenerator[Found | Lost]:
    seen: list[Swept] = []
    rings = _rings(work)
    while isinstance(told := next_sweep(seen, search), Sweep):
        if search.across_limits_deg[0] < search.across_limits_deg[1]:
            yield from work.go(_other(work), told.across_deg)
        yield from work.go(work.rocking, told.low_deg)
        shot = yield from work.shot(work.settings.sweep_s, told.high_deg)
        spots = tuple(find_spots(shot.image, work.bad, rings))
        seen.append(Swept(sweep=told, dose_s=shot.dose_s, spots=spots))
        best = _of_spot(spots[0]) if spots else {}
        yield from work.tell("sweep", motor=work.rocking, low=told.low_deg, high=told.high_deg, **best)
    return told


def _rings(work: Alignment) -> np.ndarray:
    q = q_lab_invA(work.station.geometry(), *np.indices(work.shape))
    return shells_of(np.linalg.norm(q, axis=-1))


def _of_spot(spot: Spot) -> dict[str, float]:
    return {"row": spot.row, "column": spot.column, "counts": spot.counts}


def _aligned(
    work: Alignment, search: Search | None, stage: Mapping[str, float], range_um: float
) -> MsgGenerator[Aligned]:
    settings, std = work.settings, dict[str, float]()
    angle = work.home[work.rocking]
    if search is not None:
        found = yield from _found(work, search)
        angle = found.angle_deg
        yield from _onto_pixel(work, found.spot)
    rough = _angles(work, angle, _ROUGHLY * settings.angle_tolerance_deg)
    angle, _ = yield from _topped(work, work.rocking, rough)
    for motor, width in stage.items():
        home = work.home[motor]
        limits = (home - range_um, home + range_um)
        places = Maximise(
            start=home, width=width, limits=limits, tolerance=settings.place_tolerance_um, most=_MOST_LOOKS
        )
        _, std[motor] = yield from _topped(work, motor, places)
    fine = _angles(work, angle, settings.angle_tolerance_deg)
    _, std[work.rocking] = yield from _topped(work, work.rocking, fine)
    spot = yield from _settled(work)
    positions = {}
    for name, motor in work.station.motors.items():
        positions[name] = float((yield from bps.rd(motor)))
    return Aligned(
        positions=positions,
        std=std,
        row=spot.row,
        column=spot.column,
        exposures=work.exposures,
        dose_s=work.dose_s,
    )


def _angles(work: Alignment, start: float, tolerance: float) -> Maximise:
    low, high = work.within(work.rocking)
    return Maximise(
        start=start,
        width=work.settings.rocking_width_deg,
        limits=(max(low, start - _AROUND_DEG), min(high, start + _AROUND_DEG)),
        tolerance=tolerance,
        most=_MOST_LOOKS,
    )


def _topped(work: Alignment, motor: str, wanted: Maximise) -> MsgGenerator[tuple[float, float]]:
    """One motor to where the peak is the brightest; that place and its standard deviation."""
    looks: list[Look] = []
    while isinstance(told := next_look(looks, wanted), Next):
        yield from work.go(motor, told.position)
        shot = yield from work.shot(work.settings.look_s)
        look = _look(work, shot, told.position)
        looks.append(look)
        yield from work.tell("look", motor=motor, position=told.position, counts=look.counts - look.background)
        yield from work.brighter(shot, work.settings.look_s)
    yield from work.tell("top", motor=motor, position=told.position, std=told.std, why=told.why)
    if not told.done:
        raise ScanError(f"the middle of {motor} is not found: {told.why}; search for the peak, or count longer")
    yield from work.go(motor, told.position)
    return told.position, told.std


def _look(work: Alignment, shot: Shot, position: float) -> Look:
    counts, background = peak_counts(shot.image, work.pixel, _BOX, work.bad)
    return Look(position=position, counts=counts, dose_s=shot.dose_s, background=background)


def _onto_pixel(work: Alignment, spot: Spot) -> MsgGenerator[None]:
    """The arm, so that the spot is at the chosen pixel; within the tolerance it stays."""
    off = math.hypot(spot.row - work.pixel[0], spot.column - work.pixel[1])
    if off <= work.settings.pixel_tolerance:
        return
    limits = {motor: work.within(motor) for motor in work.limits}
    places = arm_onto(work.station.geometry(), (spot.row, spot.column), work.pixel, limits)
    for motor, place in places.items():
        yield from work.go(motor, place)
        yield from work.tell("pixel", motor=motor, position=place, **_of_spot(spot))


def _settled(work: Alignment) -> MsgGenerator[Spot]:
    """The peak as it is in the end, at the chosen pixel."""
    for _ in range(_TIMES):
        shot = yield from work.shot(work.settings.look_s)
        spot = _nearest(find_spots(shot.image, work.bad, _rings(work)), work.pixel)
        yield from work.tell("check", **_of_spot(spot))
        if math.hypot(spot.row - work.pixel[0], spot.column - work.pixel[1]) <= work.settings.pixel_tolerance:
            return spot
        yield from _onto_pixel(work, spot)
    raise ScanError("the arm does not bring the peak to the chosen pixel; check its motors and `arm_pixel`")


def _nearest(spots: Sequence[Spot], pixel: tuple[float, float]) -> Spot:
    """Raises ScanError where there is none."""
    if not spots:
        raise ScanError("the peak was centred and is not seen any more; search for it again")
    return min(spots, key=lambda spot: math.hypot(spot.row - pixel[0], spot.column - pixel[1]))
