"""A crystal that slips within a scan and stays there: where, by how much, and what is no slip."""

from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.sim import simulate_moving
from live_bcdi.tracking import slips, track_scan
from live_bcdi.tracking.fit import Knowledge, posterior

FRAMES = 64
INDEX = np.arange(FRAMES)


@pytest.fixture(scope="module")
def config():
    return load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")


def unstretched(offsets):
    return offsets - np.polyval(np.polyfit(INDEX, offsets, 1), INDEX)


@pytest.mark.parametrize(("photons", "steps", "frame"), [(1e5, 2.0, 32), (1e6, -2.0, 24), (1e7, 3.0, 32)])
def test_a_slip_is_found_where_it_is_and_undone(config, photons, steps, frame):
    """Less shift and stretch, which nothing shows, a fifth of it is left by counts; with the sign swapped it would
    be twice as much."""
    true = steps * (frame <= INDEX)
    scan, _ = simulate_moving(config=config, offsets_steps=true, photons=photons)
    found = track_scan(scan)
    assert found.corrected
    assert f"before frame {frame}" in found.reason
    light, before = scan.intensity.sum(axis=(1, 2)), unstretched(true)
    left = np.average((found.offset_steps - before) ** 2, weights=light)
    assert left < 0.2**2 * np.average(before**2, weights=light)


def test_jitter_is_no_slip(config):
    for seed in range(4):
        drawn = 0.3 * unstretched(np.random.default_rng(seed).normal(size=FRAMES))
        scan, _ = simulate_moving(config=config, offsets_steps=drawn, photons=1e6, seed=seed)
        assert "slips" not in track_scan(scan).reason


def test_the_evidence_for_a_slip_is_that_of_its_prior():
    """A walk alone and a walk with a step of normal size at a place like any other, by the posterior of every
    prior; and the size."""
    random, size = np.random.default_rng(0), 16
    half = random.normal(size=(size, size))
    known = Knowledge(precision=half @ half.T, vector=10 * random.normal(size=size))
    walk, steps = 0.9 ** np.abs(np.subtract.outer(np.arange(size), np.arange(size))), np.tri(size)[4:12] - 0.5
    best = slips._best(known, steps, [walk])
    alone, beside = [], []
    for jitter in slips._JITTERS:
        alone.append(posterior(known, jitter**2 * walk)[2])
        priors = [jitter**2 * walk + slips._WIDTH**2 * np.outer(step, step) for step in steps]
        each = np.array([posterior(known, prior)[2] for prior in priors])
        beside.append((np.log(np.exp(each - each.max()).mean()) + each.max(), int(each.argmax()), jitter))
    top, place, jitter = max(beside)
    assert best.gained == pytest.approx(top - max(alone))
    assert best.place == place
    spread = np.linalg.inv(np.linalg.inv(known.precision) + jitter**2 * walk)
    data, step = np.linalg.solve(known.precision, known.vector), steps[place]
    assert best.size == pytest.approx(step @ spread @ data / (step @ spread @ step + slips._WIDTH**-2))
