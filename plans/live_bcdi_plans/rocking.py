"""Rocking scans as bluesky plans: one run, one frame an angle, in step or on the fly.

All put the table of `live_bcdi.stream.run` into the start document under `live_bcdi`, and refuse to start
without what the analysis needs. Analysis never makes them fail.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.utils import MsgGenerator
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
    yield from bps.prepare(detector, TriggerInfo(number_of_events=1, livetime=exposure), wait=True)
    for angle in angles:
        yield from bps.mv(axis, angle)
        yield from bps.trigger_and_read([detector, axis])


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
    frames of `exposure` seconds. The angle of each frame is what the detector captured with it, in its file.

    `md`, the return value and the errors are those of `rocking_scan`.
    """
    args = {"start": start, "stop": stop, "num": num, "exposure": exposure}
    metadata = _metadata("fly_rocking_scan", (detector, axis), (start, stop, num), args, md)
    trigger = TriggerInfo(trigger=DetectorTrigger.EXTERNAL_EDGE, number_of_events=num, livetime=exposure)
    motion = FlyMotorInfo(start_position=start, end_position=stop, time_for_move=max(num * exposure, 0.1))

    def sweep() -> MsgGenerator[None]:
        yield from bps.prepare(axis, motion, wait=True)
        yield from bps.prepare(detector, trigger, wait=True)
        yield from bps.declare_stream(detector, name="primary", collect=True)
        yield from bps.kickoff_all(detector, axis, wait=True)
        yield from bps.collect_while_completing([detector, axis], [detector], flush_period=0.2)

    return (yield from _run(detector, axis, metadata, sweep()))


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
        yield from bps.close_run(exit_status=status, reason=str(scan_error(error) or error))

    def run() -> MsgGenerator[str]:
        uid: str = yield from bps.open_run(metadata)
        yield from bpp.contingency_wrapper(
            _labelled(detector, uid, frames), except_plan=failed, else_plan=bps.close_run
        )
        return uid

    return (yield from bpp.stage_wrapper(run(), [detector, axis]))


def _labelled(detector: StandardDetector, uid: str, frames: MsgGenerator[None]) -> MsgGenerator[None]:
    """Tell a detector that sends frames on the side which run they are of, before it opens its file."""
    label = getattr(detector, "run", None)
    if isinstance(label, SignalRW):
        yield from bps.abs_set(label, uid, wait=True)
    yield from frames
