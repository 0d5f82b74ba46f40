"""What the documents of one run say of its frames: one reading an event, and the best there is of the angle."""

import math
from bisect import bisect
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .run import RunPlan


class Readings:
    """The values of one data key in the events of the `primary` stream: one a frame."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.descriptors: set[str] = set()
        self._of_frame: dict[int, float] = {}
        self.newest = -1

    def document(self, name: str, doc: Mapping[str, Any]) -> None:
        """Learn from a descriptor, an event or a page of events."""
        if name == "descriptor" and doc.get("name") == "primary" and self._key in doc.get("data_keys", {}):
            self.descriptors.add(doc["uid"])
        elif name in ("event", "event_page") and doc["descriptor"] in self.descriptors:
            values = np.atleast_1d(np.asarray(doc["data"][self._key], float)).tolist()
            numbers = [number - 1 for number in np.atleast_1d(doc["seq_num"]).tolist()]
            self._of_frame |= {number: value for number, value in zip(numbers, values) if math.isfinite(value)}
            self.newest = max(self.newest, *numbers)

    def of(self, index: int) -> float | None:
        """A frame's value, NaN where there is none; None where a document that may still come will say it."""
        if self.descriptors and index not in self._of_frame and index > self.newest:
            return None
        return self._of_frame.get(index, math.nan)


class Angles:
    """The rocking angle of each frame, from the documents of one run.

    The best there is of: the motor's reading in the frame's own event; the motor's monitored positions,
    interpolated to the middle of the exposure (the clocks of detector and motor must agree); the plan's table.
    """

    def __init__(self, plan: RunPlan, start: Mapping[str, Any]) -> None:
        self._motor = str(plan.scan["geometry"]["rocking"])
        self.planned = _planned(plan, start)
        self._described = False
        self._points = Readings(self._motor)
        self._monitors: set[str] = set()  # descriptors whose events follow the motor
        self._times_s: list[float] = []
        self._positions_deg: list[float] = []

    def document(self, name: str, doc: Mapping[str, Any]) -> None:
        """Learn from a descriptor, an event or a page of events."""
        self._points.document(name, doc)
        if name == "descriptor":
            self._describe(doc)
        elif name in ("event", "event_page") and self._motor in doc["data"]:
            self._learn(doc)

    def _describe(self, doc: Mapping[str, Any]) -> None:
        stream = str(doc.get("name"))
        self._described |= stream == "primary"
        if self._motor in doc.get("data_keys", {}) and stream.endswith("_monitor"):
            self._monitors.add(doc["uid"])  # bluesky's name for it; a baseline would be no track of the motor

    def _learn(self, doc: Mapping[str, Any]) -> None:
        if doc["descriptor"] in self._monitors:
            values = np.atleast_1d(np.asarray(doc["data"][self._motor], float)).tolist()
            times = np.atleast_1d(np.asarray(doc["timestamps"][self._motor], float)).tolist()
            for time_s, value in zip(times, values):
                if math.isfinite(value) and (not self._times_s or time_s > self._times_s[-1]):
                    self._times_s.append(time_s)
                    self._positions_deg.append(value)

    @property
    def monitored(self) -> bool:
        """Whether angles are those of a motor that is followed while it moves."""
        return bool(self._monitors) and not self._points.descriptors

    def of(self, index: int, timestamp_s: float) -> float | None:
        """The angle of a frame (degrees); None where a document that may still come will say it."""
        if self._points.descriptors:
            value = self._points.of(index)
            if value is None or math.isfinite(value):
                return value
        elif self._monitors and math.isfinite(timestamp_s):
            if not self._times_s or timestamp_s > self._times_s[-1]:
                return None
            if timestamp_s >= self._times_s[0]:
                pair = slice(before := max(bisect(self._times_s, timestamp_s) - 1, 0), before + 2)
                return float(np.interp(timestamp_s, self._times_s[pair], self._positions_deg[pair]))
        return float(self.planned[index]) if self._described else None


def _planned(plan: RunPlan, start: Mapping[str, Any]) -> NDArray[np.float64]:
    """The angles of `rocking_list_scan` as they stand in its arguments, else an even step."""
    arguments = start.get("plan_args")
    listed = arguments.get("angles") if isinstance(arguments, Mapping) else None
    if isinstance(listed, list | tuple) and len(listed) == plan.num and all(map(_is_number, listed)):
        return np.asarray(listed, float)
    return np.linspace(plan.start_deg, plan.stop_deg, plan.num)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
