"""The expected counts, by brute force, and the projection onto them by every kernel."""

import numpy as np
import pytest

from live_bcdi.phasing import kernels_cpu, kernels_numpy
from live_bcdi.phasing.coherence import gaussian
from live_bcdi.phasing.engine import Pattern, Start, retrieve, retrieve_all
from live_bcdi.phasing.model import Model, Models, batched
from live_bcdi.phasing.operators import DM, HIO
from live_bcdi.phasing.recipe import parse
from live_bcdi.phasing.state import State
from live_bcdi.types import ScanError

SHAPE = (8, 9, 10)
# Two transforms and a root more than the plain projection of test_kernels.py, whose tolerance is 2e-6.
TOLERANCE = 6e-6


def kernel(seed=0):
    """A symmetric gamma that is no Gaussian, (3, 5, 3), of sum 1."""
    values = np.random.default_rng(seed).random((3, 5, 3))
    values += np.flip(values)
    return values / values.sum()


def convolved(power, gamma):
    """(gamma * power)(q) = sum over k of gamma(k) power(q - k), term by term, periodic."""
    total = np.zeros_like(power)
    for index in np.ndindex(gamma.shape):
        shift = [i - n // 2 for i, n in zip(index, gamma.shape)]
        total += gamma[index] * np.roll(power, shift, axis=(0, 1, 2))
    return total


def problem():
    rng = np.random.default_rng(1)
    starts = (2, *SHAPE)
    density = (rng.standard_normal(starts) + 1j * rng.standard_normal(starts)).astype(np.complex64)
    amplitude = (30 * rng.random(SHAPE)).astype(np.float32)
    amplitude[rng.random(SHAPE) < 0.1] = -1
    return density, amplitude


MODELS = [Model(coherence=kernel(), background=3.5), Model(coherence=kernel(1), background=0.25)]


def brute_force(density, amplitude, model):
    """Clark's projection by its definition, and its misfit."""
    transform = np.fft.fftshift(np.fft.fftn(density.astype(complex)))
    expected = convolved(np.abs(transform) ** 2, model.coherence) + model.background
    measured = amplitude >= 0
    misfit = np.sum((np.sqrt(expected) - amplitude)[measured] ** 2)
    transform[measured] *= (amplitude / np.sqrt(expected))[measured]
    return np.fft.ifftn(np.fft.ifftshift(transform)), misfit


def test_expected_counts_are_the_blurred_pattern_and_the_background():
    power = np.random.default_rng(2).random(SHAPE)
    np.testing.assert_allclose(MODELS[0].expected(power), convolved(power, MODELS[0].coherence) + 3.5, rtol=1e-12)
    np.testing.assert_array_equal(Model().expected(power), power)


@pytest.mark.parametrize("module", [kernels_numpy, kernels_cpu])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_projection_is_the_brute_force_one(module, threads):
    density, amplitude = problem()
    kernels = module.Kernels(amplitude, threads)
    mine, out = kernels.empty(2), kernels.empty(2)
    mine[...] = density
    misfit = batched(kernels, MODELS).project(kernels, mine, out)
    np.testing.assert_array_equal(mine, density)
    for k, model in enumerate(MODELS):
        expected, expected_misfit = brute_force(density[k], amplitude, model)
        np.testing.assert_allclose(out[k], expected, atol=TOLERANCE * np.abs(expected).max())
        assert misfit[k] == pytest.approx(expected_misfit, rel=1e-5)


@pytest.mark.parametrize("module", [kernels_numpy, kernels_cpu])
def test_a_coherent_beam_without_background_is_the_plain_projection(module):
    density, amplitude = problem()
    kernels = module.Kernels(amplitude)
    mine, plain, model = kernels.empty(2), kernels.empty(2), kernels.empty(2)
    mine[...] = density
    first = kernels.project(mine, plain)
    second = batched(kernels, [Model(), Model()]).project(kernels, mine, model)
    np.testing.assert_array_equal(plain, model)
    np.testing.assert_array_equal(first, second)


def test_a_start_without_a_kernel_beside_one_with_it_is_coherent():
    density, amplitude = problem()
    kernels = kernels_numpy.Kernels(amplitude)
    out, plain = kernels.empty(2), kernels.empty(2)
    batched(kernels, [Model(coherence=kernel()), Model()]).project(kernels, density, out)
    kernels.project(density, plain)
    np.testing.assert_allclose(out[1], plain[1], atol=TOLERANCE * np.abs(plain).max())
    assert np.abs(out[0] - plain[0]).max() > 0.01 * np.abs(plain).max()


def test_dark_voxels_beside_bright_ones_stay_lit():
    """complex64 leaves a blurred dark voxel with 1e-7 of the brightest ones, of either sign: c is never below
    gamma(0) |F|^2, and a measured count never divided by zero."""
    kernels = kernels_cpu.Kernels(np.ones((16, 16, 16), np.float32))
    models = batched(kernels, [Model(coherence=gaussian((3, 3, 3), 0.6))])
    transform = kernels.empty(1)
    transform[...] = 1
    transform[0, 0, 0, 0] = 1e5
    expected = models.expected(kernels, transform)
    assert expected.min() >= 0.99 * MODELS[0].coherence.min()
    assert (expected >= gaussian((3, 3, 3), 0.6).max() * 0.999).all()


@pytest.mark.parametrize("recipe", ["Coherence + 5*ER", "Background + 5*ER", "Coherence + Background + 3*ML"])
def test_masked_voxels_are_free_in_each(known, recipe):
    """Whatever stands in them, the same bits come out, from a bright region and a dark one."""
    mask = np.zeros(known.intensity.shape, bool)
    mask[15:17, 14:16, 15] = True
    mask[3:8, 20:28, 2:9] = True
    start = Start(initial=known.density * np.float32(0.6), support=known.support)
    ends = []
    for inside in (0.0, 1e6):
        pattern = Pattern(intensity=np.where(mask, inside, known.intensity), mask=mask)
        ends.append(retrieve(pattern, parse(recipe), start=start))
    np.testing.assert_array_equal(ends[0].density, ends[1].density)
    np.testing.assert_array_equal(ends[0].model.widths(), ends[1].model.widths())
    assert ends[0].model.background == ends[1].model.background
    zeroed = Pattern(intensity=np.where(mask, 0.0, known.intensity), mask=np.zeros_like(mask))
    assert np.abs(retrieve(zeroed, parse(recipe), start=start).density - ends[0].density).max() > 0


def test_a_model_is_carried_out_and_in_again(known):
    pattern = Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))
    start = Start(initial=known.density * np.float32(0.6), support=known.support)
    found = retrieve(pattern, parse("Coherence + Background + ER"), start=start)
    assert found.model.coherence is not None and found.model.coherence.sum() == pytest.approx(1, abs=1e-6)
    again = retrieve(
        pattern, parse("ER"), start=Start(initial=found.density, support=found.support, model=found.model)
    )
    assert again.errors[0] == pytest.approx(found.chi, rel=1e-4)  # chi is that of the model
    np.testing.assert_allclose(again.model.coherence, found.model.coherence)
    plain = retrieve(pattern, parse("ER"), start=Start(initial=found.density, support=found.support))
    assert abs(plain.errors[0] / found.chi - 1) > 0.01
    assert plain.model.coherence is None and plain.model.background == 0


