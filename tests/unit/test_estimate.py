"""A warm start must not know where its box was cut."""

from dataclasses import replace

import numpy as np

from live_bcdi.estimate import _moved, live_estimate
from live_bcdi.stream.fakes import small_geometry
from live_bcdi.types import RockingScan

EDGE = 32


def box_scan() -> RockingScan:
    """The pattern of a box of 8 x 10 x 9 voxels with its peak in the middle of 40 x 48 x 48."""
    shape = (40, 48, 48)
    crystal = np.zeros(shape, complex)
    crystal[16:24, 19:29, 20:29] = 1
    intensity = np.abs(np.fft.fftshift(np.fft.fftn(crystal))) ** 2
    counts = np.random.default_rng(0).poisson(intensity * (1e6 / intensity.sum())).astype(np.int32)
    angles = np.linspace(-0.1, 0.1, shape[0])
    return RockingScan(name="box", intensity=counts, angles_deg=angles, geometry=small_geometry())


SCAN = box_scan()


def test_the_estimate_follows_the_scan():
    """Half a scan already finds a compact object, and a warm start on the whole does not lose it: a noise-free
    box is reached to a few per cent, a random object of its support is at a chi near 1."""
    half = live_estimate(
        replace(SCAN, intensity=SCAN.intensity[:24], angles_deg=SCAN.angles_deg[:24]), edge=EDGE, iterations=60
    )
    whole = live_estimate(SCAN, edge=EDGE, iterations=60, previous=half)
    assert (half.frames, whole.frames) == (24, 40)
    assert whole.chi < 0.1
    assert whole.support.mean() < 0.2


def test_a_box_cut_elsewhere_gives_the_same_volume_and_place():
    whole = live_estimate(SCAN, edge=EDGE, iterations=4)
    row, column = SCAN.geometry.arm_pixel
    cut = replace(
        SCAN,
        intensity=SCAN.intensity[3:, 2:, 5:],
        angles_deg=SCAN.angles_deg[3:],
        geometry=replace(SCAN.geometry, arm_pixel=(row - 2, column - 5)),
    )
    again = live_estimate(cut, edge=EDGE, iterations=4)
    np.testing.assert_allclose(again.place, whole.place, atol=1e-6)


def test_a_moved_box_sees_the_transform_moved():
    estimate = live_estimate(SCAN, edge=EDGE, iterations=4)
    rocking, row, column = estimate.place
    moved = _moved(estimate, (rocking + 2, row - 1, column + 3))

    def transform(density):
        return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(density)))

    np.testing.assert_allclose(
        transform(moved), np.roll(transform(estimate.density), (-2, 1, -3), (0, 1, 2)), atol=2e-3
    )
