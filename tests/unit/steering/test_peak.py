"""The maximiser against peaks whose top is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_bcdi.steering.peak import Look, Maximise, Next, Top, next_look
from live_bcdi.types import ScanError

WANTED = Maximise(start=0.0, width=1.0, limits=(-20.0, 20.0), tolerance=0.05)


def gaussian(x, centre, width):
    return math.exp(-((x - centre) ** 2) / 2 / width**2)


def fringed(x, centre, width):
    """What a crystal gives: its fringes are no Gaussian; as wide at half."""
    return np.sinc((x - centre) / (2.66 * width)) ** 2


def found(centre, wanted=WANTED, width=1.0, rate=1e4, background=10.0, seed=0, shape=gaussian):
    """The top, and where was looked on the way."""
    random, looks = np.random.default_rng(seed), []
    while isinstance(told := next_look(looks, wanted), Next):
        assert wanted.limits[0] <= told.position <= wanted.limits[1]
        assert len(looks) < wanted.most
        counts = random.poisson(rate * shape(told.position, centre, width) + background)
        looks.append(Look(position=told.position, counts=float(counts), dose_s=1.0, background=background))
    return told, looks


@pytest.mark.parametrize("rate", [100.0, 1e3, 1e5])
def test_the_top_is_found_and_its_error_bar_is_honest(rate):
    offs, looks = [], []
    for seed in range(25):
        centre = float(np.random.default_rng(seed).uniform(-1.5, 1.5))
        told, taken = found(centre, rate=rate, seed=seed)
        assert told.done and told.std <= WANTED.tolerance
        offs.append((told.position - centre) / told.std)
        looks.append(len(taken))
    # at 1e5 the error bar is that of a peak which is no Gaussian, and this one is
    assert {100.0: 0.6, 1e3: 0.3, 1e5: 0.0}[rate] < np.sqrt(np.mean(np.square(offs))) < 1.4
    assert np.mean(looks) < {100.0: 14, 1e3: 7, 1e5: 6}[rate]


def test_it_stops_as_soon_as_the_tolerance_is_met():
    wide = Maximise(start=0.0, width=1.0, limits=(-20.0, 20.0), tolerance=0.3)
    assert len(found(0.4, wide, rate=100.0)[1]) < len(found(0.4, rate=100.0)[1])


@pytest.mark.parametrize("width", [0.6, 1.0, 2.0])
@pytest.mark.parametrize("centre", [-5.0, 2.0, 6.0])
def test_a_peak_off_the_start_and_of_another_width_is_found(centre, width):
    told, _ = found(centre, width=width, rate=1e5)
    assert told.done
    assert abs(told.position - centre) < 4 * max(told.std, 0.01)


@pytest.mark.parametrize("width", [0.6, 1.0, 2.0])
def test_the_fringes_of_a_crystal_do_not_pull_at_its_top(width):
    """Within two and a half half-widths, which is where a search leaves it: beyond, a fringe is a peak, too."""
    for centre in (-1.4, -0.6, 0.3, 1.2):
        told, _ = found(centre, width=width, rate=1e5, shape=fringed)
        assert told.done
        assert abs(told.position - centre) < 0.1 * width


def test_nothing_there_is_said_after_all_looks():
    told, looks = found(0.0, rate=0.0)
    assert not told.done and "no peak" in told.why and len(looks) == WANTED.most


def test_a_peak_beyond_the_limits_is_not_enclosed():
    tight = Maximise(start=0.0, width=1.0, limits=(-2.0, 2.0), tolerance=0.05)
    told, _ = found(4.0, tight, rate=1e6)
    assert not told.done and -2 <= told.position <= 2


def test_motion_that_scatters_makes_the_error_bar_larger():
    """The motor stands a tenth of a width beside where it says."""
    random = np.random.default_rng(0)
    places = np.linspace(-2, 2, 12)
    looks = [
        Look(
            position=float(x),
            counts=float(1e6 * gaussian(x + 0.1 * random.standard_normal(), 0.2, 1.0)),
            dose_s=1.0,
        )
        for x in places
    ]
    told = next_look(looks, Maximise(start=0.0, width=1.0, limits=(-9.0, 9.0), tolerance=1e-9, most=12))
    assert isinstance(told, Top)
    assert 0.01 < told.std < 0.2 and abs(told.position - 0.2) < 3 * told.std


anything = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(0, 1e12), st.floats(1e-3, 1e3)), max_size=12))
def test_whatever_was_counted_it_stays_within_the_limits(seen):
    looks = [Look(position=x, counts=counts, dose_s=dose, background=1.0) for x, counts, dose in seen]
    told = next_look(looks, WANTED)
    assert -20 <= told.position <= 20
    assert isinstance(told, Next) or math.isfinite(told.std)


@given(anything, anything)
def test_looks_that_are_no_numbers_are_refused(position, counts):
    look = Look(position=position, counts=counts, dose_s=1.0)
    if math.isfinite(position) and math.isfinite(counts) and counts >= 0:
        return
    with pytest.raises(ScanError, match="numbers"):
        next_look([look], WANTED)
    with pytest.raises(ScanError):
        Maximise(start=math.nan, width=1.0, limits=(0.0, 1.0), tolerance=0.1)
