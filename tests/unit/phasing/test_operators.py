"""Each operator's update against its formula, with a transform summed term by term at 8^3."""

import numpy as np
import pytest

from live_bcdi.phasing import kernels_cpu, kernels_numpy, parse
from live_bcdi.phasing.align import aligned_to
from live_bcdi.phasing.engine import Pattern, Start, retrieve, retrieve_all
from live_bcdi.phasing.operators import (
    ADMM,
    CHIO,
    DM,
    ER,
    HIO,
    HPR,
    RAAR,
    SF,
    Detwin,
    PhaseRange,
    Positivity,
    ShrinkWrap,
    State,
)
from live_bcdi.types import ScanError

N = 8
INDEX = np.arange(N)
WAVE = np.exp(-2j * np.pi * np.outer(INDEX, INDEX) / N)
# complex64 has 6e-8 of relative rounding, a transform of 512 values adds about nine of them; DM has two
TOLERANCE = 5e-6


def modulus_projection(density, amplitude):
    """P_M by its definition; `amplitude` is centred, negative where free."""
    amplitude = np.fft.ifftshift(amplitude)
    transform = np.einsum("xyz,ax,by,cz->abc", density, WAVE, WAVE, WAVE)
    transform = np.where(amplitude < 0, transform, amplitude * np.exp(1j * np.angle(transform)))
    return np.einsum("abc,ax,by,cz->xyz", transform, *[WAVE.conj()] * 3) / N**3


def elser(o, s, m, beta=0.9):
    def on_support(x):
        return s * x

    def f(projection, x, gamma):
        return (1 + gamma) * projection(x) - gamma * x

    step = on_support(f(m, o, 1 / beta)) - m(f(on_support, o, -1 / beta))
    return o + beta * step


def fienup_continuous(o, s, m, alpha=0.4, beta=0.9):
    p = m(o)
    t = (p * o.conj()).real / np.abs(o) ** 2
    choices = [p, o - (1 - alpha) / alpha * p]
    return np.select([s & (t >= alpha), s & (t >= 0)], choices, o - beta * p)


def bauschke(o, s, m, beta=0.9):
    """Their Eq. (18): 1/2 [R_S+ (R_M + (beta - 1) P_M) + 1 + (1 - beta) P_M], P_S+ positive along O."""
    p = m(o)
    x = (2 * p - o) + (beta - 1) * p
    positive = s & ((x * o.conj()).real >= 0)
    return ((2 * positive * x - x) + o + (1 - beta) * p) / 2


def half_support(o, s, m):
    middle = np.argwhere(s)[:, 0].mean()
    return np.where(s & (INDEX[:, None, None] >= middle), m(o), 0)


def outside(feedback):
    return lambda o, s, m: np.where(s, m(o), feedback(o, m(o)))


FORMULAS = {
    ER(): outside(lambda o, p: 0 * o),
    HIO(): outside(lambda o, p: o - 0.9 * p),
    RAAR(): outside(lambda o, p: 0.9 * o + (1 - 1.8) * p),
    SF(): outside(lambda o, p: -p),
    DM(): elser,
    DM(beta=1.3): lambda o, s, m: elser(o, s, m, 1.3),
    CHIO(): fienup_continuous,
    HPR(): bauschke,
    Detwin(): half_support,
}


@pytest.fixture(params=[kernels_numpy, kernels_cpu], ids=["numpy", "cpu"])
def make(request):
    def state():
        rng = np.random.default_rng(3)
        amplitude = (9 * rng.random((N, N, N))).astype(np.float32)
        amplitude[rng.random((N, N, N)) < 0.1] = -1
        kernels = request.param.Kernels(amplitude)
        density = kernels.empty(2)
        density[...] = rng.standard_normal((2, N, N, N)) + 1j * rng.standard_normal((2, N, N, N))
        support = rng.random((2, N, N, N)) < 0.3
        return State(kernels=kernels, density=density, projected=kernels.empty(2), support=support), amplitude

    return state


@pytest.mark.parametrize("operator", FORMULAS, ids=str)
def test_an_update_is_its_formula(make, operator):
    state, amplitude = make()
    before = state.density.astype(complex)
    formula = FORMULAS[operator]
    starts = zip(before, state.support)
    expected = np.array([formula(o, s, lambda x: modulus_projection(x, amplitude)) for o, s in starts])
    operator.apply(state)
    np.testing.assert_allclose(state.density, expected, atol=TOLERANCE * np.abs(expected).max())


def test_admm_is_its_three_steps(make):
    """x, z and u kept apart, as the method is written, follow the same z for three iterations."""
    state, amplitude = make()
    rho, gamma = 0.3, 0.8
    s = state.support[1]
    z = np.where(s, state.density[1], 0).astype(complex)
    u = np.zeros_like(z)
    state.density[1] = z  # O = x + u with x = P_S(z - u)
    for _ in range(3):
        x = np.where(s, z - u, 0)
        np.testing.assert_allclose(state.density[1], x + u, atol=TOLERANCE * 3 * np.abs(x + u).max())
        z = (modulus_projection(x + u, amplitude) + rho * (x + u)) / (1 + rho)
        u = u + gamma * (x - z)
        ADMM(rho=rho, gamma=gamma).apply(state)


def test_the_difference_map_with_beta_one_is_hio(make):
    """Elser (2003)."""
    results = []
    for operator in (DM(beta=1), HIO(beta=1)):
        state, _ = make()
        operator.apply(state)
        results.append(state.density)
    np.testing.assert_allclose(results[0], results[1], atol=TOLERANCE * np.abs(results[1]).max())


