"""The joint likelihood of object, angles and gains: by brute force, by differences, where the truth is known."""

import numpy as np
import pytest

from live_bcdi.tracking.likelihood import FLOOR, Fit, Grid, Joint, Prior

FRAMES, ROWS, COLUMNS = 20, 14, 15
NOMINAL = np.arange(FRAMES) - 9.0
LENGTHS, CENTRE, FIRST = (26.0, 17.0, 18.5), (6.5, 7.0), (-2, -3, -1)


def grid():
    support = np.random.default_rng(0).random((5, 6, 4)) < 0.7
    return Grid(support=support, first=FIRST, lengths=LENGTHS, centre=CENTRE)


def truth(seed=0, photons=3e5):
    """Offsets of 0.3 step, shifts of 0.2 pixel, gains of 1 %."""
    random = np.random.default_rng(seed)
    inside = int(grid().support.sum())
    voxels = np.exp(1j * random.uniform(-1, 1, inside)) * np.sqrt(photons / inside)
    return Fit(voxels=voxels, motion=np.array([[0.3], [0.2], [0.2], [0.01]]) * random.normal(size=(4, FRAMES)))


def joint(counts=None, *, smear=0.0):
    random = np.random.default_rng(1)
    scale, used = random.uniform(0.8, 1.2, FRAMES), random.random((FRAMES, ROWS, COLUMNS)) < 0.95
    counts = np.zeros(used.shape) if counts is None else counts
    prior = Prior(jitter=0.3, shift=0.2, gain=0.02, smear_steps=smear)
    return Joint(counts, used, NOMINAL, scale, grid=grid(), prior=prior), scale


def counted(model, fit, seed=2):
    return np.random.default_rng(seed).poisson(model.expected(fit)).astype(float)


def test_expected_is_the_fourier_sum():
    """Voxel by voxel, at two pixels of two frames; a frame that turns is the mean over 400 places within it."""
    model, scale = joint(smear=0.8)
    fit, where = truth(), np.argwhere(grid().support)
    for frame, row, column in ((3, 2, 11), (12, 9, 5)):
        offset, down, right, gain = fit.motion[:, frame]
        turns = (np.arange(400) + 0.5) / 400 * 0.8 - 0.4
        places = (NOMINAL[frame] + offset + turns, row - CENTRE[0] - down, column - CENTRE[1] - right)
        phase = sum(
            np.multiply.outer(place, where[:, axis] + FIRST[axis]) / LENGTHS[axis]
            for axis, place in enumerate(places)
        )
        light = np.abs(np.exp(-2j * np.pi * phase) @ fit.voxels) ** 2 / np.prod(LENGTHS)
        expected = np.exp(gain) / scale[frame] * light.mean() + FLOOR
        assert model.expected(fit)[frame, row, column] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("smear", [0.0, 0.8])
def test_the_gradient_is_that_of_the_value(smear):
    """By differences along a random direction of each kind of unknown."""
    model, _ = joint(counted(joint(smear=smear)[0], truth(5)), smear=smear)
    fit, random, step = truth(), np.random.default_rng(3), 1e-5
    _, by_voxel, by_motion = model.value(fit)

    def slope(voxels, motion):
        up, down = (
            model.value(Fit(voxels=fit.voxels + sign * step * voxels, motion=fit.motion + sign * step * motion))[0]
            for sign in (1, -1)
        )
        return (up - down) / (2 * step)

    voxels = random.normal(size=fit.voxels.shape) + 1j * random.normal(size=fit.voxels.shape)
    told = np.sum(by_voxel.real * voxels.real + by_voxel.imag * voxels.imag)
    assert slope(voxels, np.zeros((4, FRAMES))) == pytest.approx(told, rel=1e-4)
    for kind in range(4):
        motion = random.normal(size=(4, FRAMES)) * (np.arange(4) == kind)[:, None]
        assert slope(0 * voxels, motion) == pytest.approx((by_motion * motion).sum(), rel=1e-4)


