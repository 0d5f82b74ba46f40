"""Refinement of a crystal whose answer is known, on counts made on a finer grid; what must be refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import minimize

from live_bcdi.dynamical import Characteristics, along_diffracted
from live_bcdi.dynamical.detector import FarField
from live_bcdi.dynamical.frames import Frames, Settings
from live_bcdi.dynamical.loss import total_variation
from live_bcdi.dynamical.objective import Crystal, Objective
from live_bcdi.dynamical.optimisers import Adam
from live_bcdi.dynamical.refinement import interior, refine
from live_bcdi.types import ScanError

WAVELENGTH, TWO_THETA = 1.5498e-10, np.deg2rad(44.76)
K = 2 * np.pi / WAVELENGTH
GOLD = {"chi_0": -9.407e-5 + 0.850e-5j, "chi_h": 5.255e-5 - 0.599e-5j, "chi_hbar": 5.255e-5 - 0.599e-5j}
BEAMS = along_diffracted(WAVELENGTH, TWO_THETA, **GOLD)
SHAPE = (24, 14, 24)
EDGES = np.array([50e-9, 50e-9, 50e-9 / np.tan(TWO_THETA)])
STEP = np.deg2rad(0.2 / 26)
ANGLES = STEP * np.arange(-13, 14)


def crystal(fine=1):
    """A strained block of 0.8 x 0.4 x 0.8 um, some voxels of whose edges are partly filled; (S, s0)."""
    shape, edges = [fine * n for n in SHAPE], EDGES / fine
    axes = [(np.arange(n) - n // 2 + (fine - 1) / 2) * d for n, d in zip(shape, edges)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    s0 = np.ones(shape)
    for at, half in ((x + 0.3 * z, 0.33e-6), (y, 0.2e-6), (z, 0.35e-6)):
        s0 *= np.clip((half - np.abs(at)) / edges[0] + 0.5, 0, 1)
    phase = 2 * np.sin(x / 0.2e-6) * np.cos(z / 0.25e-6) + y * z / (0.2e-6) ** 2
    return s0 * np.exp(1j * phase), s0


def momenta(finer=1.0):
    q = 2 * np.pi / (30 * finer * EDGES[0]) * (np.arange(30) - 15)
    return np.stack(np.meshgrid(q, q, indexing="ij"), axis=-1)[:, :, None]


def frames(photons, offsets=0.0, angles=ANGLES, finer=1.0):
    """Counts from the crystal on twice as fine a grid, in pixels that are `finer`."""
    edges = EDGES / 2
    passage = Characteristics(BEAMS, edges).march(*crystal(2), BEAMS.turned(angles + offsets))
    expected = FarField(momenta(finer), edges).intensities(passage.eh)
    counts = np.random.default_rng(1).poisson(expected * photons / expected.sum()).astype(float)
    measured = Frames(
        counts=counts,
        delta_q=BEAMS.turned(angles),
        turning=BEAMS.turning(angles),
        used=np.random.default_rng(2).random(counts.shape) > 0.01,
    )
    return measured, FarField(momenta(finer), EDGES)


def kinematical_start():
    """What a retrieval would find at best: the crystal with the refraction and absorption of both beams in it."""
    density, s0 = crystal()
    lengths = [np.zeros_like(s0), np.cumsum(s0[:, :, ::-1], axis=2)[:, :, ::-1] * EDGES[2]]
    for j in range(1, s0.shape[2]):  # the transmitted beam comes from the pixel beside
        before = np.roll(lengths[0][:, :, j - 1] + s0[:, :, j - 1] * EDGES[2] / np.cos(TWO_THETA), -1, axis=0)
        lengths[0][:, :, j] = before
    wrong = density * np.exp(0.5j * K * GOLD["chi_0"] * sum(lengths))
    rng = np.random.default_rng(3)
    noise = ndimage.gaussian_filter(rng.normal(size=s0.shape), 1.5) * 1.5
    return wrong * np.exp(1j * noise), s0


def phase_error(density, slope_too=False):
    """Root mean square inside, without the offset (and the slope) that no pattern shows."""
    truth, s0 = crystal()
    inside = s0 > 0.9
    ratio = density[inside] * np.conj(truth[inside])
    places = np.stack([axis[inside] for axis in np.indices(SHAPE)])
    places = np.vstack([places - places.mean(1, keepdims=True), np.ones(len(ratio))])
    angle = np.angle(ratio * np.exp(-1j * np.angle(ratio.sum())))
    known = places if slope_too else places[-1:]
    angle = angle - known.T @ np.linalg.lstsq(known.T, angle, rcond=None)[0]
    return np.sqrt(np.mean(angle**2))


@pytest.mark.parametrize(
    "ways", [{}, {"loss": "poisson"}, {"method": "adam", "shrink_every": 10}], ids=["lbfgs", "poisson", "adam"]
)
def test_the_crystal_is_found(ways):
    measured, far = frames(3e7)
    start = kinematical_start()
    told = []
    found = refine(measured, far, Characteristics(BEAMS, EDGES), start, Settings(epochs=60, smoothing=0.5, **ways),
                   progress=lambda share, text: told.append((share, text)))  # fmt: skip
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and 0 < shares[0] < 0.05 and shares[-1] <= 1
    assert all(re.match(r"epoch \d+ of 60: misfit .*, free .*, \d+ s left", text) for _, text in told[1:])
    assert phase_error(start[0], True) > 0.2
    assert phase_error(found.density, True) < 0.1  # voxels of 50 nm, counts made on 25: no better than this
    assert min(found.free_misfits) < 0.05 * found.free_misfits[0]
    assert interior(found.density) == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(found.s0, np.minimum(np.abs(found.density), 1))


def straight(angles):
    """Without offset and stretch of the whole scan, which no pattern shows."""
    count = np.arange(len(angles)) - len(angles) // 2
    return angles - np.polyval(np.polyfit(count, angles, 1), count)


@pytest.mark.parametrize("loss", ["amplitude", "poisson"])
def test_the_slope_by_differences(loss):
    """By S and by angles at once, with their prior, over some frames."""
    measured, far = frames(1e6)
    density, s0 = crystal()
    rng = np.random.default_rng(6)
    settings = Settings(loss=loss, angle_prior_rad=STEP / 3)
    objective = Objective(measured, far, Characteristics(BEAMS, EDGES), s0, settings)
    density = density * (0.9 + 0.05 * rng.random(SHAPE))  # below one, s0 goes with |S| everywhere
    here = Crystal(density=density, support=density != 0, offsets_rad=STEP / 3 * rng.normal(size=len(ANGLES)))
    here, *_ = objective.judged(here)
    step = 1e-6 * (density != 0) * (rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE))
    turn, some = 1e-4 * STEP * rng.normal(size=len(ANGLES)), np.array([3, 11, 14, 25])
    for by_density, by_offsets in ((step, 0 * turn), (0 * step, turn)):
        up, down = (
            objective.slope(
                replace(
                    here,
                    density=density + sign * by_density,
                    offsets_rad=here.offsets_rad + sign * by_offsets,
                ),
                some,
            ).value
            for sign in (1, -1)
        )
        found = objective.slope(here, some)
        along = np.sum((np.conj(found.density) * by_density).real) + found.offsets @ by_offsets
        assert 2 * along == pytest.approx(up - down, rel=1e-4)


def test_a_frames_angle_is_known_to_the_bound():
    """The crystal known, angles come from their file's to the truth, each within what its counts allow
    (Cramer and Rao): 1 / sqrt(4 sum (d sqrt(e) / d angle)^2)."""
    offsets = STEP / 3 * np.random.default_rng(5).normal(size=len(ANGLES))
    measured, far = frames(3e5, offsets)
    edges, fine = EDGES / 2, Characteristics(BEAMS, EDGES / 2)
    far = FarField(momenta(), edges)
    density, s0 = crystal(2)
    objective = Objective(measured, far, fine, s0, Settings(angle_prior_rad=STEP / 3, electrons="given"))
    here = Crystal(density=density, support=density != 0, offsets_rad=np.zeros(len(ANGLES)))
    here, *_ = objective.judged(replace(here, offsets_rad=offsets))

    def roots(turn):
        wave = fine.march(density, s0, BEAMS.turned(ANGLES + offsets + turn)).eh
        return np.sqrt(here.scale * far.intensities(wave) + 3 / 8)

    slope = (roots(1e-3 * STEP) - roots(-1e-3 * STEP)) / (2e-3 * STEP)
    bound = 1 / np.sqrt(4 * np.sum(slope**2 * measured.used, axis=(1, 2)))

    def turned(values):
        found = objective.slope(replace(here, offsets_rad=values * bound), slice(None))
        return found.value, found.offsets * bound

    limits = {"ftol": 0.0, "gtol": 0.0, "maxiter": 15}
    found = minimize(turned, np.zeros(len(offsets)), jac=True, method="L-BFGS-B", options=limits).x
    off = found - offsets / bound
    assert np.std(off) == pytest.approx(1, abs=0.45)  # 27 draws of variance 1: three standard deviations
    assert np.abs(off).max() < 4


def test_angles_are_found():
    """With the crystal, from one that is wrong: within a tenth of a step but for the outermost frames. None is
    farther off than two standard deviations, where only a like fringe is."""
    angles = np.deg2rad(0.12 / 40) * np.arange(-20, 21)
    step = angles[1] - angles[0]
    offsets = step / 3 * np.random.default_rng(5).normal(size=len(angles))
    measured, far = frames(3e7, offsets, angles, finer=2.0)
    transport, results = Characteristics(BEAMS, EDGES), []
    for prior in (None, step / 3):
        start, found = kinematical_start(), np.zeros(len(angles))
        for smoothing in (60.0, 2.0):
            settings = Settings(epochs=40, smoothing=smoothing, angle_prior_rad=prior)
            result = refine(measured, far, transport, start, settings, offsets_rad=found)
            start, found = (result.density, result.s0), result.offsets_rad
        results.append(result)
    left = straight(results[1].offsets_rad - offsets) / step
    assert np.abs(left[4:-4]).max() < 0.2 and np.std(left[4:-4]) < 0.1
    assert np.std(left) < 0.5 * np.std(straight(offsets)) / step
    assert np.abs(results[1].offsets_rad).max() <= 2.001 * step / 3
    assert not results[0].offsets_rad.any()
    assert min(results[1].free_misfits) < 0.2 * min(results[0].free_misfits)
    errors = [phase_error(result.density, True) for result in results]
    assert errors[1] < min(0.1, 0.85 * errors[0])


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
def test_pixels_that_are_not_used_may_hold_anything(method):
    measured, far = frames(1e6)
    hidden = ~measured.used
    rubbish = {
        "counts": np.where(hidden, np.nan, measured.counts),
        "response": np.where(hidden, np.nan, 1.0),
        "background": np.where(hidden, -np.inf, 0.0),
    }
    settings = Settings(method=method, epochs=3, angle_prior_rad=STEP)
    start = kinematical_start()
    clean, dirty = (
        refine(replace(measured, **more), far, Characteristics(BEAMS, EDGES), start, settings)
        for more in ({}, rubbish)
    )
    assert np.isfinite(dirty.density).all() and np.isfinite(dirty.offsets_rad).all()
    np.testing.assert_allclose(dirty.free_misfits, clean.free_misfits, rtol=1e-9)


def test_adam_leaves_what_the_support_left():
    """Its moments outlive a support: they may not bring back what was taken away."""
    measured, far = frames(1e6)
    density, s0 = crystal()
    settings = Settings(method="adam")
    adam = Adam(Objective(measured, far, Characteristics(BEAMS, EDGES), s0, settings), settings, SHAPE)
    whole = Crystal(density=density, support=density != 0, offsets_rad=np.zeros(len(ANGLES)))
    whole = adam.round(whole, 0, 1, lambda epoch: None)
    support = whole.support.copy()
    support[:, :, :12] = False
    cut = replace(whole, density=np.where(support, whole.density, 0), support=support)
    after = adam.round(cut, 1, 1, lambda epoch: None)
    assert not after.density[~support].any() and (after.density[support] != cut.density[support]).all()


def test_the_slope_of_the_total_variation():
    rng = np.random.default_rng(0)
    density = rng.normal(size=(5, 4, 6)) + 1j * rng.normal(size=(5, 4, 6))
    along = rng.normal(size=density.shape) + 1j * rng.normal(size=density.shape)

    def variation(each):
        squares = sum(
            np.abs(np.diff(each, axis=axis, append=np.take(each, [-1], axis=axis))) ** 2 for axis in range(3)
        )
        return np.sum(np.sqrt(squares + 1e-4))

    value, slope = total_variation(density)
    assert value == pytest.approx(variation(density), rel=1e-12)
    change = (variation(density + 1e-6 * along) - variation(density - 1e-6 * along)) / 2e-6
    assert np.sum((np.conj(slope) * along).real) == pytest.approx(change, rel=1e-6)


def test_what_cannot_be_used():
    measured, far = frames(1e5)
    transport, start = Characteristics(BEAMS, EDGES), crystal()
    with pytest.raises(ScanError, match="mask like them"):
        replace(measured, used=measured.used[1:])
    with pytest.raises(ScanError, match="change of each departure"):
        replace(measured, turning=measured.turning[:3])
    with pytest.raises(ScanError, match="not negative"):
        replace(measured, counts=-measured.counts)
    with pytest.raises(ScanError, match="empty"):
        refine(measured, far, transport, (0 * start[0], start[1]))
    with pytest.raises(ScanError, match="batches"):
        refine(measured, far, transport, start, Settings(method="adam", batches=99))
    with pytest.raises(ScanError, match="must be finite"):
        refine(measured, far, transport, (np.full_like(start[0], np.nan), start[1]))
    for name in ("seed", "shrink_sigma"):
        with pytest.raises(ScanError, match=f"{name} cannot be negative"):
            Settings(**{name: -1})
    with pytest.raises(ScanError, match="free"):
        refine(measured, far, transport, start, Settings(free_share=0.0))
