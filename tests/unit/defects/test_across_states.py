"""Defects that come, move and go."""

import numpy as np
import pytest

from live_bcdi.defects import Wall, find_lines, follow_lines, follow_walls
from live_bcdi.types import ScanError


@pytest.fixture
def history(ball, dislocation):
    """A line that comes in state 1, goes 8 nm along x a state, and is gone in state 4; one of the other sign that
    stays throughout."""

    def made():
        states = []
        for number in range(5):
            lines = [dislocation((-30, 20, 0), turns=-1.0)]
            if number in (1, 2, 3):
                lines.append(dislocation((10 + 8 * number, -10, 0)))
            states.append(find_lines(ball(*lines, noise=0.4, seed=number)))
        return states

    return made


def test_a_line_is_born_moves_and_heals(history):
    stays, moves = follow_lines(history(), reach_nm=20)
    assert (stays.born, stays.healed, list(stays.seen)) == (None, None, [0, 1, 2, 3, 4])
    assert (moves.born, moves.healed, list(moves.seen)) == (1, 4, [1, 2, 3])
    assert list(moves.moved_nm) == [2, 3]
    for step in moves.moved_nm.values():
        np.testing.assert_allclose(step, (8, 0, 0), atol=2.5)
    for step in stays.moved_nm.values():
        np.testing.assert_allclose(step, 0, atol=2.5)


def test_beyond_its_reach_a_line_is_another(history):
    assert [track.born for track in follow_lines(history(), reach_nm=5)] == [None, 1, 2, 3]


def test_a_line_that_turns_the_other_way_is_another(ball, dislocation):
    states = [find_lines(ball(dislocation((5, 5, 0), turns=turns))) for turns in (1.0, -1.0)]
    first, second = follow_lines(states, reach_nm=50)
    assert (first.healed, second.born) == (1, 1)


def test_a_line_that_is_missed_once_may_be_the_same(history):
    states = history()
    states[2] = []
    assert [track.born for track in follow_lines(states, reach_nm=20)] == [None, 1, 3, 3]
    stays, moves = follow_lines(states, reach_nm=20, gap=1)
    assert (stays.born, stays.healed, moves.born, moves.healed) == (None, None, 1, 4)
    np.testing.assert_allclose(moves.moved_nm[3], (16, 0, 0), atol=3)


def wall(at_nm, normal=(1.0, 0.0, 0.0), jump_rad=1.0):
    return Wall(
        centre_nm=(at_nm, 2.0, 0.0),
        normal=normal,
        area_nm2=400.0,
        jump_rad=jump_rad,
        jump_std_rad=0.1,
        voxels=np.zeros((0, 3), np.int64),
    )


def test_walls_are_followed_along_their_normal():
    moves, other = follow_walls([[wall(0)], [wall(6)], [wall(12), wall(12, (0.0, 1.0, 0.0))]], reach_nm=10)
    assert (moves.born, moves.healed, other.born) == (None, None, 2)
    assert moves.moved_nm == {1: (6.0, 0.0, 0.0), 2: (6.0, 0.0, 0.0)}


def test_a_wall_whose_normal_is_near_a_diagonal_is_one_wall_whichever_part_is_the_largest():
    """A tilt by a degree changes which part is the largest, and so the sign of the normal and of the jump."""
    states = [[wall(0, (0.71, -0.704, 0.0), 1.3)], [wall(3, (-0.704, 0.71, 0.0), -1.2)]]
    (track,) = follow_walls([*states, states[0]], reach_nm=10)
    assert (track.born, track.healed) == (None, None)
    assert [each.jump_rad for each in track.seen.values()] == [1.3, 1.2, 1.3]
    assert track.seen[1].normal == (0.704, -0.71, 0.0)
    np.testing.assert_allclose(track.moved_nm[1], 1.5 * np.array([1, -1, 0]), atol=0.1)


def test_no_states_have_no_tracks_and_a_reach_must_be_positive():
    assert follow_lines([], reach_nm=1) == []
    assert follow_lines([[], []], reach_nm=1) == []
    with pytest.raises(ScanError, match="reach_nm"):
        follow_lines([[]], reach_nm=0)