@pytest.mark.parametrize("smear", [0.0, 0.8])
def test_draws_scatter_as_the_inverse_of_the_information(smear):
    """Derivatives by differences, the matrix dense; of 200 draws a variance is known to sqrt(2 / 200) = 10 %, and
    the mean of 80 to 3 %, as its largest modes are shared. With the object known they would be 0.7 of it."""
    model, _ = joint(smear=smear)
    fit, used, step = truth(), joint()[0]._used, 1e-4
    inside, expected = len(fit.voxels), model.expected(fit)

    def moved(x):
        voxels, motion = x[:inside] + 1j * x[inside : 2 * inside], x[2 * inside :].reshape(4, FRAMES)
        return model.expected(Fit(voxels=fit.voxels + voxels, motion=fit.motion + motion))

    units = step * np.eye(2 * inside + 4 * FRAMES)
    slopes = np.array([((moved(x) - moved(-x)) / (2 * step))[used] for x in units])
    prior = np.repeat(np.array([0.3, 0.2, 0.2, 0.02]) ** -2.0, FRAMES)
    matrix = (slopes / expected[used]) @ slopes.T + np.diag(np.concatenate([np.zeros(2 * inside), prior]))
    wanted = np.diagonal(np.linalg.pinv(matrix, hermitian=True))[2 * inside :].reshape(4, FRAMES)
    drawn = model.drawn(fit, 200, np.random.default_rng(0))
    ratio = np.mean(drawn**2, axis=0) / wanted
    np.testing.assert_allclose(ratio.mean(axis=1), 1, atol=0.1)
    assert ratio.min() > 0.6 and ratio.max() < 1.5
    known = np.diagonal(model.known(fit), axis1=1, axis2=2).T
    assert (known / wanted).mean() < 0.8


def test_a_frame_in_another_minimum_is_sought():
    """The object is known, and frames 4 and 15 begin five steps off: from there descent alone leaves them."""
    model, _ = joint()
    true = truth(7)
    model, _ = joint(counted(model, true))
    away = true.motion.copy()
    away[0, [4, 15]] += 5
    found = model.sought(Fit(voxels=true.voxels, motion=away), np.linspace(-1, 1, 21))
    kept = np.delete(np.arange(FRAMES), [4, 15])
    assert np.abs(found.motion[0] - true.motion[0])[[4, 15]].max() < 0.2
    assert np.abs(found.motion[0] - true.motion[0])[kept].max() < 0.2
    np.testing.assert_array_equal(found.motion[1:], away[1:])


def test_motion_comes_to_its_bound():
    """From no motion. The bound is for a known object: 2.5 times its square is left for the unknown one, whose 170
    numbers are a twentieth of the 4000 pixels. Shift and stretch are not in it, which nothing shows."""
    model, _ = joint()
    true = truth(7)
    model, _ = joint(counted(model, true))
    found = model.solved(Fit(voxels=true.voxels * 1.02, motion=np.zeros((4, FRAMES))), 200)
    known = np.sqrt(np.diagonal(model.known(found), axis1=1, axis2=2).T)
    for row in range(3):
        error, moved = (
            each - np.polyval(np.polyfit(NOMINAL, each, 1), NOMINAL)
            for each in (found.motion[row] - true.motion[row], true.motion[row])
        )
        assert np.mean((error / known[row]) ** 2) < 2.5, row
        assert np.sqrt(np.mean(error**2)) < 0.2 * np.sqrt(np.mean(moved**2)), row


def test_the_turn_within_a_frame_is_seen():
    """Frames that turn by a step each: the model that knows is likelier by e^67, which counting noise moves by
    sqrt(2 * 67) = 12 in the exponent."""
    true = truth(8)
    for smear in (0.0, 1.0):
        counts = counted(joint(smear=smear)[0], true)
        values = {tried: joint(counts, smear=tried)[0].value(true)[0] for tried in (0.0, 1.0)}
        assert values[1 - smear] - values[smear] > 30
