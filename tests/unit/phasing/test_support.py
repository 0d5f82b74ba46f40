import numpy as np

from live_bcdi.phasing.support import autocorrelation_support, shrinkwrap


def test_first_support_holds_the_object_and_little_more(known):
    mask = np.zeros(known.intensity.shape, bool)
    support = autocorrelation_support(known.intensity, mask)
    # it is centrosymmetric and centred, the object is neither: nine tenths of it must fit
    centred = np.roll(known.support, 16 - np.round(np.argwhere(known.support).mean(axis=0)).astype(int), (0, 1, 2))
    assert (centred & support).sum() > 0.9 * centred.sum()
    assert support.sum() < 5 * known.support.sum()


def test_shrinkwrap_keeps_the_last_support_rather_than_none_or_all():
    previous = np.zeros((10, 10, 10), bool)
    previous[4:6] = True
    flat = np.ones((10, 10, 10), np.float32)
    assert shrinkwrap(flat, 0.5, previous) is previous
    assert shrinkwrap(np.zeros_like(flat), 0.5, previous) is previous
    peak = np.where(previous, flat, 0.2)
    np.testing.assert_array_equal(shrinkwrap(peak, 0.3, np.zeros_like(previous)), previous)
