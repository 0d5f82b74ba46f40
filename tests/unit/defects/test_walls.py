"""Walls against those that were put in."""

from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.defects import find_lines, find_walls
from live_bcdi.defects.lines import without_turns
from live_bcdi.types import ScanError

VOXEL_NM, RADIUS_NM = 5.0, 75.0
NORMAL = np.array([2.0, 1.0, -0.5]) / np.linalg.norm([2.0, 1.0, -0.5])


def wall(jump, offset_nm=12.0, width_nm=4.0):
    """With strain on both sides; as wide as an image makes it."""

    def phase(points):
        x, y, _ = np.moveaxis(points / RADIUS_NM, -1, 0)
        return 0.5 * jump * np.tanh((points @ NORMAL - offset_nm) / width_nm) + 1.2 * np.sin(x + y)

    return phase


@pytest.mark.parametrize("jump", [1.5, -2.0, 2.7])
def test_a_wall_is_found_with_place_normal_area_and_jump(ball, jump):
    image = ball(phase=wall(jump), noise=0.3)
    (found,) = find_walls(image, find_lines(image))
    np.testing.assert_allclose(found.normal, NORMAL, atol=0.06)
    assert abs(np.dot(found.centre_nm, NORMAL) - 12) < VOXEL_NM
    assert found.jump_rad == pytest.approx(jump, abs=0.25)
    # the disc at 12 nm, less two voxels of margin, and more or less a voxel of the rim
    reach = np.sqrt(RADIUS_NM**2 - 12**2) - 2 * VOXEL_NM
    assert 0.7 * np.pi * reach**2 < found.area_nm2 < 1.25 * np.pi * reach**2


def test_strain_and_a_dislocation_have_no_wall(ball, dislocation):
    for image in (ball(phase=wall(0.0), noise=0.3), ball(dislocation((10, 5, 0)), noise=0.3)):
        assert find_walls(image, find_lines(image)) == []


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_wall_that_a_dislocation_goes_through_is_found_whole(ball, dislocation, sign):
    """Nearly all of it, with its jump: the dislocation's turn would be a slope of 1/r, and no one jump."""
    image = ball(dislocation((15, -10, 5), (1, 0.3, 0.8), turns=sign), phase=wall(2.2), noise=0.3)
    lines = find_lines(image)
    assert len(lines) == 1
    found = find_walls(image, lines)
    assert len(found) == 1
    np.testing.assert_allclose(found[0].normal, NORMAL, atol=0.1)
    assert found[0].jump_rad == pytest.approx(2.2, abs=0.3)
    reach = np.sqrt(RADIUS_NM**2 - 12**2) - 2 * VOXEL_NM
    assert found[0].area_nm2 > 0.7 * np.pi * reach**2


def test_what_turns_about_a_line_is_taken_off(ball, dislocation):
    """Of a screw nothing is left; away from the core, to what noise and half a voxel of place make."""
    true = dislocation((17, -8, 0), (0, 0.2, 1))
    image = ball(true, noise=0.1)
    flat = without_turns(image.density, find_lines(image), VOXEL_NM)
    points = np.stack(np.meshgrid(*[(np.arange(40) - 20) * VOXEL_NM] * 3, indexing="ij"), axis=-1)
    far = image.support & (true.distance_nm(points) > 3 * VOXEL_NM)
    mean = flat[far].mean()
    assert np.std(np.angle(flat[far] / mean)) < 0.2
    assert np.std(np.angle(image.density[far])) > 1.5


def test_an_empty_support_is_refused(ball):
    image = ball()
    with pytest.raises(ScanError, match="support is empty"):
        find_walls(replace(image, support=np.zeros_like(image.support)), [])
