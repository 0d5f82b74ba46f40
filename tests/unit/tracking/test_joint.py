"""The joint likelihood of object, angles and gains: by brute force, by differences, where the truth is known."""

import numpy as np
import pytest

from live_bcdi.tracking.joint import FLOOR, Fit, Grid, Joint, Prior

FRAMES, ROWS, COLUMNS = 20, 14, 15
NOMINAL = np.arange(FRAMES) - 9.0
LENGTHS, CENTRE, FIRST = (26.0, 17.0, 18.5), (6.5, 7.0), (-2, -3, -1)


def grid():
    support = np.random.default_rng(0).random((5, 6, 4)) < 0.7
    return Grid(support=support, first=FIRST, lengths=LENGTHS, centre=CENTRE)


def truth(seed=0, photons=3e5):
    random = np.random.default_rng(seed)
    inside = int(grid().support.sum())
    voxels = np.exp(1j * random.uniform(-1, 1, inside))
    voxels *= np.sqrt(photons / inside)
    return Fit(
        voxels=voxels, offsets=0.3 * random.normal(size=FRAMES), gains=np.log(random.uniform(0.98, 1.02, FRAMES))
    )


def joint(counts=None, *, smear=0.0, jitter=0.3):
    random = np.random.default_rng(1)
    scale, used = random.uniform(0.8, 1.2, FRAMES), random.random((FRAMES, ROWS, COLUMNS)) < 0.95
    made = np.zeros((FRAMES, ROWS, COLUMNS)) if counts is None else counts.reshape(FRAMES, ROWS, COLUMNS)
    prior = Prior(jitter=jitter, gain=0.02, smear_steps=smear)
    return Joint(made, used, NOMINAL, scale, grid=grid(), prior=prior), scale


def counted(model, fit, seed=2):
    return np.random.default_rng(seed).poisson(model.expected(fit)).astype(float)


def test_expected_is_the_fourier_sum():
    """Voxel by voxel, at two pixels of two frames; a frame that turns is the mean over 400 places within it."""
    model, scale = joint(smear=0.8)
    fit, where = truth(), np.argwhere(grid().support)
    for frame, row, column in ((3, 2, 11), (12, 9, 5)):
        turns = (np.arange(400) + 0.5) / 400 * 0.8 - 0.4
        places = (NOMINAL[frame] + fit.offsets[frame] + turns, row - CENTRE[0], column - CENTRE[1])
        phase = sum(
            np.multiply.outer(place, where[:, axis] + FIRST[axis]) / LENGTHS[axis]
            for axis, place in enumerate(places)
        )
        light = np.abs(np.exp(-2j * np.pi * phase) @ fit.voxels) ** 2 / np.prod(LENGTHS)
        expected = np.exp(fit.gains[frame]) / scale[frame] * light.mean() + FLOOR
        assert model.expected(fit)[frame, row * COLUMNS + column] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("smear", [0.0, 0.8])
def test_the_gradient_is_that_of_the_value(smear):
    """By differences along a random direction of each kind of unknown."""
    model, _ = joint(smear=smear)
    model, _ = joint(counted(model, truth(5)), smear=smear)
    fit, random, step = truth(), np.random.default_rng(3), 1e-5
    _, *slopes = model.value(fit)
    move = random.normal(size=fit.voxels.shape) + 1j * random.normal(size=fit.voxels.shape)
    turn, brighter = random.normal(size=(2, FRAMES))
    for by_voxel, by_offset, by_gain in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        after, before = (
            model.value(
                Fit(
                    voxels=fit.voxels + sign * by_voxel * step * move,
                    offsets=fit.offsets + sign * by_offset * step * turn,
                    gains=fit.gains + sign * by_gain * step * brighter,
                )
            )[0]
            for sign in (1, -1)
        )
        told = by_voxel * np.sum(slopes[0].real * move.real + slopes[0].imag * move.imag)
        told += by_offset * slopes[1] @ turn + by_gain * slopes[2] @ brighter
        assert (after - before) / (2 * step) == pytest.approx(told, rel=1e-4)


def test_angles_come_to_their_bound():
    """From the nominal angles. The bound is for a known object: 2.5 times its square is left for the unknown one,
    whose 170 numbers are a twentieth of the 4000 counts' pixels."""
    model, _ = joint()
    true = truth(7)
    model, _ = joint(counted(model, true))
    start = Fit(voxels=true.voxels * 1.02, offsets=np.zeros(FRAMES), gains=np.zeros(FRAMES))
    found = model.solved(start, 200)
    error = found.offsets - true.offsets
    error -= np.polyval(np.polyfit(NOMINAL, error, 1), NOMINAL)
    assert np.mean((error / model.known_std(found)) ** 2) < 2.5
    assert np.sqrt(np.mean(error**2)) < 0.2 * np.sqrt(np.mean(true.offsets**2))


def test_the_turn_within_a_frame_is_seen():
    """Frames that turn by a step each: the model that knows is likelier by e^67, which counting noise moves by
    sqrt(2 * 67) = 12 in the exponent."""
    still, _ = joint()
    turned, _ = joint(smear=1.0)
    true = truth(8)
    counts = counted(turned, true)
    values = {smear: joint(counts, smear=smear)[0].value(true)[0] for smear in (0.0, 1.0)}
    assert values[0.0] - values[1.0] > 30
    values = {smear: joint(counted(still, true), smear=smear)[0].value(true)[0] for smear in (0.0, 1.0)}
    assert values[1.0] - values[0.0] > 30
