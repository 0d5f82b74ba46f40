"""What the updates say, counted for Prometheus: the same numbers as the page shows, over all runs.

Counters begin at 0 when the page's server does and never go back; what a run had before the page heard of it is in
the first update of that run, so that only runs which ended unheard are not counted. No label holds a run, a file
or a message: the number of series does not grow. Gauges that are not known are NaN.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from ..stream.updates import Update

SERVICE_SILENT_S = 5.0  # services speak once a second
MEMORY = 256  # runs, and results, that are told apart; services send the same one more than once
SERVICES = 32
STATUSES = ("success", "abort", "fail")
GROWING = ("received", "refilled", "duplicates", "skipped")
PREVIEW_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
RESULT_BUCKETS_S = (5, 10, 20, 40, 80, 160, 320, 640, 1800)
FRAMES = {
    "received": "Frames that the stream brought, each once.",
    "refilled": "Frames taken from the file, in place of the stream.",
    "duplicates": "Copies of frames that came again and were dropped.",
    "skipped": "Frames that were never shown as a picture: the pace of the page, not a loss.",
    "lost": "Frames that the stream did not bring, counted when their run ends.",
    "missing": "Frames that neither stream nor file had, counted when their run ends.",
}
GAUGES = {
    "frames_waiting": "Frames that reached the live consumer and are not in the volume yet.",
    "run_frames_lost": "Frames of the newest run that the stream has not brought so far.",
    "last_frame_to_preview_seconds": "From the newest frame of the newest live estimate to that estimate.",
    "stop_to_result_seconds": "From the end of the run of the newest result to that result.",
    "last_frame_to_result_seconds": "From the last frame of the run of the newest result to that result.",
    "jobs_running": "Refinements at work.",
    "jobs_waiting": "Runs that wait for a worker.",
    "jobs_later": "Runs that were put off.",
    "outbox": "Results on disk that Tiled has not taken.",
}
MOTION = {
    "motion_rotation_1_millidegrees": "By which the newest scan's crystal is turned from its series' first one,"
    " about the part of the rocking axis across h; NaN where it was not seen.",
    "motion_rotation_2_millidegrees": "The same about h x that.",
    "motion_strain": "d / d_first - 1 of the newest scan's crystal; NaN where it was not seen.",
    "motion_crystal_lost": "1 where the newest scan did not see the crystal.",
    "motion_frames_left_out": "Frames of the newest tracked scan that were missing, without beam, or given twice.",
}


@dataclass(slots=True)
class _Run:
    seen: dict[str, float] = field(default_factory=dict)
    lost: float = 0.0
    missing: float = 0.0
    gaps: float = 0.0
    stopped: bool = False


class Metrics:
    """`take` every update, under the caller's lock; `expose` when Prometheus asks, from any thread."""

    def __init__(self, clock_s: Callable[[], float], browsers: Callable[[], int]) -> None:
        """`clock_s` gives seconds since the epoch, `browsers` how many are connected."""
        self._clock_s = clock_s
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._results: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._newest = ""
        self._frame_s = math.nan  # when the newest frame came
        self._heard: dict[str, tuple[float, bool]] = {}
        self._registry = CollectorRegistry()
        self._frames = {name: self._counter(f"frames_{name}", text) for name, text in FRAMES.items()}
        self._gauges = {name: self._gauge(name, text) for name, text in (GAUGES | MOTION).items()}
        for unknown in self._gauges.values():
            unknown.set(math.nan)
        self._scans = self._counter("scans", "Runs that ended, by what the RunEngine said.", "exit_status")
        self._written = self._counter("results", "Refinements that ended.", "outcome")
        self._up = self._gauge("service_up", "1 where a service was heard within 5 s and has not died.", "service")
        self._age = self._gauge("service_heartbeat_age_seconds", "Since a service was heard.", "service")
        self._restarts = self._counter("service_restarts", "Times that a service died.", "service")
        self._preview_s = self._histogram("frame_to_preview_seconds", PREVIEW_BUCKETS_S)
        self._result_s = self._histogram("frame_to_result_seconds", RESULT_BUCKETS_S)
        self._gauge("newest_frame_age_seconds", "Since the newest frame came.").set_function(
            lambda: self._clock_s() - self._frame_s
        )
        self._gauge("run_open", "1 while the newest run goes on.").set_function(self._run_open)
        self._gauge("page_browsers", "Browsers that look at the page.").set_function(browsers)
        for status in (*STATUSES, "unknown"):  # a series that begins with its first event has no rate
            self._scans.labels(status)
        for outcome in ("written", "failed"):
            self._written.labels(outcome)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace="live_bcdi", registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace="live_bcdi", registry=self._registry)

    def _histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        text = GAUGES[f"last_{name}"]
        return Histogram(name, text, namespace="live_bcdi", registry=self._registry, buckets=buckets)

    def expose(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type, in the format that the header `accept` asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def take(self, update: Update) -> None:
        """Count an update. What is not a number in it is left out, whoever sent it."""
        match update.topic:
            case "health":
                self._take_health(update.fields)
            case "run":
                self._take_run(update)
            case "live":
                self._take_live(update)
            case "estimate":
                self._show("last_frame_to_preview_seconds", update.fields.get("lag_s"), self._preview_s)
            case "queue":
                for name in ("running", "waiting", "later"):
                    self._show(f"jobs_{name}", update.fields.get(name))
                self._show("outbox", update.fields.get("outbox"))
            case "result":
                self._take_result(update)
            case "tracking":
                self._take_motion(update)

    def _show(self, name: str, value: object, histogram: Histogram | None = None) -> None:
        number = _number(value)
        if number is None:
            return
        self._gauges[name].set(number)
        if histogram is not None:
            histogram.observe(number)

    def _take_health(self, fields: Mapping[str, Any]) -> None:
        name = str(fields.get("service"))
        if name not in self._heard:
            if len(self._heard) >= SERVICES:
                return
            self._age.labels(name).set_function(lambda: self._clock_s() - self._heard[name][0])
            self._up.labels(name).set_function(lambda: self._is_up(name))
        died = fields.get("state") == "failed"
        self._restarts.labels(name).inc(int(died))
        self._heard[name] = (self._clock_s(), died)

    def _is_up(self, name: str) -> bool:
        heard_s, died = self._heard[name]
        return not died and self._clock_s() - heard_s <= SERVICE_SILENT_S

    def _run(self, uid: str) -> _Run:
        if uid not in self._runs:
            self._newest, self._frame_s = uid, math.nan
            _remember(self._runs, uid, _Run())
        return self._runs[uid]

    def _run_open(self) -> bool:
        newest = self._runs.get(self._newest)
        return newest is not None and not newest.stopped

    def _take_run(self, update: Update) -> None:
        run = self._run(update.run)
        if update.fields.get("state") != "stopped" or run.stopped:
            return
        run.stopped = True
        status = update.fields.get("exit_status")
        self._scans.labels(status if status in STATUSES else "unknown").inc()
        self._frames["lost"].inc(run.lost)
        # a run that was aborted lacks what was never measured
        self._frames["missing"].inc(run.missing if status == "success" else run.gaps)

    def _take_live(self, update: Update) -> None:
        run, fields = self._run(update.run), update.fields
        for name in GROWING:
            value = _number(fields.get(name))
            if value is None:
                continue
            before = run.seen.get(name, 0.0)
            self._frames[name].inc(value - before if value >= before else value)  # less: the consumer is a new one
            run.seen[name] = value
        run.lost = _number(fields.get("lost")) or 0.0
        run.missing = _number(fields.get("missing")) or 0.0
        have = np.asarray(update.arrays.get("have", ()), bool)
        run.gaps = float(have.size - have.sum() - np.argmax(have[::-1])) if have.any() else 0.0
        if update.run == self._newest:
            self._gauges["run_frames_lost"].set(run.lost)
            self._show("frames_waiting", fields.get("waiting"))
            if (age_s := _number(fields.get("newest_age_s"))) is not None:
                self._frame_s = self._clock_s() - age_s

    def _take_motion(self, update: Update) -> None:
        """Of a series, or of a scan that is whole."""
        scans, prediction = update.fields.get("scans"), update.fields.get("prediction")
        if isinstance(scans, list) and scans and isinstance(scans[-1], Mapping):
            turned = scans[-1].get("rotation_mdeg")
            pair = turned if isinstance(turned, list) and len(turned) == 2 else (None, None)
            values = (*pair, scans[-1].get("strain"))
            for name, value in zip(("rotation_1_millidegrees", "rotation_2_millidegrees", "strain"), values):
                self._gauges[f"motion_{name}"].set(_signed(value))
            lost = prediction.get("lost") if isinstance(prediction, Mapping) else None
            self._gauges["motion_crystal_lost"].set(bool(lost))
        angles = update.arrays.get("angles_deg")
        if update.fields.get("whole") is True and angles is not None and angles.dtype.kind == "f":
            self._gauges["motion_frames_left_out"].set(int(np.isnan(angles).sum()))

    def _take_result(self, update: Update) -> None:
        """A result is told again when Tiled has it; a failure has no file."""
        error = update.fields.get("error")
        key = (update.run, str(error or update.fields.get("file")))
        if key in self._results:
            return
        _remember(self._results, key, None)
        self._written.labels("failed" if error else "written").inc()
        self._show("stop_to_result_seconds", update.fields.get("stop_to_result_s"))
        self._show("last_frame_to_result_seconds", update.fields.get("last_frame_to_result_s"), self._result_s)


def _number(value: object) -> float | None:
    """A finite number that is not negative, or None."""
    number = _signed(value)
    return number if number >= 0 else None


def _signed(value: object) -> float:
    """A finite number, or NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if math.isfinite(value) else math.nan


def _remember(memory: OrderedDict[Any, Any], key: object, value: object) -> None:
    memory[key] = value
    while len(memory) > MEMORY:
        memory.popitem(last=False)
