"""The algebra of tracking by brute force."""

from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.tracking.band import band_of, cutoff_of
from live_bcdi.tracking.fit import Blocks, Knowledge, Look, evidences, knowledge, look, posterior, without_gains

FRAMES, BLOCKS = 24, 40
NOMINAL = np.arange(FRAMES) - 12.0
BAND = band_of(NOMINAL, 0.12)


def series(seed=0):
    random = np.random.default_rng(seed)
    return 10 * random.normal(size=(BAND.terms, BLOCKS)) + 200.0 * (np.arange(BAND.terms) == 0)[:, None]


def blocks_of(counts):
    return Blocks(
        counts=counts,
        used=np.ones(counts.shape, bool),
        variance=np.full(counts.shape, 200.0),
        scale=np.ones(len(counts)),
    )


def chi(counts, theta, gain):
    """Weighted least squares with the model at its best, block by block."""
    values = BAND.values(theta) * gain[:, None]
    rest = counts - values @ np.linalg.lstsq(values, counts, rcond=None)[0]
    return (rest**2).sum() / 200.05


def test_slopes_are_the_derivatives_of_the_terms():
    step = 1e-5
    numerical = (BAND.values(NOMINAL + step) - BAND.values(NOMINAL - step)) / (2 * step)
    np.testing.assert_allclose(BAND.slopes(NOMINAL), numerical, atol=1e-8)


def test_the_slope_is_that_of_the_fit():
    """-1/2 d chi by each angle and gain, by differences. The prior that keeps it solvable is a 1e-4 of it."""
    counts = np.random.default_rng(1).poisson(np.maximum(BAND.values(NOMINAL + 0.1) @ series(), 1)).astype(float)
    seen = look(blocks_of(counts), NOMINAL, np.ones(FRAMES), BAND)
    step, zero, one = 1e-4, np.zeros(FRAMES), np.ones(FRAMES)
    for k in (0, 7, 23):
        move = step * (np.arange(FRAMES) == k)
        by_angle = -(chi(counts, NOMINAL + move, one) - chi(counts, NOMINAL - move, one)) / (4 * step)
        by_gain = -(chi(counts, NOMINAL + zero, one + move) - chi(counts, NOMINAL, one - move)) / (4 * step)
        scale = np.sqrt(np.diag(seen.scatter))
        assert seen.slope[k] == pytest.approx(by_angle, abs=0.02 * scale[k])
        assert seen.slope[FRAMES + k] == pytest.approx(by_gain, abs=0.02 * scale[FRAMES + k])


def test_the_slope_scatters_as_it_says_and_its_mean_follows_the_curvature():
    """600 draws about one truth, with normal noise: the variance of the slope is known to 1 / sqrt(300) = 6 %; and
    where the frames stand a little off, the mean slope is curvature times offset within its scatter."""
    random = np.random.default_rng(2)
    off = 0.05 * random.normal(size=FRAMES)
    slopes, scatter, curvature = [], [], []
    for _ in range(600):
        counts = BAND.values(NOMINAL + off) @ series() + np.sqrt(200.05) * random.normal(size=(FRAMES, BLOCKS))
        seen = look(blocks_of(counts), NOMINAL, np.ones(FRAMES), BAND)
        slopes.append(seen.slope[:FRAMES])
        scatter.append(np.diag(seen.scatter)[:FRAMES])
        curvature.append(seen.curvature[:FRAMES, :FRAMES])
    ratio = np.var(slopes, axis=0) / np.mean(scatter, axis=0)
    assert ratio.mean() == pytest.approx(1, abs=0.06)
    error = np.mean(slopes, axis=0) - np.mean(curvature, axis=0) @ off
    assert np.sqrt(np.mean(error**2 / np.mean(scatter, axis=0))) < 3 / np.sqrt(600) + 0.05


