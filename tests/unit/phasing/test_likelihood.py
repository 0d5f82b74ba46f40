"""The Poisson likelihood, its gradient by finite differences, its minimisation, and the background."""

import numpy as np
import pytest
from scipy import ndimage, stats

from live_bcdi.phasing import kernels_cpu, kernels_numpy, metrics
from live_bcdi.phasing.align import aligned_to
from live_bcdi.phasing.coherence import gaussian
from live_bcdi.phasing.engine import Pattern, Start, retrieve
from live_bcdi.phasing.likelihood import (
    FLOOR_COUNTS,
    Counts,
    background,
    conjugate_gradients,
    gradient,
    standard_error,
)
from live_bcdi.phasing.model import Model, Models, batched
from live_bcdi.phasing.recipe import parse
from live_bcdi.types import ScanError

N = 8


class Double(kernels_numpy.Kernels):
    """The readable kernels in double precision."""

    def __init__(self, amplitude, threads=1):
        super().__init__(amplitude.astype(np.float64), threads)

    def empty(self, starts):
        return np.zeros((starts, N, N, N), complex)


def problem(model):
    """Objects of two starts, kernels in double precision with a tenth of the voxels free, and their models."""
    rng = np.random.default_rng(4)
    density = rng.standard_normal((2, N, N, N)) + 1j * rng.standard_normal((2, N, N, N))
    amplitude = np.sqrt(rng.poisson(1000 * rng.random((N, N, N)) ** 4))
    amplitude[rng.random((N, N, N)) < 0.1] = -1
    kernels = Double(amplitude)
    return kernels, density, batched(kernels, [model, model])


def scaled(known):
    """The known object at the counts of the known pattern."""
    return known.density * np.float32(np.sqrt(1e7 / known.density.size / np.count_nonzero(known.density)))


def misfit(kernels, models, density):
    transform = np.fft.fftn(density, axes=(1, 2, 3))
    return Counts.of(kernels).misfit(models.expected(kernels, transform))


MODELS = {
    "plain": Model(),
    "background": Model(background=3.0),
    "coherence": Model(coherence=gaussian((1, 2, 1), 0.7)),
    "both": Model(coherence=gaussian((1, 1, 2), 0.6), background=0.5),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_gradient_is_that_of_finite_differences(model):
    """Central differences in random directions; an error of a sign or a factor is of order 1. A step of 1e-5
    leaves 1e-10 of curvature and 1e-11 of rounding."""
    kernels, density, models = problem(model)
    transform = np.fft.fftn(density, axes=(1, 2, 3))
    found = gradient(kernels, models, Counts.of(kernels), transform, models.expected(kernels, transform))
    rng = np.random.default_rng(5)
    for _ in range(5):
        way = rng.standard_normal(density.shape) + 1j * rng.standard_normal(density.shape)
        step = 1e-5
        rise = misfit(kernels, models, density + step * way) - misfit(kernels, models, density - step * way)
        slope = N**3 * np.sum((way.conj() * found).real, axis=(1, 2, 3))
        np.testing.assert_allclose(rise / (2 * step), slope, rtol=1e-6)


def test_the_misfit_is_minus_the_log_likelihood():
    """But for a constant of the data: that of c = I (+ the floor)."""
    kernels, density, models = problem(Model(background=2.0))
    counts = Counts.of(kernels)
    expected = models.expected(kernels, np.fft.fftn(density, axes=(1, 2, 3)))
    use = counts.used
    values = np.rint(counts.values[use])
    exact = -stats.poisson.logpmf(values, expected[:, use] + FLOOR_COUNTS).sum(axis=1)
    constant = -np.where(values > 0, stats.poisson.logpmf(values, np.maximum(values, 1)), 0).sum()
    np.testing.assert_allclose(counts.misfit(expected), exact - constant, rtol=1e-9)


def test_the_misfit_is_half_the_deviance_of_the_metrics(known):
    pattern = Pattern(intensity=known.intensity, mask=known.intensity == 5)
    kernels = kernels_cpu.Kernels(pattern.amplitude())
    modulus = np.abs(np.fft.fftshift(np.fft.fftn(known.density))).astype(np.float32)
    deviance = metrics.poisson_deviance(modulus, pattern.intensity, ~pattern.mask)
    counts = Counts.of(kernels)
    found = counts.misfit(np.fft.ifftshift(modulus)[None] ** 2)
    assert 2 * found[0] / counts.used.sum() == pytest.approx(deviance, rel=1e-5)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_no_step_raises_the_misfit(model):
    kernels, density, models = problem(model)
    support = np.random.default_rng(6).random(density.shape) < 0.2
    before = density.copy()
    values = [misfit(kernels, models, density * support)]
    for _ in range(12):
        models, _ = conjugate_gradients(kernels, models, density, support, iterations=3)
        values.append(misfit(kernels, models, density))
    assert (np.diff(values, axis=0) <= 1e-9 * values[0]).all()
    assert (values[-1] < 0.75 * values[0]).all()
    assert not density[~support].any()
    assert np.abs(density - before * support).max() > 0.1


def test_conjugate_gradients_are_faster_than_steepest_descent():
    kernels, density, models = problem(Model(background=3.0))
    support = np.random.default_rng(6).random(density.shape) < 0.2
    together, alone = density.copy(), density.copy()
    conjugate_gradients(kernels, models, together, support, iterations=15)
    for _ in range(15):
        conjugate_gradients(kernels, models, alone, support, iterations=1)
    assert (misfit(kernels, models, together) < misfit(kernels, models, alone)).all()


@pytest.mark.parametrize("model", [Model(), Model(coherence=gaussian((2, 2, 2), 0.6), background=0.5)])
def test_numpy_and_cpu_agree(known, model):
    """The path, while rounding has not yet grown: ten iterations."""
    pattern = Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))
    start = Start(initial=scaled(known), support=known.support, model=model)
    ends = [
        retrieve(pattern, parse("ML(iterations=10)"), start=start, threads=threads, kernels=kernels)
        for kernels, threads in ((kernels_numpy.Kernels, 1), (kernels_cpu.Kernels, 1), (kernels_cpu.Kernels, 3))
    ]
    largest = np.abs(ends[0].density).max()
    np.testing.assert_allclose(ends[1].density, ends[0].density, atol=1e-4 * largest)
    np.testing.assert_allclose(ends[1].errors, ends[0].errors, rtol=1e-3)
    np.testing.assert_array_equal(ends[2].density, ends[1].density)
    assert len(ends[0].errors) == 10


