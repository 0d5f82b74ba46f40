"""Unpolarised light against its two polarisations, each by itself, and against differences."""

import numpy as np
import pytest

from live_bcdi.dynamical import Characteristics, Unpolarised, along_diffracted
from live_bcdi.dynamical.detector import FarField

WAVELENGTH, TWO_THETA = 1.55e-10, 0.78
EDGES = np.array([2e-8, 2e-8, 2e-8 / np.tan(TWO_THETA)])
CHI = {"chi_0": 20 * (-9.4e-5 + 0.9e-5j), "chi_h": 20 * (5.2e-5 - 0.6e-5j), "chi_hbar": 20 * (5.1e-5 + 0.5e-5j)}


def two():
    sigma = along_diffracted(WAVELENGTH, TWO_THETA, **CHI)
    weaker = CHI | {name: np.cos(TWO_THETA) * CHI[name] for name in ("chi_h", "chi_hbar")}
    return sigma, along_diffracted(WAVELENGTH, TWO_THETA, **weaker)


def problem():
    rng = np.random.default_rng(0)
    density = rng.normal(size=(9, 4, 7)) + 1j * rng.normal(size=(9, 4, 7))
    return density, rng.random(density.shape), two()[0].turned([-1e-3, 4e-4])


def test_the_other_polarisation_is_weaker_by_cos_two_theta():
    sigma, pi = two()
    assert sigma.in_plane().chi_h == pytest.approx(pi.chi_h, rel=1e-12)
    assert sigma.in_plane().chi_hbar == pytest.approx(pi.chi_hbar, rel=1e-12)
    assert (sigma.in_plane().chi_0, sigma.in_plane().k0) == (pi.chi_0, pi.k0)


def test_intensities_are_the_mean_and_not_that_of_the_mean_wave():
    given, momenta = problem(), 1e8 * np.random.default_rng(1).normal(size=(5, 6, 2, 2))
    sigma, pi = (Characteristics(beams, EDGES) for beams in two())
    both, far = Unpolarised(sigma, pi).march(*given), FarField(momenta, EDGES)
    apart = [far.intensities(each.march(*given).eh) for each in (sigma, pi)]
    np.testing.assert_allclose(far.intensities(both.eh), np.mean(apart, axis=0), rtol=1e-9)
    np.testing.assert_array_equal(both.e0[:, 1], pi.march(*given).e0)
    assert np.abs(apart[0] / apart[1] - 1).max() > 0.5


def test_the_gradient_by_differences():
    density, s0, turns = problem()
    rng = np.random.default_rng(2)
    far = FarField(1e8 * rng.normal(size=(5, 6, 2, 2)), EDGES)
    both = Unpolarised(*(Characteristics(beams, EDGES) for beams in two()))
    by = rng.normal(size=(2, 5, 6))

    def value(*given):
        return np.sum(by * far.intensities(both.march(*given).eh))

    passage = both.march(density, s0, turns)
    found = passage.pull_back(None, far.pull_back(passage.eh, by))
    along = rng.normal(size=density.shape) + 1j * rng.normal(size=density.shape), rng.normal(size=s0.shape)
    steps = *(1e-5 * each for each in along), 10 * rng.normal(size=turns.shape)
    for k, gradient in enumerate((found.density, found.s0, found.delta_q)):
        up, down = (value(*(g + sign * (n == k) * s for n, (g, s) in enumerate(zip((density, s0, turns), steps))))
                    for sign in (1, -1))  # fmt: skip
        assert 2 * np.sum((np.conj(gradient) * steps[k]).real) == pytest.approx(up - down, rel=1e-5)