def test_phase_range_is_the_nearest_object_within_it(make):
    """Against a search over the sector, in fine steps of phase and over 0."""
    state, _ = make()
    before, support = state.density[1].astype(complex), state.support[1]
    low, high = -0.5, 0.9
    PhaseRange(low=low, high=high).apply(state)
    after = state.density[1]
    inside = before * support
    mean = np.angle(np.sum(inside * np.abs(inside)))
    rays = np.exp(1j * (mean + np.linspace(low, high, 4001)))
    for old, new in zip(before[support], after[support]):
        lengths = np.maximum((old * rays.conj()).real, 0)
        # the rays are 3.5e-4 rad apart, and values are up to 4
        assert abs(old - new) == pytest.approx(np.abs(old - lengths * rays).min(), abs=1e-3)
        assert abs(new) < 1e-6 or low - 1e-5 <= np.angle(new * np.exp(-1j * mean)) <= high + 1e-5
    np.testing.assert_array_equal(after[~support], before[~support].astype(np.complex64))


def test_positivity_keeps_the_real_positive_part(make):
    state, _ = make()
    inside = state.density * state.support
    turn = np.exp(1j * np.angle(np.sum(inside * np.abs(inside), axis=(1, 2, 3), keepdims=True)))
    expected = np.where(state.support, np.maximum((state.density / turn).real, 0) * turn, state.density)
    Positivity().apply(state)
    np.testing.assert_allclose(state.density, expected, atol=TOLERANCE * np.abs(expected).max())


def ramp_of(recipe, known):
    """Width of the Gaussian at each projection, as the engine sets it."""
    told = []

    class Watched(kernels_numpy.Kernels):
        def taper(self, width):
            told.append(width)
            super().taper(width)

    pattern = Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))
    found = retrieve(pattern, parse(recipe), kernels=Watched)
    return told, found


def test_the_ramp_grows_in_equal_ratios_and_is_taken_off(known):
    told, found = ramp_of("5*(LowToHigh(width=0.2, width_end=3.2, until=0.8) + ER)", known)
    # nine steps of progress: LowToHigh comes at 0, 2/9, 4/9, 6/9, 8/9 of the recipe
    np.testing.assert_allclose(told[:4], [0.2 * 16 ** (k / 9 / 0.8) for k in (0, 2, 4, 6)])
    assert told[4:] == [None, None]
    pattern = Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))
    again = retrieve(pattern, parse("ER"), start=Start(initial=found.density, support=found.support))
    assert again.errors[0] == pytest.approx(found.chi, rel=1e-3)  # chi is that of the whole pattern


@pytest.mark.parametrize(
    "recipe", ["30*CHIO", "30*HPR", "15*DM", "30*ADMM", "3*Detwin + 30*RAAR", "30*DM(beta=0.7)"]
)
def test_operators_find_the_crystal_as_part_of_a_recipe(known, recipe):
    pattern = Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))
    whole = parse(f"20*ER + 5*({recipe} + 5*ER + ShrinkWrap(sigma=1.5, threshold=0.15)) + 30*ER")
    best = min((retrieve(pattern, whole, start=Start(seed=seed)) for seed in range(3)), key=lambda r: r.chi)
    image = aligned_to(known.density, best.density)
    likeness = abs(np.vdot(known.density, image)) / np.linalg.norm(known.density) / np.linalg.norm(image)
    assert likeness > 0.97


@pytest.mark.parametrize(
    "shrinkwrap",
    [
        ShrinkWrap(sigma=2, sigma_end=1, threshold=0.15),
        ShrinkWrap(sigma=1.5, level="otsu"),
        ShrinkWrap(sigma=1.5, level="percentile", threshold=97),
        ShrinkWrap(sigma=1.5, threshold=0.15, largest=0.04),
    ],
    ids=str,
)
def test_any_way_of_shrinking_finds_the_size(known, shrinkwrap):
    pattern = Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))
    whole = parse(f"20*ER + 5*(20*HIO + 5*ER + {shrinkwrap}) + 30*ER")
    best = min((retrieve(pattern, whole, start=Start(seed=seed)) for seed in range(3)), key=lambda r: r.chi)
    # a voxel around the crystal of 850 voxels is 60 % more
    assert 0.8 < best.support.sum() / known.support.sum() < 1.8


def test_sigma_goes_from_one_to_the_other(known):
    used = []

    class Watched(kernels_numpy.Kernels):
        def smooth(self, density, sigma):
            used.append(sigma)
            return super().smooth(density, sigma)

    pattern = Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))
    retrieve(pattern, parse("5*ShrinkWrap(sigma=3, sigma_end=1)"), kernels=Watched)
    np.testing.assert_allclose(used, [3, 2.5, 2, 1.5, 1])


def test_an_absolute_level_is_in_the_units_of_the_object(make):
    state, _ = make()
    smoothed = state.kernels.smooth(state.density, 1.0)
    level = float(np.percentile(smoothed, 90))
    ShrinkWrap(level="absolute", threshold=level).apply(state)
    np.testing.assert_array_equal(state.support, smoothed > np.float32(level))


def test_each_start_has_its_own_threshold(known):
    """From the first to the last: the tighter, the smaller the support."""
    pattern = Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))
    starts = [Start(initial=known.density, support=known.support, place=place) for place in (0, 0.5, 1)]
    ranged = retrieve_all(pattern, parse("ER + ShrinkWrap(threshold=0.1, threshold_end=0.5)"), starts)
    for found, threshold in zip(ranged, (0.1, 0.3, 0.5)):
        alone = retrieve(pattern, parse(f"ER + ShrinkWrap(threshold={threshold})"), start=starts[0])
        np.testing.assert_array_equal(found.support, alone.support)
    assert ranged[0].support.sum() > ranged[1].support.sum() > ranged[2].support.sum()
    with pytest.raises(ScanError, match="threshold_end"):
        parse("ShrinkWrap(level='percentile', threshold=90, threshold_end=95)")
