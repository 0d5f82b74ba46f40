"""Between two runs the network adapts, and gives way at once when the next run begins."""

import logging
from concurrent.futures import BrokenExecutor, Future
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from live_bcdi.config import LiveConfig
from live_bcdi.stream.fakes import small_scan
from live_bcdi.types import ScanError
from live_bcdi_consumers import between as module
from live_bcdi_consumers import estimating
from live_bcdi_consumers.between import Between, adapt_to_scan

TOLD = {"kept": True, "why": "foretold better", "times": 2, "seconds": 20.0, "steps": 70}


class Pool:
    """A process that does nothing until it is told."""

    made: ClassVar[list["Pool"]] = []

    def __init__(self, **settings):
        self.settings, self.jobs, self.killed, self.future = settings, [], False, Future()
        self.made.append(self)

    def submit(self, job, *args):
        self.jobs.append((job, args))
        return self.future

    def shutdown(self):
        self.killed = True


@pytest.fixture
def pools(monkeypatch):
    monkeypatch.setattr(module, "JobPool", Pool)
    monkeypatch.setattr(Pool, "made", [])
    return Pool.made


@pytest.fixture
def between(service, pools):
    service.config = service.config.changed(live={"edge_voxels": 16, "network": True, "adapt": True})
    return Between(service)


def run(number):
    return SimpleNamespace(
        plan=SimpleNamespace(run=f"run {number}"), snapshot=lambda edge: small_scan(num=12, shape=(16, 18))
    )


def test_it_adapts_at_the_lowest_priority_and_says_what_came_of_it(between, pools, caplog):
    between.begin(run(1))
    (pool,) = pools
    assert pool.settings == {"workers": 1, "threads": 1, "nice": 19}
    ((job, (folder, _, settings)),) = pool.jobs
    assert (job, folder, settings.adapt) == (adapt_to_scan, between.folder, True)
    between.collect()
    assert not pool.killed
    pool.future.set_result(TOLD)
    with caplog.at_level(logging.INFO):
        between.collect()
        between.collect()
    assert pool.killed, "its memory is for the next run"
    assert [each.getMessage() for each in caplog.records] == [
        "the network is adapted to it in 20 s, 2 times in all: foretold better"
    ]


def test_the_next_run_kills_it(between, pools, caplog):
    between.begin(run(1))
    with caplog.at_level(logging.INFO):
        between.stop()
    assert pools[0].killed and "the next run begins" in caplog.text
    pools[0].future.set_result(TOLD)
    between.collect()
    assert "adapted to it in" not in caplog.text


@pytest.mark.parametrize(
    "error", [BrokenExecutor("killed"), ScanError("no room for free patches"), RuntimeError("out of memory")]
)
def test_what_goes_wrong_is_a_line_in_the_log_and_ends_nothing(between, pools, caplog, error):
    between.begin(run(1))
    pools[0].future.set_exception(error)
    between.collect()
    assert str(error) in caplog.text
    between.begin(run(2))
    assert len(pools) == 2 and pools[0].killed


@pytest.mark.parametrize("live", [{}, {"network": True}])
def test_it_is_off_until_network_and_adapt_are_asked_for(service, pools, live):
    service.config = service.config.changed(live=live)
    between = Between(service)
    between.begin(run(1))
    assert between.folder is None and not pools


def test_a_run_keeps_the_weights_that_it_began_with(monkeypatch, tmp_path):
    """And the next one has the newest."""
    keeping = pytest.importorskip("live_bcdi_models.keeping")
    found = [tmp_path / "1", tmp_path / "2"]
    monkeypatch.setattr(keeping, "newest_weights", lambda folder, base: found.pop(0) if found else None)
    estimating._weights.cache_clear()
    asked = [estimating._weights(each, tmp_path, None) for each in ("a", "a", "b", "a", "c")]
    estimating._weights.cache_clear()
    assert [each and each.name for each in asked] == ["1", "1", "2", "1", None]


def test_a_scan_without_a_crystal_teaches_nothing(tmp_path):
    pytest.importorskip("torch")
    scan = small_scan(num=12, shape=(16, 18))
    empty = type(scan)(
        **{name: getattr(scan, name) for name in scan.__slots__} | {"intensity": scan.intensity * 0 + 1}
    )
    with pytest.raises(ScanError):
        adapt_to_scan(tmp_path, empty, LiveConfig(edge_voxels=16, adapt_s=1))
    assert not list(tmp_path.iterdir()) and np.all(empty.intensity == 1)
