"""Rocking scans as bluesky plans: one run, one frame an angle, in step or on the fly.

All put the table of `live_bcdi.stream.run` into the start document under `live_bcdi`, and refuse to start
without what the analysis needs. Analysis never makes them fail.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.protocols import Status
from bluesky.utils import FailedStatus, MsgGenerator, short_uid
from numpy.typing import NDArray
from ophyd_async.core import (
    DetectorTrigger,
    FlyMotorInfo,
    SignalRW,
    StandardDetector,
    StandardMovable,
    TriggerInfo,
)

from live_bcdi.stream.run import KEY, planned_metadata
from live_bcdi.types import ScanError

from .engine import scan_error

T = TypeVar("T")

POLL_S = 0.005
MOST_PAUSES = 20  # upon one message; a plan that is looked at, and not run, gets no answers at all
SHORTEST_S = 0.1  # of a sweep
COLLECT_S = 0.2  # documents of a sweep come so often


def rocking_scan(
    detector: StandardDetector,
    axis: StandardMovable[float],
    start: float,
    stop: float,
    num: int,
    exposure: float = 0.0,
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[str]:
    """Step `axis` from `start` to `stop` degrees in `num` points; `exposure` seconds at each.

    `md["live_bcdi"]` is the table of `live_bcdi.metadata.scan_metadata`: geometry, hkl, sample and detector
    limits. Returns the run's uid. Raises ScanError, before anything moves, where the table is incomplete.
    """
    args = {"start": start, "stop": stop, "num": num, "exposure": exposure}
    metadata = _metadata("rocking_scan", (detector, axis), (start, stop, num), args, md)
    angles = [float(angle) for angle in np.linspace(start, stop, num)]
    return (yield from _run(detector, axis, metadata, _steps(detector, axis, angles, exposure)))


def rocking_list_scan(
    detector: StandardDetector,
    axis: StandardMovable[float],
    angles: Sequence[float] | NDArray[np.floating[Any]],
    exposure: float = 0.0,
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[str]:
    """Step `axis` through `angles` (degrees), in the order given; `exposure` seconds at each.

    `md`, the return value and the errors are those of `rocking_scan`.
    """
    stops = [float(angle) for angle in angles]
    if not stops or not np.isfinite(stops).all():
        raise ScanError(f"rocking_list_scan needs angles that are finite numbers, not {stops}")
    args = {"angles": stops, "exposure": exposure}
    points = (stops[0], stops[-1], len(stops))
    metadata = _metadata("rocking_list_scan", (detector, axis), points, args, md)
    return (yield from _run(detector, axis, metadata, _steps(detector, axis, stops, exposure)))


def _steps(
    detector: StandardDetector, axis: StandardMovable[float], angles: Sequence[float], exposure: float
) -> MsgGenerator[None]:
    """A pause takes effect before a point, or at once; the point then goes on where it was: the axis is moved to
    its angle again, and an exposure that had begun is neither taken again nor left out."""
    once = TriggerInfo(number_of_events=1, livetime=exposure)
    yield from to_its_end(lambda group: bps.prepare(detector, once, group=group))
    yield from unrepeated(_declare(detector, axis))
    for angle in angles:
        yield from bps.checkpoint()
        yield from move(axis, angle)
        yield from to_its_end(lambda group: bps.trigger(detector, group=group))
        yield from unrepeated(_read(detector, axis))
    yield from bps.checkpoint()


def move(axis: StandardMovable[float], angle: float) -> MsgGenerator[None]:
    """A pause stops the axis, and where ophyd-async has just begun to move it, it fails instead of stopping."""
    try:
        yield from bps.mv(axis, angle)
    except FailedStatus as error:
        if not isinstance(error.__cause__, asyncio.CancelledError):
            raise
        yield from bps.mv(axis, angle)


def unrepeated(messages: MsgGenerator[None]) -> MsgGenerator[None]:
    """bluesky sends the messages since the last checkpoint again after a pause; not these. It then leaves out the
    one that the pause came upon, whose answer is None."""
    yield from bpp.rewindable_wrapper(messages, False)


def to_its_end(begin: Callable[[str], MsgGenerator[Any]]) -> MsgGenerator[None]:
    """What a device does once it has begun, waited for whatever pauses come."""

    def waited() -> MsgGenerator[None]:
        group = short_uid("begun")
        status = yield from begin(group)
        yield from bps.wait(group=group)
        yield from until_done(status)  # where the wait was left out

    yield from unrepeated(waited())


def until_done(
    *statuses: Status | None, meanwhile: Callable[[], MsgGenerator[Any]] = bps.null
) -> MsgGenerator[None]:
    """Without bluesky's own wait, which a pause ends. In a plan that is looked at, not run, a status is None."""
    while not all(status is None or status.done for status in statuses):
        yield from bps.sleep(POLL_S)
        yield from meanwhile()