def test_what_was_measured_at_the_truth_is_not_left_far(known):
    """At the truth the misfit can fall by half a count for each parameter (Wilks), and does not fall by much more:
    what is fitted is noise."""
    power = np.abs(np.fft.fftn(known.density)) ** 2
    scale = 1e7 / power.sum()
    pattern = Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))
    kernels = kernels_cpu.Kernels(pattern.amplitude())
    density = kernels.empty(1)
    density[0] = scaled(known)
    counts, truth = Counts.of(kernels), power[None] * scale
    conjugate_gradients(kernels, Models(), density, known.support[None], iterations=60)
    transform = kernels.empty(1)
    kernels.transform(density, transform)
    fall = counts.misfit(truth) - counts.misfit(np.abs(transform) ** 2)
    parameters = 2 * np.count_nonzero(known.support)
    assert 0.8 * parameters / 2 < fall[0] < 1.6 * parameters / 2


def test_the_background_comes_back_within_its_poisson_error(known):
    """From the right object; three standard errors of a count in the dark voxels, and the error is that of the
    scatter over seeds (20 of them: known to 16 %)."""
    power = np.fft.fftshift(np.abs(np.fft.fftn(known.density)) ** 2) * 1e-3
    mask = np.zeros(power.shape, bool)
    mask[4:9, :, 20:] = True
    found = []
    for seed in range(20):
        counted = np.random.default_rng(seed).poisson(power + 0.3).astype(float)
        pattern = Pattern(intensity=np.where(mask, 50, counted), mask=mask)
        counts = Counts.of(kernels_numpy.Kernels(pattern.amplitude()))
        found.append(background(counts, np.fft.ifftshift(power)[None])[0])
    error = standard_error(counts, np.fft.ifftshift(power)[None] + 0.3)[0]
    assert error < 0.01
    np.testing.assert_allclose(found, 0.3, atol=3.5 * error)
    assert np.std(found) == pytest.approx(error, rel=0.5)
    assert abs(np.mean(found) - 0.3) < 3 * error / np.sqrt(20)


def test_where_there_is_no_background_none_is_found(known):
    """Half of all seeds have fewer counts than expected in the dark: those give exactly 0, the others an error's
    worth."""
    power = np.fft.fftshift(np.abs(np.fft.fftn(known.density)) ** 2) * 1e-3
    found = []
    for seed in range(10):
        counted = np.random.default_rng(seed).poisson(power).astype(float)
        pattern = Pattern(intensity=counted, mask=np.zeros(power.shape, bool))
        counts = Counts.of(kernels_numpy.Kernels(pattern.amplitude()))
        found.append(background(counts, np.fft.ifftshift(power)[None])[0])
    assert max(found) < 0.01
    assert min(found) == 0


