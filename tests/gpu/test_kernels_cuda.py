"""The CUDA kernels against the readable ones, on the host (see conftest.py) and on the device.

With a CUDA device: `pip install 'live_bcdi[cuda]'`, then `pytest tests/gpu`; `-m gpu` for the device alone.
"""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.phasing import kernels_numpy, parse
from live_bcdi.phasing.engine import Pattern, Start, retrieve, retrieve_all
from live_bcdi.phasing.kernels_numpy import Bands, Mix
from live_bcdi.phasing.operators import State

# Even, odd, prime lengths; 15 voxels of one row are fewer than a wide Gaussian.
SHAPES = [(8, 8, 8), (5, 6, 7), (16, 20, 23), (12, 15, 10)]
# complex64 has 6e-8 of relative rounding; a transform of N values adds about log2(N) of them.
TOLERANCE = 2e-6
SOURCE = Path(kernels_numpy.__file__).with_name("kernels.cu")


def problem(shape, seed=0, starts=3):
    rng = np.random.default_rng(seed)
    batch = (starts, *shape)
    density = (rng.standard_normal(batch) + 1j * rng.standard_normal(batch)).astype(np.complex64)
    amplitude = (10 * rng.random(shape)).astype(np.float32)
    amplitude[rng.random(shape) < 0.1] = -1
    amplitude[rng.random(shape) < 0.1] = 0
    return density, amplitude, rng.random(batch) < 0.3


def project(kernels, density, projected, support):
    return [kernels.project(density, projected), projected]


def project_in_place(kernels, density, projected, support):
    return [kernels.project(density, density)]


def project_nothing(kernels, density, projected, support):
    return [kernels.project(kernels.empty(len(density)), projected), projected]


def transform(kernels, density, projected, support):
    kernels.transform(density, projected)
    kernels.inverse(projected, density)
    return [projected]


def moduli(kernels, density, projected, support):
    kernels.taper(0.7)
    return [kernels.moduli()]


def mix(kernels, density, projected, support):
    kernels.mix(density, projected, support, Mix(0.9, 0.1, -0.8, 1.1))
    return []


def mix_bands(kernels, density, projected, support):
    kernels.mix_bands(density, projected, support, Bands(0.6, 0.1, -1.5, 0.9))
    return []


def mean_phase(kernels, density, projected, support):
    return [kernels.mean_phase(density, support)]


def clip_phase(kernels, density, projected, support):
    kernels.clip_phase(density, support, kernels.put(np.array([0.7, -0.2, 3.0])), 1.1)
    return []


def real(kernels, density, projected, support):
    kernels.clip_phase(density, support, kernels.mean_phase(density, support) + 0.0, 0.0)
    return []


def taper(kernels, density, projected, support):
    kernels.taper(0.5)
    return [kernels.project(density, projected), projected]


def taper_taken_off(kernels, density, projected, support):
    kernels.taper(0.5)
    kernels.taper(None)
    return [kernels.project(density, projected), projected]


def smooth(kernels, density, projected, support):
    return [kernels.smooth(density, 1.3)]


def smooth_widely(kernels, density, projected, support):
    return [kernels.smooth(density, 6.0)]


METHODS = [project, project_in_place, project_nothing, transform, moduli, mix, mix_bands, mean_phase, clip_phase]
METHODS += [real, taper, taper_taken_off, smooth, smooth_widely]