def test_a_start_that_is_not_finite_harms_no_model(known):
    pattern = Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))
    good = Start(initial=known.density * np.float32(0.6), support=known.support)
    broken = Start(initial=np.full_like(known.density, np.nan), support=known.support)
    recipe = parse("Coherence + Background + ML(iterations=3) + ER")
    together = retrieve_all(pattern, recipe, [broken, good])
    alone = retrieve(pattern, recipe, start=good)
    np.testing.assert_array_equal(together[1].density, alone.density)
    assert together[1].model.background == alone.model.background
    np.testing.assert_array_equal(together[1].model.coherence, alone.model.coherence)
    assert together[0].chi == np.inf and together[0].model == Model()


def test_the_coherence_length_is_that_of_a_gaussian():
    """The mutual coherence of two voxels m apart is the transform of gamma, |sum gamma exp(2 pi i k m / N)|, and
    exp(-1/2) at xi. A Gaussian of 0.9 voxels is sampled well enough for its deviation to 0.5 %."""
    model = Model(coherence=gaussian((6, 6, 6), 0.9))
    basis = np.diag([5.0, 7.0, 3.0])
    lengths = model.coherence_length_nm(basis, (64, 96, 80))
    k = np.arange(-6, 7)
    profile = gaussian((6, 6, 6), 0.9).sum(axis=(1, 2))
    for length, edge, n in zip(lengths, np.diag(basis), (64, 96, 80), strict=True):
        apart = length / edge
        assert abs(np.sum(profile * np.exp(2j * np.pi * k * apart / n))) == pytest.approx(np.exp(-0.5), rel=5e-3)
    assert Model().coherence_length_nm(basis, (64, 96, 80)) == (np.inf,) * 3


@pytest.mark.parametrize(
    "faulty",
    [
        lambda: Model(coherence=np.ones((4, 3, 3))),
        lambda: Model(background=-1),
        lambda: Model(background=np.nan),
        lambda: batched(
            kernels_numpy.Kernels(np.ones(SHAPE, np.float32)),
            [Model(coherence=kernel()), Model(coherence=np.ones((3, 3, 3)))],
        ),
    ],
)
def test_what_is_no_model_is_said(faulty):
    with pytest.raises(ScanError):
        faulty()


def test_nothing_is_asked_of_the_kernels_without_a_model():
    """It costs nothing where it is not used."""

    class Plain(kernels_numpy.Kernels):
        transform = inverse = moduli = None  # type: ignore[assignment]

    density, amplitude = problem()
    kernels = Plain(amplitude)
    Models().project(kernels, density, kernels.empty(2))


def test_both_projections_of_the_difference_map_have_the_model():
    """With beta = 1 it is HIO (Elser 2003), whatever stands in for the projection."""
    density, amplitude = problem()
    support = np.random.default_rng(3).random(density.shape) < 0.3
    ends = []
    for operator in (DM(beta=1), HIO(beta=1)):
        kernels = kernels_numpy.Kernels(amplitude)
        state = State(
            kernels=kernels,
            density=density.copy(),
            projected=kernels.empty(2),
            support=support,
            models=batched(kernels, MODELS),
        )
        operator.apply(state)
        ends.append(state.density)
    np.testing.assert_allclose(ends[0], ends[1], atol=TOLERANCE * np.abs(ends[1]).max())


def test_a_model_says_what_it_found():
    transform = np.random.default_rng(5).standard_normal(SHAPE) + 1j
    np.testing.assert_array_equal(Model().modulus(transform), np.abs(transform))
    expected = convolved(np.abs(transform) ** 2, MODELS[0].coherence) + 3.5
    np.testing.assert_allclose(MODELS[0].modulus(transform) ** 2, expected)
    assert Model().metrics() == {}
    told = MODELS[0].metrics()
    assert told["background_counts"] == 3.5
    # gamma is 3, 5, 3 voxels long and nearly even: a deviation of about sqrt(2/3), sqrt(2), sqrt(2/3)
    found = [told[f"coherence_width_{axis}"] for axis in ("rocking", "row", "column")]
    np.testing.assert_allclose(found, np.sqrt([2 / 3, 2, 2 / 3]), rtol=0.15)
