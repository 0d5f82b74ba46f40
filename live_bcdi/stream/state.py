"""In which state a sample was during a run: a voltage, a temperature, from the run's own documents.

A name is looked for in the start document (with dots for tables in tables), in its `live_bcdi.scan` and the
`metadata` of that, and, for a state, among the data keys of the events: of the baseline, of a monitored signal, or
of each frame.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from .journal import Document
from .run import KEY


def find_value(start: Mapping[str, Any], name: str) -> Any:
    """What the start document says of `name`; None where it says nothing."""
    table = start.get(KEY)
    scan = table.get("scan") if isinstance(table, Mapping) else None
    metadata = scan.get("metadata") if isinstance(scan, Mapping) else None
    found = (_at(place, name) for place in (start, scan, metadata))
    return next((value for value in found if value is not None), None)


def _at(table: Any, name: str) -> Any:
    if isinstance(table, Mapping) and name in table:
        return table[name]
    for key in name.split("."):
        table = table.get(key) if isinstance(table, Mapping) else None
    return table


def series_of(start: Mapping[str, Any], names: Iterable[str]) -> str:
    """What runs of one series have in common, in words: "gold nanocrystal, hkl 1 1 1"."""
    return ", ".join(_words(name, find_value(start, name)) for name in names)


def _words(name: str, value: Any) -> str:
    if value is None or value == "":
        return f"no {name}"
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(each, int | float) for each in value):
        return f"{name} " + " ".join(f"{each:g}" for each in value)
    return f"{name} {json.dumps(value, default=str)}"


def state_of(start: Mapping[str, Any], documents: Iterable[Document], name: str) -> dict[str, Any]:
    """`value`, `std` (over the readings; None for one) and `readings` of the state `name`, and where it is `from`;
    else `value` None and `why`. A monitored signal is its mean over time, any other that over its readings."""
    said = find_value(start, name)
    if said is not None:
        number = _number(said)
        if number is None:
            return {"value": None, "why": f"the start document's {name!r} is {str(said)[:40]!r}, not a number"}
        return {"value": number, "std": None, "readings": 1, "from": "start"}
    streams = _readings(documents, name)
    if not streams:
        return {"value": None, "why": f"neither the start document nor an event has {name!r}"}
    stream, (readings, end_s) = max(streams.items(), key=lambda item: len(item[1][0]))
    if not readings:
        return {"value": None, "why": f"the readings of {name!r} in stream {stream!r} are not numbers"}
    if stream.endswith("_monitor"):  # the first reading may be of long before
        begin_s = _number(start.get("time")) or 0.0
        readings = [(max(time_s, begin_s), value) for time_s, value in readings]
    else:
        end_s = -math.inf
    mean, std = _mean(readings, end_s)
    return {"value": mean, "std": std, "readings": len(readings), "from": stream}


def _readings(documents: Iterable[Document], name: str) -> dict[str, tuple[list[tuple[float, float]], float]]:
    """(time, value) of the finite readings of `name`, and the run's end, by stream."""
    streams: dict[str, str] = {}
    found: dict[str, list[tuple[float, float]]] = {}
    end_s = -math.inf
    for kind, doc in documents:
        if kind == "descriptor" and isinstance(doc.get("data_keys"), Mapping) and name in doc["data_keys"]:
            streams[str(doc.get("uid"))] = str(doc.get("name"))
        elif kind in ("event", "event_page") and str(doc.get("descriptor")) in streams:
            found.setdefault(streams[str(doc["descriptor"])], []).extend(_of_event(doc, name))
        elif kind == "stop":
            end_s = _number(doc.get("time")) or end_s
    return {stream: (sorted(readings), end_s) for stream, readings in found.items()}


def _of_event(doc: Mapping[str, Any], name: str) -> list[tuple[float, float]]:
    data, times = doc.get("data"), doc.get("timestamps")
    values = data.get(name) if isinstance(data, Mapping) else None
    at_s = times.get(name) if isinstance(times, Mapping) else None
    pairs = zip(values, at_s) if isinstance(values, list) and isinstance(at_s, list) else [(values, at_s)]
    numbers = [(_number(time_s), _number(value)) for value, time_s in pairs]
    return [(time_s or 0.0, value) for time_s, value in numbers if value is not None]


def _mean(readings: list[tuple[float, float]], end_s: float) -> tuple[float, float | None]:
    """Mean and standard deviation; with a later `end_s` each reading counts for as long as it held, up to it."""
    if end_s <= readings[0][0]:
        weights = [1.0] * len(readings)
    else:
        ends = [*(time_s for time_s, _ in readings[1:]), max(end_s, readings[-1][0])]
        weights = [end - time_s for end, (time_s, _) in zip(ends, readings)]
    total = sum(weights)
    mean = sum(weight * value for weight, (_, value) in zip(weights, readings)) / total
    square = sum(weight * (value - mean) ** 2 for weight, (_, value) in zip(weights, readings)) / total
    return mean, math.sqrt(square) if len(readings) > 1 else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