def test_the_posterior_is_bayes():
    """Against the normal densities of data that are the truth plus noise: mean, covariance and evidence."""
    random = np.random.default_rng(3)
    prior = np.cov(random.normal(size=(6, 40)))
    noise = np.diag(random.uniform(0.5, 2, 6))
    data = random.normal(size=6)
    mean, covariance, evidence = posterior(
        Knowledge(precision=np.linalg.inv(noise), vector=np.linalg.solve(noise, data)), prior
    )
    gain = prior @ np.linalg.inv(prior + noise)
    np.testing.assert_allclose(mean, gain @ data)
    np.testing.assert_allclose(covariance, prior - gain @ prior, atol=1e-12)

    def log_density(spread):
        return -0.5 * (np.linalg.slogdet(spread)[1] + data @ np.linalg.solve(spread, data))

    assert evidence == pytest.approx(log_density(prior + noise) - log_density(noise))


def test_the_evidence_of_many_priors_is_that_of_each():
    """Angles and gains that are seen together: by one eigensystem as by the posterior of every prior."""
    random = np.random.default_rng(7)
    half = random.normal(size=(16, 16))
    known = Knowledge(precision=half @ half.T, vector=3 * random.normal(size=16))
    walk, variances = 0.9 ** np.abs(np.subtract.outer(np.arange(8), np.arange(8))), np.array([1e-3, 0.1, 4.0])
    told, alone = without_gains(known, 0.1)

    def brute(variance):
        prior = np.zeros((16, 16))
        prior[:8, :8], prior[8:, 8:] = variance * walk, 0.01 * np.eye(8)
        return posterior(known, prior)[2]

    assert alone == pytest.approx(brute(0.0))
    assert alone + evidences(told, walk, variances) == pytest.approx([brute(each) for each in variances])


def test_frames_are_drawn_with_the_noise_of_what_was_counted():
    """Frames scaled by s to one monitor reading have s times the mean as variance: known to sqrt(2 / 960) = 5 %,
    here to three times that."""
    scale = np.geomspace(0.5, 4.0, FRAMES)
    blocks = replace(blocks_of(np.full((FRAMES, BLOCKS), 200.0)), scale=scale)
    drawn = blocks.drawn(blocks.counts, np.random.default_rng(8))
    assert np.mean((drawn - 200) ** 2 / (200 * scale[:, None])) == pytest.approx(1, abs=0.15)


def test_modes_without_signal_say_nothing():
    """Blocks that are alike in all frames hold no angle at all."""
    flat = np.random.default_rng(4).poisson(200.0, (FRAMES, BLOCKS)).astype(float)
    known = knowledge(look(blocks_of(flat), NOMINAL, np.ones(FRAMES), BAND), np.zeros(2 * FRAMES))
    told = np.trace(known.precision[:FRAMES, :FRAMES])
    strong = BAND.values(NOMINAL) @ series()
    known = knowledge(look(blocks_of(strong), NOMINAL, np.ones(FRAMES), BAND), np.zeros(2 * FRAMES))
    assert told < 0.2 * np.trace(known.precision[:FRAMES, :FRAMES])


@pytest.mark.parametrize("rate", [0.08, 0.12, 0.2])
def test_the_cutoff_follows_the_crystals_extent(rate):
    """Intensity of a slit of that extent, sinc squared, at random phases: no term beyond `rate`."""
    places = np.random.default_rng(5).uniform(20, 44, 60)
    counts = 1e4 * np.sinc(rate * (np.arange(64)[:, None] - places)) ** 2
    found = cutoff_of(np.random.default_rng(6).poisson(counts).astype(float))
    assert 0.6 * rate < found < 1.6 * rate


def test_what_is_lost_in_rounding_says_nothing():
    """A mode in which the scatter is rounding alone, below zero or above it by as much, moves no frame; the others
    do as without it."""
    random = np.random.default_rng(4)
    axes = np.linalg.qr(random.normal(size=(6, 6)))[0]
    sizes, slope = np.array([1e7, 1e5, 1e4, 1e3, 1.0, -1.0]), random.normal(size=6)
    scatter = (axes * sizes) @ axes.T
    seen = Look(slope=slope, scatter=scatter, curvature=scatter, expected=np.zeros((3, 1)))
    known = knowledge(seen, np.zeros(6))
    there = axes[:, :4]
    np.testing.assert_allclose(known.precision, (there * sizes[:4]) @ there.T, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(known.vector, there @ (there.T @ slope), atol=1e-6)
