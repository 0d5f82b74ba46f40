"""Unwrapping with dislocations, filling, principal components: each against what was put in."""

from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.series import align_series, order_parameters
from live_bcdi.series.filling import filled
from live_bcdi.series.unwrapping import unwrapped
from live_bcdi.types import ScanError


@pytest.fixture
def ball():
    """Places (3, x, y, z) in units of the radius, and the ball."""
    place = (np.indices((30, 30, 30)) - 15) / 13.0
    return place, np.linalg.norm(place, axis=0) < 1


def correlation(found, expected, support):
    return float(np.corrcoef(found[support], expected[support])[0, 1])


def test_a_phase_of_many_turns_is_unwrapped_as_it_is(ball):
    (x, y, z), support = ball
    phase = 9 * x * y + 5 * np.sin(2 * z)
    found = unwrapped(support * np.exp(1j * phase), support)
    np.testing.assert_allclose(found[support], phase[support] - phase[support].mean(), atol=1e-6)
    assert np.isnan(found[~support]).all()


def test_of_a_dislocation_what_turns_is_left_out_and_the_strain_stays(ball):
    (x, y, z), support = ball
    strain, turn = 2 * x * z + 1.5 * np.sin(2 * y), np.angle(x - 0.021 + 1j * (y + 0.013))
    found = unwrapped(support * np.exp(1j * (strain + turn)), support)
    assert correlation(found, strain, support) > 0.97
    assert correlation(turn + strain, strain, support) < 0.9
    alone = unwrapped(support * np.exp(1j * turn), support)
    assert np.nanstd(alone) < 0.1 * np.std(turn[support])


def test_what_a_state_lacks_is_filled_from_the_others_and_said(image):
    orders, hole = (0.0, 0.25, 0.5, 0.75), np.array([20.0, 0.0, 10.0])
    whole = align_series([image(order) for order in orders])
    place = np.moveaxis(np.indices(whole.support.shape), 0, -1) - np.array(whole.support.shape) // 2
    lost = np.linalg.norm(5.0 * place - hole, axis=-1) < 12
    densities, supports = whole.density.copy(), whole.supports.copy()
    densities[2][lost], supports[2][lost] = 0.02j, False
    series = replace(whole, density=densities, supports=supports)
    density, lacking = filled(series)
    missing = lacking[2] & lost
    # the ball of 12 nm is 58 voxels of 5 nm
    assert 40 < missing.sum() < 80
    np.testing.assert_array_equal(lacking, series.support & ~series.supports)
    untouched = series.support & ~lacking[2]
    np.testing.assert_array_equal(density[2][untouched], series.density[2][untouched])
    turned = density[2] * whole.density[2].conj()
    assert np.sqrt(np.mean(np.angle(turned[missing]) ** 2)) < 0.05
    np.testing.assert_allclose(np.abs(density[2][missing]), np.abs(whole.density[2][missing]), rtol=0.25)


def modes(ball):
    (x, y, z), support = ball
    first, second = x * y * support, (z**2 - 0.2) * support
    return first, second, support


def test_a_growing_mode_has_its_order_parameter_and_its_map(ball):
    first, _, support = modes(ball)
    amounts = np.array([0.0, 1.0, 3.0, 2.0])
    found = order_parameters(amounts[:, None, None, None] * first + 0.7, support)
    size = float(np.std(first[support]))
    np.testing.assert_allclose(found.scores[:, 0], amounts * size, atol=1e-9)
    assert found.explained[0] == pytest.approx(1)
    assert np.nanmean(found.maps[0] ** 2) == pytest.approx(1, rel=1e-5)
    part = found.part_of(3)
    np.testing.assert_allclose(part[support], 2 * (first - first[support].mean())[support], atol=1e-5)


def test_the_share_of_each_component_is_that_of_its_squares(ball):
    first, second, support = modes(ball)
    second = second - support * (second[support] @ first[support]) / (first[support] @ first[support]) * first
    amounts = np.array([[0, 0], [3, 0], [0, 1.0]])
    fields = np.einsum("sk,kxyz->sxyz", amounts, np.stack([first, second]))
    squares = [9 * np.var(first[support]), np.var(second[support])]
    found = order_parameters(fields, support)
    np.testing.assert_allclose(found.explained, np.array(squares) / sum(squares), atol=1e-3)


def test_axes_may_be_from_some_states_and_scores_are_of_all(ball):
    first, second, support = modes(ball)
    fields = np.stack([0 * first, first, 2 * first, first + 5 * second])
    found = order_parameters(fields, support, from_states=[0, 1, 2])
    assert found.from_states == (0, 1, 2)
    np.testing.assert_allclose(found.scores[:3, 0], np.arange(3) * np.std(first[support]), atol=1e-9)
    assert abs(correlation(found.maps[0], first, support)) == pytest.approx(1, abs=1e-6)


def test_states_that_do_not_differ_have_no_component(ball):
    first, _, support = modes(ball)
    with pytest.raises(ScanError, match="do not differ"):
        order_parameters(np.zeros((3, *support.shape)), support)
    with pytest.raises(ScanError, match="do not differ"):
        order_parameters(1e-6 * np.stack([first, -first]), support)
    with pytest.raises(ScanError, match="two states"):
        order_parameters(np.stack([first, first]), support, from_states=[0])
