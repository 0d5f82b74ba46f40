"""The coherence kernel against the one that a pattern was made with."""

import numpy as np
import pytest

from live_bcdi.phasing import kernels_cpu, kernels_numpy
from live_bcdi.phasing.align import aligned_to
from live_bcdi.phasing.coherence import estimate, gaussian, richardson_lucy, window
from live_bcdi.phasing.engine import Pattern, Start, retrieve, retrieve_all
from live_bcdi.phasing.model import Models
from live_bcdi.phasing.recipe import parse
from live_bcdi.sim.scattering import blurred
from live_bcdi.types import ScanError


def scan(known, widths, photons=1e7, seed=0):
    """Poisson counts of the known crystal in a beam whose coherence blurs the pattern by `widths` voxels."""
    power = np.abs(np.fft.fftshift(np.fft.fftn(known.density))) ** 2
    expected = blurred(power * photons / power.sum(), widths)
    counts = np.random.default_rng(seed).poisson(expected).astype(float)
    scaled = known.density * np.float32(np.sqrt(photons / power.sum()))
    return Pattern(intensity=counts, mask=np.zeros(counts.shape, bool)), scaled


def test_free_voxels_have_no_part_in_it(known):
    """A beamstop on the peak and a gap beside it: widths as without (a count of 0 there would be fatal)."""
    pattern, density = scan(known, (0.6, 0.6, 0.6))
    mask = np.zeros(pattern.mask.shape, bool)
    mask[15:18, 15:18, 15:18] = True
    mask[:, 18:20] = True
    hidden = Pattern(intensity=np.where(mask, 0, pattern.intensity), mask=mask)
    kernels = kernels_cpu.Kernels(hidden.amplitude())
    middle = window(mask.shape, 24, 4)
    objects, supports = density[None], known.support[None]
    found = estimate(kernels, Models(), objects, supports, sigma=1.0, iterations=300, middle=middle)
    np.testing.assert_allclose(found.of(kernels, 0).widths(), 0.6, atol=0.03)


@pytest.mark.parametrize("module", [kernels_numpy, kernels_cpu])
def test_the_widths_of_a_gaussian_come_back(known, module):
    """From the right object, axis by axis. Counting noise of 1e7 photons leaves 1e-3; what is left of the first
    guess of 1 voxel after 300 iterations, and that non-negative samples are not the continuous Gaussian where it
    is narrow, leaves up to 0.015 voxels."""
    widths = (0.8, 0.65, 0.5)
    pattern, density = scan(known, widths)
    kernels = module.Kernels(pattern.amplitude())
    middle = window(pattern.intensity.shape, 24, 4)
    objects, supports = density[None], known.support[None]
    found = estimate(kernels, Models(), objects, supports, sigma=1.0, iterations=300, middle=middle)
    np.testing.assert_allclose(found.of(kernels, 0).widths(), widths, atol=0.02)
    first = gaussian(middle.reach, 1.0)
    assert abs(found.of(kernels, 0).coherence - first).max() > 0.05


