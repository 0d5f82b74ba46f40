"""A warm start is kept where the voxels that nobody fitted say so, and only there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import Preprocessing, load_config
from live_bcdi.phasing import Plan, parse
from live_bcdi.pipeline import reconstruct
from live_bcdi.series import warm_recipe, warm_started
from live_bcdi.sim import simulate_scan
from live_bcdi.types import ScanError

SHAPE = (32, 32, 32)
WHOLE = Preprocessing(shape=SHAPE, binning=(1, 1, 1))
LONG = Plan(recipe="20*ER + 3*(20*HIO + ShrinkWrap(sigma=1, threshold=0.15)) + 20*ER", starts=3, free=0.04)
SHORT = Plan(recipe="4*ER", starts=1, free=0.04)


@pytest.fixture(scope="module")
def scan():
    return simulate_scan(config=load_config(Path("config/34idc.toml")), shape=SHAPE, photons=1e6, strain="medium")[
        0
    ]


@pytest.fixture(scope="module")
def neighbour(scan):
    return reconstruct(scan, LONG, preprocessing=WHOLE)


def test_a_good_neighbour_wins_against_a_start_that_got_nowhere(scan, neighbour):
    cold = reconstruct(scan, SHORT, preprocessing=WHOLE)
    found = warm_started(scan, cold, [neighbour], SHORT, preprocessing=WHOLE)
    assert found.provenance["start"].startswith("warm")
    assert found.metrics["free_llk"] < 0.5 * cold.metrics["free_llk"]


@pytest.mark.parametrize(
    ("cold", "warm"),
    [
        ("9*HIO + Guide(keep=4) + 2*(5*RAAR + ER) + Guide + 3*ER", "20*ER + 2*(5*RAAR + ER) + Guide + 3*ER"),
        ("Coarse + 9*HIO + Guide + 3*ER", "20*ER + 3*ER"),
        ("9*HIO + Guide + Coarse + 3*ER", "9*HIO + Guide + Coarse + 3*ER"),
        ("9*HIO + 3*ER + Guide", "9*HIO + 3*ER + Guide"),
        ("3*ER", "3*ER"),
    ],
)
def test_a_warm_start_goes_on_after_the_generation_that_finds_the_object(cold, warm):
    assert str(warm_recipe(cold)) == str(parse(warm))


def test_what_begins_at_the_object_stays_there(scan, neighbour):
    """A first generation that makes noise of any object does nothing to one that is known."""
    lost = "200*HIO(beta=3) + Guide(keep=1) + 20*ER"
    found = warm_started(
        scan, replace(neighbour, recipe=lost, metrics={"free_llk": 9.0}), [neighbour], LONG, preprocessing=WHOLE
    )
    assert found.metrics["free_llk"] < 1.5 * neighbour.metrics["free_llk"]
    cold = reconstruct(scan, replace(LONG, recipe=lost), preprocessing=WHOLE)
    assert cold.metrics.get("free_llk", np.inf) > 2 * neighbour.metrics["free_llk"]


def test_a_wrong_neighbour_is_not_followed_whatever_it_fits(scan, neighbour):
    random = np.random.default_rng(0)
    wrong = replace(neighbour, density=(neighbour.density * np.exp(1j * random.normal(0, 2, SHAPE))).astype("c8"))
    cold = neighbour
    found = warm_started(scan, cold, [wrong], SHORT, preprocessing=WHOLE)
    assert found.provenance["start"].startswith("cold")
    assert found.density is cold.density


def test_what_cannot_be_compared_is_refused(scan, neighbour):
    with pytest.raises(ScanError, match="same seed"):
        warm_started(scan, neighbour, [neighbour], replace(LONG, seed=5), preprocessing=WHOLE)
    small = replace(neighbour, density=neighbour.density[:-2])
    with pytest.raises(ScanError, match="one \\[preprocess\\] shape"):
        warm_started(scan, neighbour, [small], LONG, preprocessing=WHOLE)
