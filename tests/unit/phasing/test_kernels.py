"""The fused kernels against the readable ones, and those against a brute-force transform."""

import numpy as np
import pytest

from live_bcdi.phasing import kernels_cpu, kernels_numpy
from live_bcdi.phasing.kernels_numpy import Bands, Mix

# Even, odd, prime lengths; planes that are not a multiple of the SIMD alignment, alone and two by two; lines that
# are no multiple of a tile.
SHAPES = [(8, 8, 8), (5, 6, 7), (5, 7, 9), (8, 5, 9), (16, 20, 23), (12, 16, 10)]
# complex64 has 6e-8 of relative rounding; a transform of N values adds about log2(N) of them.
TOLERANCE = 2e-6


@pytest.fixture(autouse=True, params=[kernels_cpu._PIECE, 2048], ids=["one piece", "many pieces"])
def piece(request, monkeypatch):
    """Arrays as small as these are one piece; so they are also cut as large ones are, the last piece a part."""
    monkeypatch.setattr(kernels_cpu, "_PIECE", request.param)


def problem(shape, seed=0):
    """Objects and supports of two starts, and the amplitude that is theirs both."""
    rng = np.random.default_rng(seed)
    starts = (2, *shape)
    density = (rng.standard_normal(starts) + 1j * rng.standard_normal(starts)).astype(np.complex64)
    amplitude = (10 * rng.random(shape)).astype(np.float32)
    amplitude[rng.random(shape) < 0.1] = -1
    amplitude[rng.random(shape) < 0.1] = 0
    return density, amplitude, rng.random(starts) < 0.3


