import numpy as np
import pytest

from live_bcdi.steering.centre import fit_eucentric
from live_bcdi.types import ScanError


def seen(across, along, angles, noise=0.0, seed=0):
    turn = np.deg2rad(angles - angles.mean())
    places = 3.0 + across * np.sin(turn) + along * (np.cos(turn) - 1)
    return places + noise * np.random.default_rng(seed).standard_normal(len(angles))


def test_how_far_off_the_axis_it_is():
    angles = np.linspace(-30, 50, 9)
    found = fit_eucentric(angles, seen(12.0, -7.0, angles), np.full(9, 0.1))
    assert (found.middle, found.across, found.along) == pytest.approx((3.0, 12.0, -7.0), abs=1e-4)
    assert found.misfit < 1e-3
    assert not found.is_within(1.0, 10.0)
    assert fit_eucentric(angles, seen(0.5, 0.1, angles), np.full(9, 0.1)).is_within(1.0, 10.0)


def test_the_error_bars_are_the_scatter():
    angles = np.linspace(10, 30, 7)
    found = [fit_eucentric(angles, seen(12.0, -7.0, angles, 0.2, seed), np.full(7, 0.2)) for seed in range(400)]
    for name in ("middle", "across", "along"):
        values, errors = (np.array([getattr(each, part) for each in found]) for part in (name, f"{name}_std"))
        assert values.std() == pytest.approx(errors.mean(), rel=0.15)
    assert np.sqrt(np.mean([each.misfit**2 for each in found])) == pytest.approx(1.0, rel=0.1)


def test_small_rotations_say_nothing_of_the_other_direction():
    angles = np.linspace(-1, 1, 5)
    found = fit_eucentric(angles, seen(5.0, 5.0, angles), np.full(5, 0.1))
    assert found.along_std > 100 * found.across_std


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ScanError, match="different"):
        fit_eucentric(np.array([1.0, 1.0, 2.0]), np.zeros(3), np.ones(3))
    with pytest.raises(ScanError, match="finite"):
        fit_eucentric(np.array([1.0, 2.0, 3.0]), np.array([0, np.nan, 1]), np.ones(3))
    with pytest.raises(ScanError, match="zero"):
        fit_eucentric(np.array([1.0, 2.0, 3.0]), np.zeros(3), np.zeros(3))