def _declare(detector: StandardDetector, axis: StandardMovable[float]) -> MsgGenerator[None]:
    """Before the first event, which then is made in one go."""
    for _ in range(MOST_PAUSES):
        if (yield from bps.declare_stream(detector, axis, name="primary")) is not None:
            return


def _read(detector: StandardDetector, axis: Any) -> MsgGenerator[None]:
    """One event. The detector comes last: what it says of its file, it says once."""
    for _ in range(MOST_PAUSES):
        yield from bps.create("primary")
        if (yield from bps.read(axis)) is not None and (yield from bps.read(detector)) is not None:
            break
        yield from bps.drop()
    yield from bps.save()


def fly_rocking_scan(
    detector: StandardDetector,
    axis: StandardMovable[float],
    start: float,
    stop: float,
    num: int,
    exposure: float,
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[str]:
    """Turn `axis` evenly from `start` to `stop` degrees while the detector, triggered by position, takes `num`
    frames of `exposure` seconds. The angle of each frame is what the detector captured with it, in its file, and
    can also be had from the axis's position over time, in the stream `<axis>_monitor`. How far the axis turns
    during a frame is in the start document.

    `md`, the return value and the errors are those of `rocking_scan`.
    """
    args = {"start": start, "stop": stop, "num": num, "exposure": exposure}
    motion = FlyMotorInfo(start_position=start, end_position=stop, time_for_move=max(num * exposure, SHORTEST_S))
    blur_deg = abs(stop - start) / motion.time_for_move * exposure
    table = {**((md or {}).get(KEY) or {}), "angular_blur_deg": blur_deg}
    metadata = _metadata(
        "fly_rocking_scan", (detector, axis), (start, stop, num), args, {**(md or {}), KEY: table}
    )
    trigger = TriggerInfo(trigger=DetectorTrigger.EXTERNAL_EDGE, number_of_events=num, livetime=exposure)

    def sweep() -> MsgGenerator[None]:
        yield from to_its_end(lambda group: bps.prepare(axis, motion, group=group))
        yield from to_its_end(lambda group: bps.prepare(detector, trigger, group=group))
        yield from bps.declare_stream(detector, name="primary", collect=True)
        yield from bps.monitor(axis, name=f"{axis.name}_monitor")
        yield from unrepeated(_sweep(detector, axis))
        yield from bps.unmonitor(axis)

    return (yield from _run(detector, axis, metadata, sweep()))


def _sweep(detector: StandardDetector, axis: StandardMovable[float]) -> MsgGenerator[None]:
    """A pause does not end it: the sweep goes on, and is collected after."""
    begun = yield from bps.kickoff_all(detector, axis, wait=False)
    yield from until_done(*begun)
    ending = yield from bps.complete_all(detector, axis, wait=False)
    yield from until_done(*ending, meanwhile=lambda: _collect(detector))
    for _ in range(2):  # a pause may leave out the first
        yield from bps.collect(detector)


def _collect(detector: StandardDetector) -> MsgGenerator[None]:
    yield from bps.sleep(COLLECT_S)
    yield from bps.collect(detector)


def _metadata(
    plan: str,
    devices: tuple[StandardDetector, StandardMovable[float]],
    points: tuple[float, float, int],
    args: Mapping[str, Any],
    md: Mapping[str, Any] | None,
) -> dict[str, Any]:
    detector, axis = devices
    start, stop, num = points
    given = dict(md or {})
    table = planned_metadata(given.get(KEY) or {}, num=num, start_deg=start, stop_deg=stop)
    return {
        "plan_name": plan,
        "plan_args": dict(args),
        "detectors": [detector.name],
        "motors": [axis.name],
        "num_points": num,
        "hints": {"dimensions": [([axis.name], "primary")]},
        **given,
        KEY: table,
    }


def _run(
    detector: StandardDetector,
    axis: StandardMovable[float],
    metadata: Mapping[str, Any],
    frames: MsgGenerator[None],
) -> MsgGenerator[str]:
    """`frames` as one run of the staged devices; bluesky's own `run_wrapper`, but the detector is told the uid."""

    def failed(error: Exception) -> MsgGenerator[None]:
        status = getattr(error, "exit_status", "fail")  # RunEngine's own exceptions say abort or success
        reason = str(scan_error(error) or error) or "the scan was stopped before its end"
        yield from bps.close_run(exit_status=status, reason=reason)

    def run() -> MsgGenerator[str]:
        uid: str = yield from bps.open_run(metadata)
        yield from bpp.contingency_wrapper(
            labelled(detector, uid, frames), except_plan=failed, else_plan=bps.close_run
        )
        return uid

    return (yield from bpp.stage_wrapper(run(), [detector, axis]))


def labelled(detector: StandardDetector, uid: str, frames: MsgGenerator[T]) -> MsgGenerator[T]:
    """Tell a detector that sends frames on the side which run they are of, before it opens its file."""
    label = getattr(detector, "run", None)
    if isinstance(label, SignalRW):
        yield from bps.abs_set(label, uid, wait=True)
    return (yield from frames)
