"""The forward-backward pass against the sum over all paths, which is what it must be."""

from itertools import pairwise, product

import numpy as np
import pytest

from live_bcdi.tracking.walk import angle_step, forward_backward, roll_step


def test_chances_and_likelihood_are_those_of_all_paths():
    random = np.random.default_rng(0)
    frames, rolls, angles = 4, 2, 3
    seen = random.normal(size=(frames, rolls, angles)) * 3
    turn = [random.uniform(0.1, 1, (rolls, rolls)) for _ in range(frames - 1)]
    move = [random.uniform(0.1, 1, (angles, angles)) for _ in range(frames - 1)]
    chance, total = np.zeros_like(seen), 0.0
    states = list(product(range(rolls), range(angles)))
    for path in product(states, repeat=frames):
        weight = np.exp(sum(seen[k, n, j] for k, (n, j) in enumerate(path))) / (rolls * angles)
        for k, ((n, j), (m, i)) in enumerate(pairwise(path)):
            weight *= turn[k][n, m] * move[k][j, i]
        total += weight
        for k, (n, j) in enumerate(path):
            chance[k, n, j] += weight
    found = forward_backward(seen, turn, move)
    np.testing.assert_allclose(found.chance, chance / total, rtol=1e-12)
    assert found.log_likelihood == pytest.approx(np.log(total))


def test_steps_are_chances_that_go_where_they_say():
    grid = np.linspace(0, 10, 41)
    step = angle_step(grid, 1.5, 0.3)
    np.testing.assert_allclose(step.sum(axis=1), 1)
    assert grid[step[8].argmax()] == pytest.approx(grid[8] + 1.5)
    assert step[8].min() > 0  # a jump is never ruled out
    turn = roll_step(np.array([0.0, 1.0]), np.array([1.0, 2.0]), 0.2)
    assert turn[1, 0] > 0.9 and turn[0, 1] < 0.01


def test_frames_that_say_nothing_follow_their_neighbours():
    grid = np.arange(9.0)
    seen = np.zeros((3, 1, 9))
    seen[0, 0, 2] = seen[2, 0, 4] = 50.0
    steps = [angle_step(grid, 0.0, 1.0)] * 2
    found = forward_backward(seen, [np.ones((1, 1))] * 2, steps)
    assert found.chance[1, 0] @ grid == pytest.approx(3.0, abs=0.05)
