"""The worker's preview of a whole run goes to disk, and from there to Tiled under its own name."""

import numpy as np
import pytest

from live_bcdi.config import CrystalConfig, LiveConfig
from live_bcdi.stream.fakes import small_geometry
from live_bcdi.transport.hdf5 import read_result
from live_bcdi.types import Agreement, Outcome, Reconstruction, RockingScan
from live_bcdi_consumers import delivery as delivering
from live_bcdi_consumers import estimating
from live_bcdi_consumers.delivery import Delivery
from live_bcdi_consumers.tickets import Tickets

RUN = "4a1c9d00-0000-4000-8000-000000000001"
EDGE = 16
ASKED = []
SUMMARY = {"run": RUN, "name": "crystal 3", "frames": EDGE, "num": EDGE, "missing": [], "seconds": 0.3}


def sure(pattern, *, also=(), views):
    """A box with an uncertainty, whatever the pattern."""
    ASKED.append((len(also), views))
    density = np.zeros((EDGE,) * 3, np.complex64)
    density[5:11, 5:11, 5:11] = 1
    std = np.full(density.shape, 0.1, np.float32)
    told = {"density": density, "support": density.real > 0, "chi": 0.1, "chi_starts": (0.1,), "recipe": "ER"}
    agreement = Agreement(mode=density, weights=np.ones(1), amplitude_std=std, phase_std_rad=std)
    metrics = {"phase_std_rad": 0.1}
    return Reconstruction(**told, metrics=metrics, seed=0, outcome=Outcome.DONE, agreement=agreement)


@pytest.fixture
def previewed(monkeypatch):
    """An estimate by a network in this process."""
    monkeypatch.setattr(estimating, "_network", lambda weights=None: (sure, ""))
    ASKED.clear()
    counts = np.random.default_rng(0).poisson(3.0, (EDGE,) * 3).astype(np.int32)
    counts[8, 8, 8] = 500
    angles = np.linspace(-0.1, 0.1, EDGE)
    scan = RockingScan(name="s", intensity=counts, angles_deg=angles, geometry=small_geometry())
    settings = LiveConfig(edge_voxels=EDGE, network=True)
    for run, whole in (("another", True), (RUN, False), (RUN, True)):
        estimate = estimating.estimate_run(run, scan, settings=settings, whole=whole)
    return estimate


class Recorder:
    def __init__(self):
        self.stored = []

    def store(self, root, run, result, about, *, kind="refined"):
        self.stored.append((run, kind, about["name"], result))
        return f"{kind}/{run}/1"


def test_a_preview_is_kept_once_and_reaches_tiled_under_its_own_name(previewed, service, monkeypatch):
    assert previewed.preview is None, "arrays that nobody looks at are not sent between processes"
    assert previewed.phase_std_rad == pytest.approx(0.1)
    assert ASKED == [(0, 3), (0, 1), (1, 3)], "from the last of this run; with fewer views on the way"
    assert estimating.keep_preview(SUMMARY, service.directory, CrystalConfig())
    assert not estimating.keep_preview(SUMMARY, service.directory, CrystalConfig()), "it is gone from the worker"
    ((_, ticket),) = Tickets(service.folder("outbox/previews"))
    kept = read_result(ticket["file"])
    assert kept.lab is not None and kept.volume is not None and kept.agreement is not None
    recorder, delivery = Recorder(), Delivery(service)
    monkeypatch.setattr(delivering, "store_result", recorder.store)
    monkeypatch.setattr(delivery, "_connected", lambda: None)
    assert delivery.owed() == 1
    delivery.work()
    ((run, kind, name, _),) = recorder.stored
    assert (run, kind, name, delivery.owed()) == (RUN, "preview", "crystal 3", 0)
    assert list(service.folder("previews").iterdir()) == []
    assert [update for update in service.updates.sent if update.topic == "result"] == [], "it is no result"


def test_a_preview_that_tiled_refuses_is_put_aside_and_never_taken_for_a_result(previewed, service, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no")

    estimating.keep_preview(SUMMARY, service.directory, CrystalConfig())
    delivery = Delivery(service)
    monkeypatch.setattr(delivering, "store_result", refuse)
    monkeypatch.setattr(delivery, "_connected", lambda: None)
    for _ in range(delivering.MAX_TRIES):
        delivery._next_s = 0.0
        delivery.work()
    assert delivery.owed() == 0
    assert list(service.folder("outbox/refused").glob("*")) == []


def test_without_torch_or_weights_the_estimate_is_by_iterations(monkeypatch):
    """Both ways in which a network can be absent are a sentence, and no error."""
    import builtins

    plain = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("live_bcdi_models"):
            raise ImportError("no", name="torch")
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    estimating._network.cache_clear()
    try:
        assert estimating.prepare(network=True) == "torch is not installed"
        assert estimating.prepare(network=False) == ""
        assert estimating.initial_guess() is None, "a refinement goes on without"
    finally:
        estimating._network.cache_clear()
