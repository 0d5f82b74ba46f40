"""Frames put on a line by how alike they are, of a crystal that goes back and of speckle."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from live_bcdi.config import load_config
from live_bcdi.sim import simulate_tumbling
from live_bcdi.tracking.fringes import fringes_of
from live_bcdi.tracking.seriation import seriated

FRAMES = 80


def speckle(angles, counts, seed=0):
    """Some thirty speckles of 5 steps and 1.5 pixels at `angles` of 60; `counts` are expected of a frame."""
    random = np.random.default_rng(seed)
    parts = ndimage.gaussian_filter(random.normal(size=(2, 60, 48, 48)), (0, 5, 1.5, 1.5), mode="wrap")
    field = ndimage.map_coordinates(
        (parts**2).sum(axis=0),
        np.stack(np.broadcast_arrays(angles[:, None, None], *np.indices((48, 48))[:, None])),
        order=1,
    )
    field *= np.exp(-np.add.outer(*(np.arange(-24, 24.0) ** 2,) * 2) / 200)
    field *= np.asarray(counts).reshape(-1, 1, 1) / field.sum(axis=(1, 2), keepdims=True)
    return random.poisson(field).astype(float)


def test_a_crystal_that_goes_back_over_its_peak_is_seen_to():
    """Root mean square error of the angles by counts, after the best straight line, below half of an even pace's,
    which is six steps; and the frames between the turns go back."""
    config = load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")
    angles = np.interp(np.arange(FRAMES), [0, 40, 56, 79], [-27, 9, -4, 27])
    made = simulate_tumbling(
        config=config,
        angles_steps=angles,
        rolls_deg=np.zeros(FRAMES),
        centre=(230.0, 30.0),
        detector=(60, 60),
        photons=3e3,
        oversampling=6.0,
    )
    images = made.counts.reshape(FRAMES, 30, 2, 30, 2).sum(axis=(2, 4)).astype(float)
    found = seriated(images, fringes_of(images, 0.1))
    bright = images.sum(axis=(1, 2))

    def error(guess):
        line = np.polyfit(guess, angles, 1, w=np.sqrt(bright))
        return np.sqrt(np.average((np.polyval(line, guess) - angles) ** 2, weights=bright))

    assert np.ptp(found) == pytest.approx(1)
    assert error(found) < 0.5 * error(np.arange(FRAMES))
    assert (found[56] - found[40]) * (found[79] - found[0]) < 0


def test_dim_frames_go_on_at_the_usual_pace():
    counts = np.where((np.arange(FRAMES) >= 15) & (np.arange(FRAMES) < 70), 2000, 3)
    images = speckle(np.linspace(2, 57, FRAMES), counts)
    found = seriated(images, fringes_of(images, 0.1))
    steps = np.diff(found) * np.sign(found[-1] - found[0])
    np.testing.assert_allclose(steps[:15], steps[0], rtol=1e-9)
    np.testing.assert_allclose(steps[69:], steps[0], rtol=1e-9)
    assert steps[0] == pytest.approx(np.median(steps[15:69]), rel=0.3)


def test_without_noise_dim_frames_tell_as_well():
    """Frames 21 to 35 go back and return, with a ten-thousandth of the others' counts, and stand so on the line;
    by time alone they would go on."""
    angles = np.interp(np.arange(FRAMES), [0, 20, 28, 36, 79], [2, 30, 22, 30, 57])
    dim = (np.arange(FRAMES) > 20) & (np.arange(FRAMES) < 36)
    images = speckle(angles, np.where(dim, 1e5, 1e9)) / 1e6

    def alike(fringes):
        return np.corrcoef(seriated(images, fringes)[dim], angles[dim])[0, 1]

    assert alike(None) > 0.95
    assert alike(fringes_of(images, 0.1)) < 0.5


def test_few_bright_frames_are_not_put_in_order():
    images = speckle(np.linspace(2, 57, FRAMES), np.where(np.arange(FRAMES) < 8, 2000, 1))
    assert seriated(images, fringes_of(images, 0.1)) is None
