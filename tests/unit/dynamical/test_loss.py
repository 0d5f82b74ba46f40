"""Losses against differences and Poisson's own likelihood; scale and background against what was put in."""

import numpy as np
import pytest
from scipy.stats import poisson

from live_bcdi.dynamical.loss import Loss, constant_background, fitted_pixels
from live_bcdi.types import ScanError


@pytest.mark.parametrize("name", ["amplitude", "poisson"])
def test_slopes_are_derivatives(name):
    loss, rng = Loss(name), np.random.default_rng(0)
    counts = rng.poisson(3.0, 200).astype(float)
    expected = rng.uniform(0.1, 9, 200)
    step = 1e-5
    change = (loss.values(expected + step, counts) - loss.values(expected - step, counts)) / (2 * step)
    np.testing.assert_allclose(loss.slopes(expected, counts), change, atol=1e-8)
    change = (loss.slopes(expected + step, expected) - loss.slopes(expected - step, expected)) / (2 * step)
    np.testing.assert_allclose(loss.curvatures(expected), change, rtol=1e-6)


def test_poisson_is_the_likelihood():
    counts, expected = np.arange(6.0), np.linspace(0.5, 4, 6)
    best = poisson.logpmf(counts, np.maximum(counts, 1e-300))
    np.testing.assert_allclose(Loss("poisson").values(expected, counts), best - poisson.logpmf(counts, expected))
    assert np.isfinite(Loss("poisson").values(np.zeros(2), np.array([0.0, 3.0]))).all()


@pytest.mark.parametrize("name", ["amplitude", "poisson"])
def test_scale_and_background_are_found(name):
    """Half the pixels have hardly anything but background; the errors allowed are four standard deviations."""
    rng = np.random.default_rng(1)
    found = 10 ** rng.uniform(-4, 2, 20000)
    counts = rng.poisson(7.0 * found + 0.3).astype(float)
    level = constant_background(found, counts, 0.0)
    assert level == pytest.approx(0.3, abs=4 * np.sqrt(0.3 / 10000))
    # 4e5 counts or so: the root of them is 1.6e-3 of them; the amplitudes' bias at few counts is less
    assert Loss(name).scale(found, counts, np.full(len(found), level)) == pytest.approx(7, rel=0.01)
    assert constant_background(found, rng.poisson(7.0 * found).astype(float), 0.0) < 0.002
    response = rng.choice([0.25, 1.0], len(found))
    seen = rng.poisson(response * (7.0 * found + 0.3)).astype(float)
    assert constant_background(response * found, seen, 0.0, response) == pytest.approx(
        0.3, abs=4 * np.sqrt(0.3 / 0.625 / 10000)
    )


def test_free_pixels_are_no_fitted_ones():
    used = np.random.default_rng(2).random((5, 40, 40)) > 0.1
    fitted, free = fitted_pixels(used, 0.04, 3)
    assert not (fitted & free).any() and ((fitted | free) == used).all()
    assert free.sum() / used.sum() == pytest.approx(0.04, abs=0.01)
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(ScanError, match="free_share"):
            fitted_pixels(used, share, 0)
    with pytest.raises(ScanError, match="no pixel is free"):
        fitted_pixels(used & False, 0.5, 0)


def test_no_such_loss():
    with pytest.raises(ScanError, match="no loss 'gauss'; there are amplitude, poisson"):
        Loss("gauss")
