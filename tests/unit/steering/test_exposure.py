import numpy as np
import pytest

from live_bcdi.steering.exposure import SAFE, amplitude_error, choose_attenuation, split_exposure
from live_bcdi.types import ScanError


def rocking(random, angles=25, pixels=200):
    """Rates that fall with the angle as a crystal's do, over five orders."""
    away = np.abs(np.arange(angles) - angles // 2) + 0.5
    return random.exponential(1.0, (angles, pixels)) * 100 / away[:, None] ** 4


def test_without_background_what_can_be_seen_is_exposed_alike():
    rates = np.full((7, 50), 100.0)
    rates[0] = 1e-6
    seconds = split_exposure(rates, 0.0, 60.0)
    np.testing.assert_allclose(seconds, [0, 10, 10, 10, 10, 10, 10], atol=1e-3)


def test_over_a_background_the_weak_angles_get_more():
    rates = np.full((3, 50), 100.0)
    rates[0] = 10.0
    seconds = split_exposure(rates, 50.0, 30.0)
    # where all is seen well: t as sqrt((r + b) / r)
    assert seconds[0] / seconds[1] == pytest.approx(np.sqrt(6 / 1.5), rel=0.02)


@pytest.mark.parametrize("background", [0.0, 0.1])
@pytest.mark.parametrize("dose_s", [0.1, 10.0, 1000.0])
def test_no_other_split_of_the_dose_is_better(background, dose_s):
    random = np.random.default_rng(0)
    rates = rocking(random)
    seconds = split_exposure(rates, background, dose_s)
    assert seconds.sum() == pytest.approx(dose_s) and (seconds >= 0).all()
    best = amplitude_error(rates, background, seconds).sum()
    assert best <= amplitude_error(rates, background, np.full(25, dose_s / 25)).sum() + 1e-9
    for _ in range(200):
        other = seconds * np.exp(0.3 * random.standard_normal(25)) + 1e-3 * dose_s * random.random(25)
        other *= dose_s / other.sum()
        assert best <= amplitude_error(rates, background, other).sum() * (1 + 1e-9)


def test_the_error_that_it_minimises_is_that_of_counting():
    """The mean square error of the linear estimate of the amplitude by its information, by brute force."""
    rate, background, seconds = 40.0, 10.0, 5.0
    random = np.random.default_rng(1)
    counts = random.poisson((rate + background) * seconds, 100_000)
    amplitude = np.sqrt(rate) + (counts / seconds - background - rate) / (2 * np.sqrt(rate))
    known = 1 / np.var(amplitude)
    said = amplitude_error(np.array([[rate]]), background, np.array([seconds]))[0]
    assert 1 / said == pytest.approx(known + 1 / rate, rel=0.02)


def test_angles_where_the_beam_was_away_come_first():
    rates = np.full((5, 50), 100.0)
    seconds = split_exposure(rates, 0.0, 10.0, np.array([10.0, 10.0, 0.0, 10.0, 10.0]))
    np.testing.assert_allclose(seconds, [0, 0, 10, 0, 0], atol=1e-6)
    seconds = split_exposure(rates, 0.0, 30.0, np.array([10.0, 10.0, 0.0, 10.0, 10.0]))
    np.testing.assert_allclose(seconds, [4, 4, 14, 4, 4], rtol=1e-3)


def test_the_brightest_pixel_of_one_acquisition_stays_below_the_limit():
    offered = (1.0, 0.1, 0.01, 1e-3)
    for rate in 10.0 ** np.arange(1, 9):
        found = choose_attenuation(rate, offered, limit_counts=1e4, shortest_s=0.01, longest_s=10.0)
        assert found.peak_counts <= SAFE * 1e4 * (1 + 1e-9)
        assert found.safe
        brighter = [each for each in offered if each > found.transmission]
        assert all(rate * each * 0.01 > SAFE * 1e4 for each in brighter)
    dark = choose_attenuation(1.0, offered, limit_counts=1e4, shortest_s=0.01, longest_s=10.0)
    assert (dark.transmission, dark.acquisition_s) == (1.0, 10.0)
    glaring = choose_attenuation(1e12, offered, limit_counts=1e4, shortest_s=0.01, longest_s=10.0)
    assert not glaring.safe and glaring.transmission == 1e-3


def test_what_is_no_number_is_refused():
    with pytest.raises(ScanError, match="transmissions"):
        choose_attenuation(1.0, (), limit_counts=1.0, shortest_s=1.0, longest_s=1.0)
    with pytest.raises(ScanError, match="transmissions"):
        choose_attenuation(1.0, (2.0,), limit_counts=1.0, shortest_s=1.0, longest_s=1.0)
    with pytest.raises(ScanError, match="positive"):
        choose_attenuation(np.nan, (1.0,), limit_counts=1.0, shortest_s=1.0, longest_s=1.0)
    with pytest.raises(ScanError, match="dose"):
        split_exposure(np.ones((2, 2)), 0.0, 0.0)
    with pytest.raises(ScanError, match="no counts"):
        split_exposure(np.zeros((2, 2)), 0.0, 1.0)