def outcome(make, method, shape):
    """What `method` returns, and what it leaves in the density, on the host."""
    density, amplitude, support = problem(shape)
    kernels = make(amplitude)
    arrays = [kernels.put(each) for each in (density, problem(shape, seed=1)[0], support)]
    return [kernels.get(each) for each in [*method(kernels, *arrays), arrays[0]]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_equals_the_readable_one(machine, method, shape):
    readable, fused = outcome(kernels_numpy.Kernels, method, shape), outcome(machine.Kernels, method, shape)
    for expected, found in zip(readable, fused, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, atol=TOLERANCE * np.abs(expected).max(), rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_bits_each_time(machine, shape):
    first, second = (outcome(machine.Kernels, project, shape) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("share", [0.0, 1e-3, 0.1, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_level_has_its_share_above(machine, shape, share):
    density, amplitude, _ = problem(shape)
    smoothed = np.abs(density)
    smoothed[1] = np.round(smoothed[1])  # many equal ones, and zeros
    expected = kernels_numpy.Kernels(amplitude).level_of_share(smoothed, share)
    kernels = machine.Kernels(amplitude)
    np.testing.assert_array_equal(kernels.get(kernels.level_of_share(kernels.put(smoothed), share)), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_support_tightens_or_stays(machine, shape):
    density, amplitude, support = problem(shape)
    smoothed = np.abs(density)
    level = np.array([[0, 1.5], [0, 0.1], [0, 1e3]], np.float32)[:, 1]  # strided, as one of many levels is
    expected = support.copy()
    kernels_numpy.Kernels(amplitude).tighten(smoothed, level, expected)
    kernels = machine.Kernels(amplitude)
    found = kernels.put(support)
    kernels.tighten(kernels.put(smoothed), kernels.put(np.repeat(level[:, None], 2, axis=1))[:, 1], found)
    np.testing.assert_array_equal(kernels.get(found), expected)
    assert (expected[0] != support[0]).any() and (expected[1:] == support[1:]).all()


def test_a_voxel_at_the_level_is_not_above(machine):
    """With them the support would be most of the volume, and the old one would stay."""
    smoothed = np.ones((1, 10, 10, 10), np.float32)
    smoothed[0, 4] = 2
    kernels = machine.Kernels(smoothed[0])
    found = kernels.put(np.ones(smoothed.shape, bool))
    kernels.tighten(kernels.put(smoothed), kernels.put(np.ones(1, np.float32)), found)
    np.testing.assert_array_equal(kernels.get(found), smoothed > 1)


def test_a_nan_shows_in_its_own_starts_error(machine):
    density, amplitude, _ = problem((5, 6, 7))
    density[1, 1, 2, 3] = np.nan
    kernels = machine.Kernels(amplitude)
    error = kernels.get(kernels.project(kernels.put(density), kernels.empty(3)))
    np.testing.assert_array_equal(np.isfinite(error), [True, False, True])


@pytest.mark.parametrize("chip", ["75", "80", "90"])
def test_nvidias_compiler_takes_the_source(chip):
    """It needs no device."""
    cupy = pytest.importorskip("cupy", reason="no cupy", exc_type=ImportError)
    nvrtc = cupy.cuda.nvrtc
    program = nvrtc.createProgram(SOURCE.read_text(), SOURCE.name, (), ())
    try:
        nvrtc.compileProgram(program, ("-std=c++17", f"-arch=sm_{chip}"))
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    assert nvrtc.getProgramLog(program) == ""


def crystal(shape):
    """A pattern of a strained block, some voxels free."""
    axes = [np.abs(x) / n for x, n in zip(np.indices(shape) - np.array(shape)[:, None, None, None] // 2, shape)]
    block = np.max(axes, axis=0) < 0.18
    density = block * np.exp(3j * axes[0] - 2j * axes[2])
    intensity = np.abs(np.fft.fftshift(np.fft.fftn(density))).astype(np.float32) ** 2
    return Pattern(intensity=intensity, mask=np.random.default_rng(3).random(shape) < 0.05)


# every operator; short, since HIO and its kin amplify rounding and the paths are compared while they are still one
RECIPES = [
    "5*ER + 3*HIO + 2*RAAR + SF + ADMM + ShrinkWrap",
    "3*ER + 2*(CHIO + HPR + DM) + PhaseRange + ER + ShrinkWrap(level='percentile', threshold=95) + ER",
    "LowToHigh(width=0.3) + 2*ER + LowToHigh(width=0.3) + Detwin + ShrinkWrap(smallest=0.01, largest=0.1) + 2*ER",
    "3*ER + Positivity + 2*ER + ShrinkWrap(level='absolute', threshold=0.1) + 2*ER",
]

# some twelve volumes a start
GREEDY = ["3*ER + Coherence(iterations=3, reach=2, roi=8) + 2*ER + Background + 2*ER + ML(iterations=2)"]


@pytest.mark.parametrize("shape", [(12, 16, 20), (11, 15, 14)])
@pytest.mark.parametrize("recipe", RECIPES + GREEDY)
def test_recipes_follow_the_readable_path(machine, recipe, shape):
    pattern, starts = crystal(shape), [Start(seed=1), Start(seed=2)]
    found = retrieve_all(pattern, parse(recipe), starts, kernels=machine.Kernels)
    readable = retrieve_all(pattern, parse(recipe), starts, kernels=kernels_numpy.Kernels)
    for one, other in zip(found, readable, strict=True):
        np.testing.assert_allclose(one.errors, other.errors, rtol=1e-4)
        np.testing.assert_allclose(one.chi, other.chi, rtol=1e-4)
        # a voxel at the very level may fall on either side
        assert np.mean(one.support != other.support) < 1e-3


@pytest.mark.parametrize("recipe", RECIPES)
def test_starts_abreast_are_the_starts_alone(machine, recipe):
    """To rounding: cuFFT may do a batch in another order than one transform."""
    pattern, starts = crystal((11, 15, 14)), [Start(seed=seed) for seed in range(3)]
    together = retrieve_all(pattern, parse(recipe), starts, kernels=machine.Kernels)
    for start, found in zip(starts, together, strict=True):
        alone = retrieve(pattern, parse(recipe), start=start, kernels=machine.Kernels)
        np.testing.assert_allclose(found.errors, alone.errors, rtol=1e-4)
        assert np.mean(found.support != alone.support) < 1e-3


def state_of(kernels, shape=(12, 16, 20)):
    density, _, support = problem(shape)
    return State(
        kernels=kernels, density=kernels.put(density), projected=kernels.empty(3), support=kernels.put(support)
    )


@pytest.mark.parametrize("recipe", RECIPES + GREEDY)
def test_no_operator_waits_for_the_device(machine, recipe):
    state = state_of(machine.Kernels(crystal((12, 16, 20)).amplitude()))
    operators = list(parse(recipe))

    def run():
        for operator in operators:
            operator.apply(state)

    assert not machine.waited(run)


@pytest.mark.parametrize("recipe", RECIPES)
def test_six_volumes_a_start_are_enough(on_host, recipe):
    """`devices.py` counts on it. What cupy would allocate, the stand-in does; cuFFT's work area is one more."""
    shape = (24, 32, 28)
    tracemalloc.start()
    state = state_of(on_host.Kernels(crystal(shape).amplitude()), shape)
    for operator in parse(recipe):
        operator.apply(state)
    volumes = tracemalloc.get_traced_memory()[1] / state.density.host.nbytes
    tracemalloc.stop()
    assert volumes + 1 < 6


def test_otsu_and_reading_do_wait(machine):
    """What the test above finds nowhere, it would find."""
    state = state_of(machine.Kernels(crystal((12, 16, 20)).amplitude()))
    (otsu,) = parse("ShrinkWrap(level='otsu')")
    assert machine.waited(lambda: otsu.apply(state))
    assert machine.waited(state.kernels.settle)
