import numpy as np
import pytest

from live_bcdi.phasing.support import above, autocorrelation_support, bounded_level, otsu_level


def test_first_support_holds_the_object_and_little_more(known):
    mask = np.zeros(known.intensity.shape, bool)
    support = autocorrelation_support(known.intensity, mask)
    # it is centrosymmetric and centred, the object is neither: nine tenths of it must fit
    centred = np.roll(known.support, 16 - np.round(np.argwhere(known.support).mean(axis=0)).astype(int), (0, 1, 2))
    assert (centred & support).sum() > 0.9 * centred.sum()
    assert support.sum() < 5 * known.support.sum()


def test_the_last_support_is_kept_rather_than_none_or_all():
    previous = np.zeros((10, 10, 10), bool)
    previous[4:6] = True
    flat = np.ones((10, 10, 10), np.float32)
    assert above(flat, 0.5, previous) is previous
    assert above(np.zeros_like(flat), 0.0, previous) is previous
    peak = np.where(previous, flat, 0.2)
    np.testing.assert_array_equal(above(peak, 0.3, np.zeros_like(previous)), previous)


def test_otsu_splits_two_groups_of_values():
    rng = np.random.default_rng(0)
    values = 0.1 * rng.random((12, 12, 12), np.float32)
    values[:3] += 0.8
    assert 0.1 <= otsu_level(values) <= 0.81  # 256 bins: the level is a bin's middle
    flat = np.ones((4, 4, 4), np.float32)
    assert not (flat > otsu_level(flat)).any()


@pytest.mark.parametrize(("smallest", "largest", "share"), [(0.2, 0.3, 0.2), (0.0, 0.05, 0.05), (0.05, 0.3, 0.1)])
def test_the_level_is_moved_to_the_nearer_bound(smallest, largest, share):
    values = np.random.default_rng(0).permutation(1000).astype(np.float32).reshape(10, 10, 10)
    level = bounded_level(values, 899.0, smallest, largest)
    assert np.count_nonzero(values > level) == round(1000 * share)
