"""What Prometheus reads, by its own parser, equals what was published."""

import math
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families

from live_bcdi.dashboard import Hub
from live_bcdi.dashboard.metrics import MEMORY, SERVICES
from live_bcdi.stream.updates import Update
from live_bcdi.types import ScanError


class Page:
    """A hub whose clock a test sets, and what its metrics say."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.hub = Hub(lambda: self.now_s)

    def tell(self, topic: str, run: str = "", arrays: dict | None = None, **fields) -> None:
        self.hub.publish(Update(topic=topic, run=run, fields=fields, arrays=arrays or {}))

    def samples(self) -> dict[tuple[str, ...], float]:
        """Values by (name without the prefix, label values...)."""
        text = self.hub.metrics.expose("")[0].decode()
        families = list(text_string_to_metric_families(text))
        assert all(family.documentation and family.name.startswith("live_bcdi_") for family in families)
        return {
            (sample.name.removeprefix("live_bcdi_"), *sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }

    def __getitem__(self, key: str | tuple[str, ...]) -> float:
        return self.samples()[(key,) if isinstance(key, str) else key]


@pytest.fixture
def page() -> Page:
    return Page()


def run_of(page: Page, run: str, status: str = "success", **numbers) -> None:
    page.tell("run", run, state="started")
    page.tell("live", run, **numbers)
    page.tell("run", run, state="stopped", exit_status=status)


def test_frames_are_counted_over_runs_and_however_often_they_are_told(page):
    page.tell("run", "a", state="started")
    for received in (1, 5, 5, 20):
        page.tell("live", "a", received=received, lost=2, duplicates=3)
    assert page["frames_received_total"] == 20
    assert page["run_frames_lost"] == 2
    assert page["frames_lost_total"] == 0  # they may yet come
    page.tell("live", "a", received=21, lost=1, refilled=1, duplicates=3)
    for _ in range(2):
        page.tell("run", "a", state="stopped", exit_status="success")
    run_of(page, "b", received=10, lost=4, refilled=3, missing=1)
    samples = page.samples()
    assert samples["frames_received_total",] == 31
    assert samples["frames_lost_total",] == 5
    assert samples["frames_refilled_total",] == 4
    assert samples["frames_missing_total",] == 1
    assert samples["frames_duplicates_total",] == 3
    assert samples["scans_total", "success"] == 2


def test_a_consumer_that_was_started_again_counts_on(page):
    """Its numbers begin anew in the same run; the counter never goes back."""
    page.tell("live", "a", received=30)
    page.tell("live", "a", received=12, refilled=30)
    assert page["frames_received_total"] == 42
    assert page["frames_refilled_total"] == 30


def test_a_page_that_joins_late_counts_what_the_run_had(page):
    page.tell("live", "a", received=57)
    page.tell("run", "a", state="stopped", exit_status="abort")
    assert page["frames_received_total"] == 57
    assert page["scans_total", "abort"] == 1


def test_what_an_aborted_run_never_measured_is_not_missing(page):
    have = np.zeros(61, bool)
    have[:20] = True
    have[[3, 7]] = False
    for status, missing in (("abort", 2), ("success", 43)):
        page.tell("live", status, arrays={"have": have}, missing=43)
        before = page["frames_missing_total"]
        page.tell("run", status, state="stopped", exit_status=status)
        assert page["frames_missing_total"] - before == missing


def test_the_newest_frame_grows_older_while_nothing_comes(page):
    assert math.isnan(page["newest_frame_age_seconds"])
    page.tell("live", "a", newest_age_s=0.5)
    page.now_s += 7
    assert page["newest_frame_age_seconds"] == pytest.approx(7.5)
    page.tell("run", "b", state="started")
    assert math.isnan(page["newest_frame_age_seconds"])
    page.tell("live", "a", newest_age_s=0.1)  # the run before, late
    assert math.isnan(page["newest_frame_age_seconds"])


def test_a_run_is_open_until_it_ends(page):
    assert page["run_open"] == 0
    page.tell("run", "a", state="started")
    assert page["run_open"] == 1
    page.tell("run", "a", state="stopped", exit_status="fail")
    assert page["run_open"] == 0
    assert page["scans_total", "fail"] == 1


def test_a_service_is_up_while_it_is_heard(page):
    page.tell("health", service="live", state="ready")
    page.tell("health", service="refine", state="busy")
    page.now_s += 4
    page.tell("health", service="refine", state="failed")  # the supervisor says so
    samples = page.samples()
    assert (samples["service_up", "live"], samples["service_up", "refine"]) == (1, 0)
    assert samples["service_heartbeat_age_seconds", "live"] == 4
    assert (samples["service_restarts_total", "live"], samples["service_restarts_total", "refine"]) == (0, 1)
    page.now_s += 2
    page.tell("health", service="refine", state="ready")
    samples = page.samples()
    assert (samples["service_up", "live"], samples["service_up", "refine"]) == (0, 1)


def test_a_result_is_counted_once_and_timed(page):
    fields = {"file": "a_1.cxi", "stop_to_result_s": 9.0, "last_frame_to_result_s": 12.0}
    page.tell("result", "a", **fields)
    page.tell("result", "a", **fields, tiled="refined/a/1")
    page.tell("result", "a", **{**fields, "file": "a_2.cxi", "last_frame_to_result_s": 30.0})
    page.tell("result", "b", error="no frames")
    samples = page.samples()
    assert (samples["results_total", "written"], samples["results_total", "failed"]) == (2, 1)
    assert samples["last_frame_to_result_seconds",] == 30
    assert samples["stop_to_result_seconds",] == 9
    assert samples["frame_to_result_seconds_count",] == 2
    assert samples["frame_to_result_seconds_bucket", "10.0"] == 0
    assert samples["frame_to_result_seconds_bucket", "20.0"] == 1


def test_preview_and_queue(page):
    assert math.isnan(page["jobs_waiting"])
    page.tell("estimate", "a", kind="live", lag_s=0.4)
    page.tell("estimate", "a", kind="refined")
    page.tell("queue", running=1, waiting=3, later=2, outbox=5)
    samples = page.samples()
    assert samples["last_frame_to_preview_seconds",] == 0.4
    assert samples["frame_to_preview_seconds_count",] == 1
    assert [samples[f"jobs_{name}",] for name in ("running", "waiting", "later")] == [1, 3, 2]
    assert samples["outbox",] == 5


@pytest.mark.parametrize("value", [None, "7", math.nan, math.inf, -1, True, [1], {"a": 1}])
def test_what_is_no_number_counts_nothing(page, value):
    before = page.samples()
    page.tell("live", "a", received=value, lost=value, waiting=value, newest_age_s=value)
    page.tell("run", "a", state="stopped", exit_status=value)
    page.tell("queue", running=value, outbox=value)
    page.tell("estimate", "a", kind="live", lag_s=value)
    page.tell("result", "a", file="x", last_frame_to_result_s=value)
    samples = page.samples()
    assert samples["frames_received_total",] == samples["frames_lost_total",] == 0
    assert math.isnan(samples["jobs_running",]) and math.isnan(samples["newest_frame_age_seconds",])
    assert samples["scans_total", "unknown"] == 1
    assert set(samples) == set(before)


def test_motion_is_that_of_the_newest_scan(page):
    assert math.isnan(page["motion_crystal_lost"]) and math.isnan(page["motion_frames_left_out"])
    scans = [
        {"rotation_mdeg": [0.0, 0.0], "strain": 0.0},
        {"rotation_mdeg": [-3.5, 2.0], "strain": -4e-5},
    ]
    page.tell("tracking", "b", of="series", scans=scans, prediction={"lost": ""})
    assert page["motion_rotation_1_millidegrees"] == -3.5 and page["motion_rotation_2_millidegrees"] == 2.0
    assert page["motion_strain"] == -4e-5 and page["motion_crystal_lost"] == 0
    angles = np.array([0.1, np.nan, 0.3, np.nan])
    page.tell("tracking", "b", arrays={"angles_deg": angles}, of="scan", whole=True)
    page.tell("tracking", "c", arrays={"angles_deg": angles[:2]}, of="scan", whole=False)
    assert page["motion_frames_left_out"] == 2
    gone = [*scans, {"rotation_mdeg": None, "strain": None}]
    page.tell("tracking", "c", of="series", scans=gone, prediction={"lost": "no peak stands out"})
    assert page["motion_crystal_lost"] == 1 and math.isnan(page["motion_strain"])
    assert math.isnan(page["motion_rotation_1_millidegrees"])


@pytest.mark.parametrize("value", ["x", [], {}, [1], [{"rotation_mdeg": 3, "strain": "a"}], [["a"]], None])
def test_motion_that_makes_no_sense_is_not_known(page, value):
    page.tell("tracking", "b", of="series", scans=value, prediction=value)
    page.tell("tracking", "b", arrays={"angles_deg": np.array([1, 2])}, of="scan", whole=value)
    assert math.isnan(page["motion_strain"]) and math.isnan(page["motion_frames_left_out"])


def test_the_number_of_series_is_bounded(page):
    for number in range(2 * MEMORY):
        run_of(page, f"run {number}", status=f"status {number}", received=2)
        page.tell("result", f"run {number}", file=f"{number}.cxi")
        page.tell("result", f"run {number}", error=f"error {number}")
    for number in range(SERVICES):
        page.tell("health", service=f"service {number}", state="ready")
    bound = len(page.samples())
    with pytest.raises(ScanError, match="no room for another health"):
        page.tell("health", service="one more", state="ready")
    page.tell("health", service="service 0", state="ready")
    assert len(page.samples()) == bound < 250
    assert page["frames_received_total"] == 4 * MEMORY
    assert page["results_total", "written"] == page["results_total", "failed"] == 2 * MEMORY
    assert not any("status 7" in labels for labels in page.samples())


def test_the_alerts_in_the_docs_ask_for_what_there_is(page):
    page.tell("health", service="live", state="ready")
    _, rules = yaml.safe_load_all((Path(__file__).parents[3] / "docs" / "prometheus.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    asked = set(re.findall(r"live_bcdi_(\w+)", " ".join(alert["expr"] for alert in alerts)))
    assert len(alerts) == 3 and asked
    assert asked <= {name for name, *_ in page.samples()}


def test_both_text_formats_are_served(hub, address):
    hub.publish(Update(topic="live", run="a", fields={"received": 6}))
    url = "http://{}:{}/metrics".format(*address)
    plain = httpx.get(url)
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    new = httpx.get(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert new.headers["content-type"].startswith("application/openmetrics-text")
    for answer, parse in ((plain, text_string_to_metric_families), (new, open_families)):
        (family,) = [each for each in parse(answer.text) if each.name == "live_bcdi_frames_received"]
        assert family.type == "counter" and family.samples[0].value == 6
