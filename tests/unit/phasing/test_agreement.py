"""Agreement of starts that are made to agree to a known degree."""

import numpy as np
import pytest

from live_bcdi.phasing.agreement import half_bit, halves, shell_correlation, support_stability, uncertainty
from live_bcdi.types import ScanError

STEPS = np.diag([1e-3, 1e-3, 1e-3])


def noisy(shape, noise, seed):
    rng = np.random.default_rng(seed)
    return (noise * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)).astype(
        np.complex64
    )


def test_equal_halves_correlate_to_the_edge(known):
    found = shell_correlation(known.density, 1j * known.density, STEPS)
    np.testing.assert_allclose(found.correlation, 1, atol=1e-4)
    limit = 2 * np.pi / 28e-3 / 10  # the corner of 32 voxels is 16 sqrt(3) steps out
    assert found.resolution_nm == {name: pytest.approx(limit) for name in ("0.5", "1/7", "half-bit")}


def test_white_signal_in_white_noise_has_the_known_correlation():
    """|S|^2 / (|S|^2 + noise^2) in the mean, at every q."""
    shape, noise = (32, 32, 32), 1.5
    signal = noisy(shape, 1.0, 0)
    found = shell_correlation(signal + noisy(shape, noise, 1), signal + noisy(shape, noise, 2), STEPS)
    expected = 1 / (1 + noise**2)
    # shells 5 to 21 hold over 300 voxels: a correlation scatters by at most 1 / sqrt(300)
    full = slice(5, 22)
    np.testing.assert_allclose(found.correlation[full], expected, atol=4 / np.sqrt(300))
    assert abs(found.correlation[full].mean() - expected) < 0.03


def test_the_resolution_is_where_the_halves_part(known):
    """Independent phases from 8 voxels on: all three thresholds are crossed between shells 7 and 9."""
    transform = np.fft.fftn(known.density)
    k = np.fft.fftfreq(32, 1 / 32)
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    rng = np.random.default_rng(0)
    starts = [
        np.fft.ifftn(transform * np.where(radius < 8, 1, np.exp(2j * np.pi * rng.random(radius.shape))))
        for _ in range(2)
    ]
    found = shell_correlation(starts[0].astype(np.complex64), starts[1].astype(np.complex64), STEPS)
    for name in ("0.5", "1/7", "half-bit"):
        assert found.resolution_nm[name] == pytest.approx(2 * np.pi / 8e-3 / 10, rel=0.13)


def test_shells_are_those_of_sheared_axes(known):
    """A corner (k, k, k) of axes at 60 degrees and one across is at k sqrt(4) steps, one of right angles at
    k sqrt(3)."""
    steps = np.array([[1.0, 0.5, 0.0], [0.0, np.sqrt(0.75), 0.0], [0.0, 0.0, 1.0]]) * 1e-3
    found = shell_correlation(known.density, known.density, steps)
    assert found.q_invA[-1] == pytest.approx(32e-3)
    assert found.voxels.sum() == 32**3


def test_half_bit_falls_to_its_limit():
    # van Heel & Schatz (2005): 0.2071 / 1.2071 for very many voxels; at few, nothing can be told
    assert half_bit(np.array([10**12]))[0] == pytest.approx(0.2071 / 1.2071, rel=1e-4)
    assert half_bit(np.array([1]))[0] == pytest.approx(1)
    assert (np.diff(half_bit(np.arange(1, 1000))) <= 0).all()


def test_halves_share_no_start(known):
    starts = [np.full((2, 2, 2), value, np.complex64) for value in (1, 10, 3, 20, 5)]
    first, second = halves(starts)
    assert (first == 3).all() and (second == 15).all()


def test_stability_of_known_overlaps():
    boxes = []
    for start in (0, 0, 2):
        boxes.append(np.zeros((12, 4, 4), np.complex64))
        boxes[-1][start : start + 6] = 1
    # pairs: 1, and twice 4 planes of 8
    assert support_stability(boxes) == pytest.approx((1 + 0.5 + 0.5) / 3)


def test_uncertainty_is_that_of_the_noise_put_in(known):
    """Noise of standard deviation s on amplitude 1: s of amplitude, s rad of phase. Scale and phase of a start
    do not count."""
    noise = 0.05
    starts = [
        (k + 1) * np.exp(1j * k) * (known.density + np.sqrt(2) * noisy(known.density.shape, noise, k))
        for k in range(12)
    ]
    found = uncertainty([each.astype(np.complex64) for each in starts])
    # 12 starts scatter by 1 / sqrt(22) each; over 800 voxels the mean of the variance is right to a few per cent
    for values in (found.amplitude, found.phase_rad):
        inside = values[known.support].astype(float)
        assert np.sqrt(np.mean(inside**2)) == pytest.approx(noise, rel=0.06)
    assert np.isnan(uncertainty([known.density] * 2).phase_rad[~known.support]).all()


@pytest.mark.parametrize("measure", [halves, support_stability, uncertainty])
def test_one_start_agrees_with_no_one(known, measure):
    with pytest.raises(ScanError, match="at least two starts"):
        measure([known.density])
