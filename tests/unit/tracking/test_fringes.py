"""The prior of a series: against dense normal equations, and speckle whose width is known."""

import numpy as np
import pytest

from live_bcdi.tracking.band import Band
from live_bcdi.tracking.fringes import Fringes, fringes_along, fringes_of, smooth_series


def test_a_smooth_series_solves_the_normal_equations_with_its_prior():
    """G A + prior^-1 A = right, the prior's covariance across pixels being a dense matrix made by DFT; beyond the
    lags that are kept (1e-7 of the power) the dense prior lets through a ten-thousandth."""
    random, shape, total = np.random.default_rng(0), (6, 8), 50.0
    band, fringes = Band(order=1, period=20.0), Fringes(angle=0.04, rows=0.12, columns=0.2)
    root = random.normal(size=(9, 3))
    gram, right = root.T @ root / total, random.normal(size=(3, *shape)).astype(np.float32)
    found = smooth_series(gram, right, band, fringes, total)
    rows, columns = np.fft.fftfreq(6), np.fft.fftfreq(8)
    lags = np.exp(-0.5 * ((rows[:, None] / 0.12) ** 2 + (columns / 0.2) ** 2)).ravel()
    waves = np.kron(np.fft.fft(np.eye(6)), np.fft.fft(np.eye(8)))
    for_terms = []
    for rate in (0, 1 / 20, 1 / 20):
        power = 0.5 * total**2 * lags * np.exp(-0.5 * (rate / 0.04) ** 2)
        inverse = (waves.conj().T / power @ waves / len(lags)).real
        for_terms.append(inverse)
    whole = np.kron(gram, np.eye(len(lags)))
    for term, inverse in enumerate(for_terms):
        part = slice(term * len(lags), (term + 1) * len(lags))
        whole[part, part] += inverse
    expected = np.linalg.solve(whole, right.reshape(-1)).reshape(found.shape)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_pixels_each_alone_do_not_reach_one_another():
    right = np.zeros((3, 6, 6), np.float32)
    right[:, 2, 3] = 1
    found = smooth_series(np.eye(3), right, Band(order=1, period=20.0), fringes_along(0.1), 10.0)
    found[:, 2, 3] = 0
    np.testing.assert_allclose(found, 0, atol=1e-6)


@pytest.mark.parametrize("photons", [3e2, 1e4])
def test_the_width_of_speckle_is_found_through_counting_noise(photons):
    """A thousand speckles give the width to 3 %; at 300 photons three parts of four of the power are white noise.
    Fields of Gaussian power of 0.03 and 0.05, in an envelope as a crystal's peak has it."""
    random = np.random.default_rng(1)
    rows, columns = np.fft.fftfreq(50)[:, None], np.fft.fftfreq(50)
    field = np.exp(-0.25 * ((rows / 0.03) ** 2 + (columns / 0.05) ** 2))
    drawn = random.normal(size=(2, 60, 50, 50))
    away = np.add.outer(*(np.arange(-25, 25.0) ** 2,) * 2)
    speckle = np.abs(np.fft.ifft2((drawn[0] + 1j * drawn[1]) * field)) ** 2 * np.exp(-away / 200)
    counts = random.poisson(speckle * photons / speckle.sum(axis=(1, 2), keepdims=True)).astype(float)
    speckle *= 1e9 / speckle.sum(axis=(1, 2), keepdims=True)
    clean, found = fringes_of(speckle, 0.1), fringes_of(counts, 0.1)
    assert found.rows == pytest.approx(clean.rows, rel=0.1)
    assert found.columns == pytest.approx(clean.columns, rel=0.1)
    assert clean.columns > 1.2 * clean.rows
