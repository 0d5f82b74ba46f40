"""The one pass over a frame against numpy, for every kind of number that a detector may send."""

import numpy as np
import pytest

from live_bcdi.cleaning import counts_of
from live_bcdi.stream.pixels import PixelSums, plain_image

SHAPE = (97, 131)  # more than one block, and no whole number of them
DTYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">u2", ">i4", ">f8", "?"]


def frames(dtype, number=4):
    """Sparse counts, with pixels of no reading: negative, or all bits of an unsigned one."""
    rng = np.random.default_rng(3)
    made = []
    for _ in range(number):
        image = np.minimum(rng.poisson(0.3, SHAPE) * rng.integers(0, 90, SHAPE), 100).astype(dtype)
        if image.dtype.kind == "u":
            image[rng.random(SHAPE) < 0.01] = np.iinfo(image.dtype.name).max
        elif image.dtype.kind in "if":
            image[rng.random(SHAPE) < 0.01] = -1
        made.append(image)
    return made


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", [False, True])
def test_sums_and_maxima_are_those_of_numpy(dtype, masked):
    bad = np.random.default_rng(4).random(SHAPE) < 0.05 if masked else None
    images = frames(dtype)
    pixels = PixelSums(SHAPE, plain_image(images[0]).dtype, bad)
    for image in images:
        counts = (image if dtype == "?" else counts_of(image)).astype(float)
        usable = counts if bad is None else np.where(bad, 0, counts)
        assert pixels.add(plain_image(image)) == (counts.sum(), usable.max(), usable.argmax())
    every = np.array([image if dtype == "?" else counts_of(image) for image in images], float)
    np.testing.assert_array_equal(pixels.brightest, every.max(axis=0))
    np.testing.assert_array_equal(pixels.sums, every.sum(axis=0))


def test_the_largest_signed_number_is_a_count_and_what_is_not_finite_is_none():
    image = np.zeros(SHAPE, np.int16)
    image[5, 6] = np.iinfo(np.int16).max
    assert PixelSums(SHAPE, np.int16, None).add(plain_image(image))[:2] == (32767, 32767)
    floats = np.ones(SHAPE)
    floats[0, :3] = np.nan, np.inf, -np.inf
    assert PixelSums(SHAPE, float, None).add(plain_image(floats)) == (floats.size - 3, 1.0, 3)


def test_a_frame_without_counts_has_no_brightest_pixel():
    assert PixelSums(SHAPE, np.uint16, None).add(plain_image(np.zeros(SHAPE, np.uint16))) == (0, 0, -1)


def test_an_image_that_is_not_contiguous_is_taken_as_it_looks():
    image = np.arange(97 * 262, dtype=np.int32).reshape(97, 262)[::-1, ::2]
    assert PixelSums(SHAPE, np.int32, None).add(plain_image(image))[0] == image.sum()


def test_the_blob_is_no_hot_pixel_and_no_masked_one():
    image = np.zeros(SHAPE, np.uint32)
    image[20, 30] = 1_000_000  # hot, alone
    image[96, 130] = 500_000  # in the corner
    image[50:54, 60:64] = 70_000  # marked as bad
    image[70:75, 100:105] = 900
    image[72, 102] = 2000
    bad = np.zeros(SHAPE, bool)
    bad[50:54, 60:64] = True
    pixels = PixelSums(SHAPE, np.uint32, bad)
    pixels.add(plain_image(image))
    row, column = pixels.blob()
    assert abs(row - 72) <= 1 and abs(column - 102) <= 1
