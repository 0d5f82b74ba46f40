"""Refinement of a crystal whose answer is known, on counts made on a finer grid; what must be refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

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


def frames(photons, offsets=0.0):
    """Counts from the crystal on twice as fine a grid."""
    q = 2 * np.pi / (30 * EDGES[0]) * (np.arange(30) - 15)
    momenta = np.stack(np.meshgrid(q, q, indexing="ij"), axis=-1)[:, :, None]
    edges = EDGES / 2
    passage = Characteristics(BEAMS, edges).march(*crystal(2), BEAMS.turned(ANGLES + offsets))
    expected = FarField(momenta, edges).intensities(passage.eh)
    counts = np.random.default_rng(1).poisson(expected * photons / expected.sum()).astype(float)
    measured = Frames(
        counts=counts,
        delta_q=BEAMS.turned(ANGLES),
        turning=BEAMS.turning(ANGLES),
        used=np.random.default_rng(2).random(counts.shape) > 0.01,
    )
    return measured, FarField(momenta, EDGES)


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


def test_angles_are_found():
    offsets = STEP / 3 * np.random.default_rng(5).normal(size=len(ANGLES))
    offsets -= offsets.mean()
    measured, far = frames(3e7, offsets)
    transport, start = Characteristics(BEAMS, EDGES), kinematical_start()
    results = [
        refine(measured, far, transport, start, Settings(epochs=60, smoothing=0.5, **more))
        for more in ({}, {"angle_prior_rad": STEP / 3})
    ]
    left = results[1].offsets_rad - offsets
    count = np.arange(len(left)) - 13
    left = (left - np.polyval(np.polyfit(count, left, 1), count))[6:-6]  # the outermost frames say too little
    assert np.std(left) < 0.2 * np.std(offsets)
    assert results[1].free_misfits[-1] < 0.2 * results[0].free_misfits[-1]
    errors = [phase_error(result.density, True) for result in results]
    assert errors[1] < 0.09 < 0.12 < errors[0]


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
