"""A real scan: /metrics, the log and the page's strip of numbers say what the result says."""

import json
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from live_bcdi.config import load_config
from live_bcdi.session import play
from live_bcdi.sim import simulate_scan
from live_bcdi.transport.hdf5 import write_scan

NUM = 24


def metrics(config_path):
    """Values by (name without the prefix, label values...)."""
    page = load_config(config_path).page
    with urllib.request.urlopen(f"http://{page.host}:{page.port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        (sample.name.removeprefix("live_bcdi_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def records(config_path, service, run, beginning):
    """The log's lines of a service about a run whose message begins so."""
    path = load_config(config_path).storage.directory / "log" / f"{service}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line.get("run") == run and line["message"].startswith(beginning)]


@pytest.fixture(scope="module")
def seen(system, tmp_path_factory):
    """(what a scan said in the end, metrics before it, and after)."""
    supervisor, config = system
    scan, _ = simulate_scan(shape=(NUM, 32, 32), photons=1e6, seed=5, config=load_config(config))
    path = tmp_path_factory.mktemp("observed") / "small.h5"
    write_scan(path, scan)
    before = metrics(config)
    told = play(supervisor, path, config, rate_hz=0, fly=False)
    until_s = time.monotonic() + 20
    while (after := metrics(config))["outbox",] > 0 or after["jobs_running",] > 0:
        assert time.monotonic() < until_s, "the queue was not told to be empty"
        time.sleep(0.1)
    return told, before, after


def test_metrics_say_what_the_run_says(seen):
    told, before, after = seen
    grown = {key: value - before.get(key, 0.0) for key, value in after.items()}
    live = told["live"]
    for name in ("received", "lost", "refilled", "duplicates", "skipped"):
        assert grown[f"frames_{name}_total",] == live[name], name
    assert live["received"] + live["refilled"] == NUM and grown["frames_missing_total",] == 0
    assert grown["scans_total", "success"] == 1
    assert (grown["results_total", "written"], grown["results_total", "failed"]) == (1, 0)
    assert grown["frame_to_result_seconds_count",] == 1
    for name in ("last_frame_to_result_s", "stop_to_result_s"):
        assert after[f"{name}econds",] == pytest.approx(told["result"][name])
    assert 0 < told["result"]["stop_to_result_s"] <= told["result"]["last_frame_to_result_s"] + 1
    assert after["run_open",] == 0 and after["newest_frame_age_seconds",] > 0


def test_every_service_is_up(seen, system):
    _, _, after = seen
    assert {key[1]: value for key, value in after.items() if key[0] == "service_up"} == dict.fromkeys(
        system[0].pids(), 1.0
    )


def test_the_log_has_the_same_numbers_as_fields(seen, system):
    told, _, _ = seen
    (stop,) = records(system[1], "live", told["run"], "stop:")
    for name in ("received", "lost", "refilled", "duplicates", "skipped", "missing"):
        assert stop[name] == told["live"][name], name
    (written,) = records(system[1], "refine", told["run"], "result written")
    for name in ("file", "chi", "frames", "num", "stop_to_result_s", "last_frame_to_result_s"):
        assert written[name] == told["result"][name], name
