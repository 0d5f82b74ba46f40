import numpy as np
import pytest

from live_bcdi.phasing.support import autocorrelation_support, level_of_share, otsu_level


def test_first_support_holds_the_object_and_little_more(known):
    mask = np.zeros(known.intensity.shape, bool)
    support = autocorrelation_support(known.intensity, mask)
    # it is centrosymmetric and centred, the object is neither: nine tenths of it must fit
    centred = np.roll(known.support, 16 - np.round(np.argwhere(known.support).mean(axis=0)).astype(int), (0, 1, 2))
    assert (centred & support).sum() > 0.9 * centred.sum()
    assert support.sum() < 5 * known.support.sum()


def test_otsu_splits_two_groups_of_values():
    rng = np.random.default_rng(0)
    values = 0.1 * rng.random((12, 12, 12), np.float32)
    values[:3] += 0.8
    assert 0.1 <= otsu_level(values) <= 0.81  # 256 bins: the level is a bin's middle
    flat = np.ones((4, 4, 4), np.float32)
    assert not (flat > otsu_level(flat)).any()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 1.0])
def test_a_level_of_share_has_that_share_above_it(share):
    rng = np.random.default_rng(0)
    values = np.stack([rng.permutation(1000), 7 + rng.permutation(1000)]).astype(np.float32)
    levels = level_of_share(values.reshape(2, 10, 10, 10), share)
    expected = min(round(1000 * share), 999)  # never below the smallest value
    np.testing.assert_array_equal((values > levels[:, None]).sum(axis=1), expected)