def brute_force_projection(density, amplitude):
    """P by the definition: A(q) = sum S(r) exp(-2 pi i k r / n), summed term by term."""
    shape = density.shape
    index = [np.arange(n) - n // 2 for n in shape]  # centred frequencies
    waves = [np.exp(-2j * np.pi * np.outer(k, np.arange(n)) / n) for k, n in zip(index, shape)]
    transform = np.einsum("xyz,ax,by,cz->abc", density.astype(complex), *waves, optimize=True)
    measured = amplitude >= 0
    error = np.sum((np.abs(transform) - amplitude)[measured] ** 2)
    transform = np.where(measured, amplitude * np.exp(1j * np.angle(transform)), transform)
    back = np.einsum("abc,ax,by,cz->xyz", transform, *map(np.conj, waves), optimize=True)
    return back / density.size, error


@pytest.mark.parametrize("module", [kernels_numpy, kernels_cpu])
def test_projection_is_the_brute_force_one(module):
    density, amplitude, _ = problem((8, 8, 8))
    kernels = module.Kernels(amplitude)
    out = kernels.empty(2)
    error = kernels.project(density, out)
    for k, start in enumerate(density):
        expected, expected_error = brute_force_projection(start, amplitude)
        np.testing.assert_allclose(out[k], expected, atol=TOLERANCE * np.abs(expected).max())
        assert error[k] == pytest.approx(expected_error, rel=1e-5)


@pytest.mark.parametrize("module", [kernels_numpy, kernels_cpu])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_transforms_are_fourier_sums_and_their_inverse(module, shape, threads):
    density, amplitude, _ = problem(shape)
    kernels = module.Kernels(amplitude, threads)
    mine, transform, back = (kernels.empty(2) for _ in range(3))
    mine[...] = density
    kernels.transform(mine, transform)
    expected = np.fft.fftn(density.astype(complex), axes=(1, 2, 3))
    np.testing.assert_allclose(transform, expected, atol=TOLERANCE * np.abs(expected).max())
    kernels.inverse(transform, back)
    np.testing.assert_allclose(back, density, atol=TOLERANCE * np.abs(density).max())
    np.testing.assert_allclose(transform, expected, atol=TOLERANCE * np.abs(expected).max())
    kernels.transform(mine, mine)
    np.testing.assert_array_equal(mine, transform)
    kernels.inverse(mine, mine)
    np.testing.assert_array_equal(mine, back)


@pytest.mark.parametrize("module", [kernels_numpy, kernels_cpu])
def test_the_moduli_are_those_that_a_projection_gives(module):
    density, amplitude, _ = problem((5, 6, 7))
    kernels = module.Kernels(amplitude)
    out, transform = kernels.empty(2), kernels.empty(2)
    for width in (None, 0.5, None):
        kernels.taper(width)
        kernels.project(density, out)
        kernels.transform(out, transform)
        measured = kernels.moduli() >= 0
        np.testing.assert_array_equal(measured, np.fft.ifftshift(amplitude) >= 0)
        np.testing.assert_allclose(np.abs(transform[1])[measured], kernels.moduli()[measured], atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_fused_kernels_equal_the_readable_ones(shape):
    density, amplitude, support = problem(shape)
    results = []
    for module in (kernels_numpy, kernels_cpu):
        kernels = module.Kernels(amplitude)
        mixed, projected = kernels.empty(2), kernels.empty(2)
        mixed[...] = density
        error = kernels.project(mixed, projected)
        kernels.mix(mixed, projected, support, Mix(0.9, 0.1, -0.8, 1.1))
        results.append((projected, mixed, kernels.smooth(mixed, 1.3), error))
    for readable, fused in zip(*results):
        np.testing.assert_allclose(fused, readable, atol=TOLERANCE * np.max(np.abs(readable)), rtol=1e-5)


def banded(kernels, density, projected, support):
    kernels.mix_bands(density, projected, support, Bands(0.6, 0.1, -1.5, 0.9))


def clipped(kernels, density, projected, support):
    kernels.clip_phase(density, support, np.array([0.7, -0.2]), 1.1)


def real(kernels, density, projected, support):
    kernels.clip_phase(density, support, kernels.mean_phase(density, support), 0.0)


def ramped(kernels, density, projected, support):
    kernels.taper(0.5)
    kernels.project(projected, density)


def ramp_taken_off(kernels, density, projected, support):
    kernels.taper(0.5)
    kernels.taper(None)
    kernels.project(projected, density)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("change", [banded, clipped, real, ramped, ramp_taken_off])
def test_fused_updates_equal_the_readable_ones(shape, change):
    density, amplitude, support = problem(shape)
    projected = problem(shape, seed=1)[0]
    results = []
    for module, threads in ((kernels_numpy, 1), (kernels_cpu, 1), (kernels_cpu, 3)):
        mine = density.copy()
        change(module.Kernels(amplitude, threads), mine, projected.copy(), support)
        results.append(mine)
    assert not np.array_equal(results[0], density)
    np.testing.assert_allclose(results[1], results[0], atol=TOLERANCE * np.abs(results[0]).max(), rtol=1e-5)
    np.testing.assert_array_equal(results[2], results[1])


@pytest.mark.parametrize("module", [kernels_numpy, kernels_cpu])
def test_a_taper_multiplies_the_measured_moduli_by_a_gaussian(module):
    density, amplitude, _ = problem((8, 8, 8))
    kernels = module.Kernels(amplitude)
    kernels.taper(0.5)
    out = kernels.empty(2)
    kernels.project(density, out)
    k = np.stack(np.indices((8, 8, 8)) - 4) / 4  # Nyquist is 4 steps out
    under = np.where(amplitude < 0, -1, amplitude * np.exp(-np.sum(k**2, axis=0) / 2 / 0.5**2))
    expected, _ = brute_force_projection(density[1], under)
    np.testing.assert_allclose(out[1], expected, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_any_number_of_threads_gives_the_same_bits(shape):
    density, amplitude, support = problem(shape)
    results = []
    for threads in (1, 2, 3):
        kernels = kernels_cpu.Kernels(amplitude, threads)
        mixed, projected = kernels.empty(2), kernels.empty(2)
        mixed[...] = density
        errors = []
        for _ in range(3):
            errors.append(kernels.project(mixed, projected).tolist())
            kernels.mix(mixed, projected, support, Mix(1, 0, -0.9, 1))
        results.append((mixed.tobytes(), projected.tobytes(), kernels.smooth(mixed, 1).tobytes(), errors))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("module", [kernels_numpy, kernels_cpu])
def test_a_zero_transform_takes_the_measured_modulus(module):
    _, amplitude, _ = problem((8, 8, 8))
    kernels = module.Kernels(np.abs(amplitude))
    zero, out = kernels.empty(2), kernels.empty(2)
    kernels.project(zero, out)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(
        np.abs(np.fft.fftshift(np.fft.fftn(out[0]))), np.abs(amplitude), atol=TOLERANCE * 10 * amplitude.max()
    )


@pytest.mark.parametrize("module", [kernels_numpy, kernels_cpu])
def test_a_nan_shows_in_its_own_starts_error(module):
    density, amplitude, _ = problem((8, 8, 8))
    density[1, 1, 2, 3] = np.nan
    kernels = module.Kernels(amplitude)
    np.testing.assert_array_equal(np.isfinite(kernels.project(density, kernels.empty(2))), [True, False])


@pytest.mark.parametrize("module", [kernels_numpy, kernels_cpu])
def test_the_last_support_is_kept_rather_than_none_or_all(module):
    kernels = module.Kernels(np.ones((10, 10, 10), np.float32))
    previous = np.zeros((3, 10, 10, 10), bool)
    previous[:, 4:6] = True
    smoothed = np.where(previous, np.float32(1), np.float32(0.2))
    smoothed[2, 0] = 0.5
    support = previous.copy()
    kernels.tighten(smoothed, np.array([0.1, 1.5, 0.4], np.float32), support)
    np.testing.assert_array_equal(support[:2], previous[:2])
    np.testing.assert_array_equal(support[2], smoothed[2] > 0.4)