def test_the_background_is_where_the_likelihood_is_highest(known):
    """Against a search in steps of 1 %."""
    power = np.fft.ifftshift(np.abs(np.fft.fftshift(np.fft.fftn(known.density))) ** 2)[None] * 1e-3
    counted = np.random.default_rng(0).poisson(np.fft.fftshift(power[0]) + 2.0).astype(float)
    counts = Counts.of(kernels_numpy.Kernels(Pattern(intensity=counted, mask=counted < -1).amplitude()))
    levels = np.arange(1.5, 2.5, 0.02)
    best = levels[np.argmin([counts.misfit(power + level)[0] for level in levels])]
    # the floor of the misfit is part of its background
    assert background(counts, power)[0] == pytest.approx(best + FLOOR_COUNTS, abs=0.02)


def test_a_noisy_scan_ends_nearer_to_the_truth_than_by_error_reduction(known):
    """1e6 photons on a background of one count a voxel, outside the middle most of what is counted: ER gives
    the noise to the object. Three seeds; phase in the crystal, from the truth on in its own support."""
    power = np.abs(np.fft.fftn(known.density)) ** 2
    scale = 1e6 / power.sum()
    start = Start(initial=known.density * np.float32(np.sqrt(scale)), support=known.support)
    for seed in range(3):
        counted = np.random.default_rng(seed).poisson(np.fft.fftshift(power) * scale + 1.0).astype(float)
        pattern = Pattern(intensity=counted, mask=np.zeros(counted.shape, bool))
        alone = retrieve(pattern, parse("70*ER"), start=start)
        finished = retrieve(pattern, parse("20*ER + Background + ML(iterations=50)"), start=start)
        within = known.support
        assert spread(known, finished.density, within) < 0.75 * spread(known, alone.density, within)
        # what the object takes up of the background in so loose a support (1 in 20 parameters a voxel) is missing
        assert 0.7 < finished.model.background < 1.02


def test_without_a_background_it_lets_more_noise_in(known):
    """What docs/explanation.md says against it: 1e5 photons, both from the truth on in its own support. ER draws
    |F| of weak voxels down, sqrt(I) being below the root of the mean on average, and damps noise with the signal.
    """
    power = np.abs(np.fft.fftn(known.density)) ** 2
    scale = 1e5 / power.sum()
    start = Start(initial=known.density * np.float32(np.sqrt(scale)), support=known.support)
    inner = ndimage.binary_erosion(known.support)
    for seed in range(3):
        counted = np.random.default_rng(seed).poisson(np.fft.fftshift(power) * scale).astype(float)
        pattern = Pattern(intensity=counted, mask=np.zeros(counted.shape, bool))
        alone = retrieve(pattern, parse("70*ER"), start=start).density
        finished = retrieve(pattern, parse("20*ER + ML(iterations=50)"), start=start).density
        assert spread(known, finished, inner) > 1.2 * spread(known, alone, inner)
        assert likeness(known, finished) > likeness(known, alone)


def spread(known, density, where):
    difference = (density * known.density.conj())[where]
    return float(np.sqrt(np.mean(np.angle(difference * np.exp(-1j * np.angle(difference.sum()))) ** 2)))


def likeness(known, density):
    return abs(np.vdot(known.density, density)) / np.linalg.norm(known.density) / np.linalg.norm(density)


def test_a_background_is_fitted_on_with_the_object():
    """From a wrong one, to where it is the best one for the object that came out."""
    kernels, density, models = problem(Model(background=40.0))
    support = np.random.default_rng(6).random(density.shape) < 0.2
    fitted, _ = conjugate_gradients(kernels, models, density, support, iterations=40)
    transform = np.fft.fftn(density, axes=(1, 2, 3))
    best = background(Counts.of(kernels), np.abs(transform) ** 2 + FLOOR_COUNTS)
    assert (np.abs(fitted.background / 40 - 1) > 0.1).all()
    np.testing.assert_allclose(fitted.background, best, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("wrong", ["ML(iterations=0)", "ML(iterations=1.5)"])
def test_wrong_arguments_are_said(wrong):
    with pytest.raises(ScanError, match="ML needs a whole number"):
        parse(wrong)


def test_a_shrinkwrap_after_it_sees_its_object(known):
    pattern = Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))
    start = Start(initial=scaled(known), support=known.support)
    found = retrieve(pattern, parse("ML(iterations=5) + ShrinkWrap(threshold=0.4)"), start=start)
    assert 0.8 < found.support.sum() / known.support.sum() < 1.3
    assert likeness(known, aligned_to(known.density, found.density)) > 0.99
