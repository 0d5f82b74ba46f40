"""A pattern on the network's grid is that of the same crystal, wherever it was cut, binned or padded."""

import numpy as np
import pytest

from live_bcdi.phasing import Pattern
from live_bcdi.phasing.metrics import centred_transform
from live_bcdi_models.grid import Grid, scaled

EDGE = 32


def grid_of(shape, bins):
    return Grid(shape=shape, bins=bins, oversampling=(3.0, 3.0, 3.0))


def box(shape, half):
    density = np.zeros(shape, np.complex64)
    density[tuple(slice(n // 2 - h, n // 2 + h + 1) for n, h in zip(shape, half))] = 1
    return density


@pytest.mark.parametrize("shape", [(64, 64, 64), (40, 96, 33), (24, 50, 70)])
@pytest.mark.parametrize("bins", [(1, 1, 1), (2, 1, 3)])
def test_there_and_back_is_the_same_object(shape, bins):
    """Of one that both grids can show: no finer than either's voxels, no larger than either's field."""
    place = np.indices((EDGE,) * 3) - EDGE // 2
    density = np.exp(-(place**2).sum(0) / 24 + 0.1j * place[0]).astype(np.complex64)
    grid = grid_of(shape, bins)
    back = grid.network_object(grid.measured_object(density))
    assert np.linalg.norm(back - density) < 5e-3 * np.linalg.norm(density)


@pytest.mark.parametrize("bins", [(1, 1, 1), (3, 1, 1), (2, 1, 1)])
def test_a_voxel_of_the_network_s_pattern_is_that_of_the_measured_one(bins):
    """By the definition of the transform, at the place in q that the middle of each bin has."""
    shape, by = (96, 40, 48), bins[0]
    x, y, z = np.indices((EDGE,) * 3) - EDGE // 2
    density = np.exp(-(x**2 + y**2 + z**2) / 24 + 0.1j * x + 0.02j * x * (x + y)).astype(np.complex64) * (
        1 + x / 20
    )
    grid = grid_of(shape, bins)
    measured = grid.measured_object(density)
    small = centred_transform(density)[:, EDGE // 2, EDGE // 2]
    place = np.arange(shape[0]) - shape[0] // 2
    middle = by * (np.arange(EDGE) - EDGE // 2) + (by - 1) / 2 - by // 2
    inside = np.abs(middle) < shape[0] / 2 - by
    wave = np.exp(-2j * np.pi * np.outer(middle[inside], place) / shape[0])
    large = wave @ measured.sum((1, 2))
    np.testing.assert_allclose(large / large[14] * small[inside][14], small[inside], atol=0.01 * abs(small).max())


def test_counts_are_summed_and_a_bin_that_is_partly_measured_stands_for_the_rest():
    intensity = np.ones((64, 64, 64), np.float32)
    mask = np.zeros(intensity.shape, bool)
    mask[:, :, 10] = True
    mask[:20] = True
    seen = grid_of((64, 64, 64), (2, 2, 2)).seen(Pattern(intensity=intensity, mask=mask))
    known = seen.intensity[~seen.mask]
    assert seen.intensity.shape == (EDGE,) * 3
    # the bin of voxel 32 - 1 and 32 is 16, so that plane 10 is in bin 5, half of which is known
    np.testing.assert_array_equal(known, 8)
    np.testing.assert_array_equal(seen.mask.all(axis=(1, 2)), np.arange(EDGE) < 10)
    assert not seen.mask[16].all()


def test_what_lies_beyond_the_pattern_was_not_measured():
    intensity = np.ones((20, 64, 30), np.float32)
    seen = grid_of((20, 64, 30), (1, 1, 1)).seen(
        Pattern(intensity=intensity, mask=np.zeros(intensity.shape, bool))
    )
    np.testing.assert_array_equal(np.flatnonzero(~seen.mask.all(axis=(1, 2))), np.arange(6, 26))
    np.testing.assert_array_equal(np.flatnonzero(~seen.mask.all(axis=(0, 1))), np.arange(1, 31))
    assert not seen.mask[6:26, :, 1:31].any()


@pytest.mark.parametrize("measured", [1.0, 0.5])
def test_a_small_crystal_is_binned_and_half_a_scan_changes_little(measured):
    """A box of 7 x 9 x 15 voxels in 64: oversampling 9.1, 7.1 and 4.3."""
    intensity = np.abs(centred_transform(box((64, 64, 64), (3, 4, 7)))) ** 2
    mask = np.zeros(intensity.shape, bool)
    mask[round(64 * measured) + 1 :] = True
    grid = Grid.of(Pattern(intensity=intensity, mask=mask))
    assert grid.bins[1:] == (2, 1)
    # the estimate is of whole voxels of the crystal's extent, after a margin: a sixth of 7 voxels
    np.testing.assert_allclose(np.array(grid.oversampling) * grid.bins, (64 / 7, 64 / 9, 64 / 15), rtol=0.25)


def test_the_scale_is_that_of_the_counts():
    density = box((32, 32, 32), (3, 3, 4))
    intensity = 7.0 * np.abs(centred_transform(density)) ** 2
    mask = np.random.default_rng(0).random(intensity.shape) < 0.3
    found = scaled(5 * density, Pattern(intensity=intensity, mask=mask))
    np.testing.assert_allclose(found, np.sqrt(7.0) * density, rtol=1e-4)
