"""Agreement of starts that are made to agree to a known degree."""

import numpy as np
import pytest

from live_bcdi.phasing import metrics
from live_bcdi.phasing.agreement import (
    consensus,
    half_bit,
    halves,
    modes,
    shell_correlation,
    support_stability,
    uncertainty,
)
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


@pytest.fixture(scope="module")
def starts(known):
    return [
        np.exp(0.1j * k) * (known.density + noisy(known.density.shape, 0.02 * (k + 1), k)).astype(np.complex64)
        for k in range(5)
    ]


def test_modes_are_those_of_the_whole_matrix(starts):
    """numpy's own singular value decomposition of all starts at once."""
    matrix = np.stack([each.ravel() for each in starts]).astype(np.complex128)
    values, rows = np.linalg.svd(matrix, full_matrices=False)[1:]
    found = modes(starts, 5)
    np.testing.assert_allclose(found.weights, values**2 / np.sum(values**2), rtol=1e-5)
    for mode, value, row in zip(found.objects, values, rows):
        expected = row.reshape(mode.shape) * value / np.sqrt(5)
        turn = np.vdot(expected, mode)
        # sums of five complex64; the weakest mode is 1e-2 of them
        np.testing.assert_allclose(mode, expected * turn / abs(turn), atol=1e-5)
        assert abs(np.angle(np.vdot(starts[0], mode))) < 1e-3
    power = np.sum(np.abs(found.objects.astype(complex)) ** 2, axis=0)
    np.testing.assert_allclose(power, np.mean(np.abs(matrix) ** 2, axis=0).reshape(power.shape), atol=1e-4)


def test_the_first_mode_of_one_object_is_that_object(known):
    found = modes([known.density] * 3)
    np.testing.assert_allclose(found.objects[0], known.density, atol=1e-6)
    np.testing.assert_allclose(found.weights, [1, 0, 0], atol=1e-6)


@pytest.mark.parametrize("count", [0, 3])
def test_no_more_modes_than_starts(known, count):
    with pytest.raises(ScanError, match="1 to 2 modes"):
        modes([known.density] * 2, count)


def test_consensus_is_all_of_it_at_once(known, starts):
    """The parts, each by its own function and with a transform of every start."""
    mask = np.random.default_rng(0).random(known.intensity.shape) < 0.1
    steps = np.array([[1.0, 0.5, 0.0], [0.0, 0.8, 0.1], [0.0, 0.0, 1.1]]) * 1e-3
    agreement, resolution = consensus(starts, known.intensity, mask, steps)
    transforms = [metrics.centred_transform(each) for each in starts]
    index = np.stack(np.indices(mask.shape) - 16, axis=-1)
    shell = np.rint(np.linalg.norm(index @ steps.T, axis=-1) / np.linalg.norm(steps, axis=0).max()).astype(int)
    mean = np.abs(np.mean(transforms, axis=0))
    for k, prtf in zip(range(8), resolution.prtf):
        use = (shell == k) & ~mask
        assert prtf == pytest.approx(mean[use].sum() / np.sqrt(known.intensity[use]).sum(), rel=1e-4)
    even, odd = np.mean(transforms[::2], axis=0), np.mean(transforms[1::2], axis=0)
    for k in range(8):
        f, g = even[shell == k], odd[shell == k]
        expected = abs(np.vdot(f, g)) / np.linalg.norm(f) / np.linalg.norm(g)
        assert agreement.correlation.correlation[k] == pytest.approx(expected, rel=1e-4)
    spread = uncertainty(starts)
    np.testing.assert_array_equal(agreement.amplitude_std, spread.amplitude)
    np.testing.assert_array_equal(agreement.phase_std_rad, spread.phase_rad)
    assert agreement.weights[0] == pytest.approx(metrics.first_mode(starts))
    np.testing.assert_array_equal(agreement.mode, modes(starts).objects[0])


def test_consensus_without_a_geometry_or_of_one_start(known, starts):
    mask = np.zeros(known.intensity.shape, bool)
    agreement, resolution = consensus(starts, known.intensity, mask, None)
    assert agreement.correlation is None and resolution is None
    agreement, resolution = consensus(starts[:1], known.intensity, mask, STEPS)
    assert agreement is None
    expected = metrics.transfer_function(starts[:1], known.intensity, mask, STEPS)
    np.testing.assert_allclose(resolution.prtf, expected.prtf, rtol=1e-5)
    assert np.isnan(resolution.resolution_nm) and np.isnan(resolution.half_nm)