def test_numpy_and_cpu_agree(known):
    pattern, density = scan(known, (0.6, 0.6, 0.6))
    results = []
    for module, threads in ((kernels_numpy, 1), (kernels_cpu, 1), (kernels_cpu, 3)):
        kernels = module.Kernels(pattern.amplitude(), threads)
        middle = window(pattern.intensity.shape, 32, 4)
        found = estimate(
            kernels, Models(), density[None], known.support[None], sigma=1, iterations=20, middle=middle
        )
        results.append(found)
    # 20 iterations in float64 of a |F|^2 that is known to some 1e-6 of itself
    np.testing.assert_allclose(results[1].coherence, results[0].coherence, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(results[1].transfer, results[0].transfer, atol=1e-5)
    np.testing.assert_array_equal(results[2].coherence, results[1].coherence)


def test_an_iteration_is_its_formula_and_raises_the_likelihood():
    """Sums term by term, with free voxels, on an (8, 8, 8) middle; gamma and its mirror image tied together."""
    rng = np.random.default_rng(0)
    power = rng.random((1, 10, 10, 10)) * 50
    counts = rng.poisson(power[:, 1:-1, 1:-1, 1:-1]).astype(float)
    weights = (rng.random(counts.shape) > 0.2).astype(float)
    gamma = rng.random((1, 3, 3, 3))
    gamma = gamma + np.flip(gamma, (1, 2, 3))
    gamma /= gamma.sum()

    def shifted(index):
        return power[0][tuple(slice(2 - i, 10 - i) for i in index)]

    def expected(kernel):
        return sum(kernel[0][index] * shifted(index) for index in np.ndindex(3, 3, 3)) + 0.5

    ratio = weights[0] * counts[0] / expected(gamma)
    by_hand = np.zeros_like(gamma)
    for index in np.ndindex(3, 3, 3):
        mirror = tuple(2 - i for i in index)
        gain = np.sum(ratio * (shifted(index) + shifted(mirror)))
        by_hand[0][index] = gamma[0][index] * gain / np.sum(weights[0] * (shifted(index) + shifted(mirror)))
    found = richardson_lucy(power, counts, weights, gamma, background=np.array([0.5]), iterations=1)
    np.testing.assert_allclose(found, by_hand / by_hand.sum(), rtol=1e-9)

    def misfit(kernel):
        c = expected(kernel)
        return np.sum(weights[0] * (c - counts[0] * np.log(c)))

    assert misfit(by_hand) < misfit(gamma)
    assert misfit(gamma * (2 - by_hand / gamma)) > misfit(gamma)  # the other way is worse


def test_a_partially_coherent_scan_is_better_with_the_kernel(known):
    """Widths of 0.5 voxels: two points a crystal apart (a third of the array) interfere with a visibility of 0.58.
    The phase error of the better half of four starts, with and without, by the same recipe otherwise."""
    pattern, _ = scan(known, (0.5, 0.5, 0.5), photons=1e6)
    cycle = "20*HIO + 5*ER + ShrinkWrap(sigma=1.5, threshold=0.15)"
    plain = parse(f"20*ER + 8*({cycle}) + 30*ER")
    with_it = parse(f"20*ER + 2*({cycle}) + 6*(Coherence + {cycle}) + Coherence + 30*ER")
    starts = [Start(seed=seed) for seed in range(4)]
    errors = []
    for recipe in (plain, with_it):
        ends = sorted(retrieve_all(pattern, recipe, starts), key=lambda end: end.chi)[:2]
        errors.append(np.mean([phase_error(known, end.density) for end in ends]))
    assert errors[1] < 0.7 * errors[0]
    np.testing.assert_allclose(ends[0].model.widths(), 0.5, atol=0.12)


def phase_error(known, density):
    found = aligned_to(known.density, density)
    difference = (found * known.density.conj())[known.support]
    return float(np.sqrt(np.mean(np.angle(difference * np.exp(-1j * np.angle(difference.sum()))) ** 2)))


def test_the_kernel_goes_on_from_where_it_was(known):
    pattern, density = scan(known, (0.6, 0.6, 0.6))
    start = Start(initial=density, support=known.support)
    twice = retrieve(pattern, parse("2*Coherence(iterations=10)"), start=start)
    once = retrieve(pattern, parse("Coherence(iterations=20)"), start=start)
    np.testing.assert_allclose(twice.model.coherence, once.model.coherence, rtol=1e-6, atol=1e-9)


def test_a_small_array_has_a_small_window():
    middle = window((64, 12, 3), 32, 4)
    assert middle.reach == (4, 2, 0)
    assert middle.roi == (32, 8, 3)
    assert [len(each) for each in middle.indices((64, 12, 3))] == [40, 12, 3]


@pytest.mark.parametrize("wrong", ["Coherence(sigma=0)", "Coherence(iterations=0)", "Coherence(roi=2.5)"])
def test_wrong_arguments_are_said(wrong):
    with pytest.raises(ScanError, match="Coherence needs"):
        parse(wrong)
