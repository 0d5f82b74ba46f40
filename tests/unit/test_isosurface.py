"""Surfaces of solids whose area, volume and sides are known."""

import numpy as np
import pytest

from live_bcdi.isosurface import about_mean_phase, isosurface

RIGHT = np.diag([5.0, 5.0, 5.0])
SHEARED = np.array([[5.0, 1.0, 0.0], [0.0, 4.0, 0.5], [0.3, 0.0, 6.0]])
LEFT = SHEARED @ np.diag([1.0, 1.0, -1.0])


def index(n):
    return np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1) - n // 2


def ball(radius, n=64):
    """Amplitude 2 inside, falling to 0 over a voxel, and the support around it."""
    amplitude = 2 * np.clip(radius - np.linalg.norm(index(n), axis=-1) + 0.5, 0, 1)
    return amplitude.astype(np.complex64), amplitude > 0.2


def corners(surface):
    return surface.vertices[surface.faces].astype(float)


def volume(surface):
    """Enclosed, by the divergence theorem: positive where the faces look outwards."""
    first, second, third = np.moveaxis(corners(surface), 1, 0)
    return np.einsum("ij,ij->", first, np.cross(second, third)) / 6


def area(surface):
    first, second, third = np.moveaxis(corners(surface), 1, 0)
    return np.linalg.norm(np.cross(second - first, third - first), axis=1).sum() / 2


@pytest.mark.parametrize("basis", [RIGHT, SHEARED, LEFT], ids=["right", "sheared", "left"])
def test_a_ball_has_its_volume_and_looks_outwards(basis):
    density, support = ball(20)
    surface = isosurface(density, support, basis)
    assert volume(surface) == pytest.approx(4 / 3 * np.pi * 20**3 * abs(np.linalg.det(basis)), rel=0.01)
    assert surface.level == pytest.approx(0.5, abs=0.02)
    assert surface.step == 1
    back = surface.vertices @ np.linalg.inv(basis).T  # in voxels it is a ball again, about its middle
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 20, atol=0.2)


def test_a_ball_of_cubic_voxels_has_its_area():
    surface = isosurface(*ball(20), RIGHT)
    assert area(surface) == pytest.approx(4 * np.pi * 100.0**2, rel=0.01)


@pytest.mark.parametrize("triangles", [12_000, 3_000, 1_000])
def test_a_surface_is_closed_and_has_no_more_triangles_than_asked(triangles):
    surface = isosurface(*ball(28), RIGHT, triangles=triangles)
    assert 0.7 * triangles < len(surface.faces) <= triangles
    assert volume(surface) == pytest.approx(4 / 3 * np.pi * 140.0**3, rel=0.06)
    edges = np.sort(np.concatenate([surface.faces[:, pair] for pair in ((0, 1), (1, 2), (2, 0))]), axis=1)
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}


def test_a_surface_that_is_all_holes_is_bounded_too():
    """Noise crosses the level everywhere: 64 cubed voxels of it are 300,000 triangles."""
    noise = np.random.default_rng(0).uniform(0, 1, (64, 64, 64)).astype(np.complex64)
    surface = isosurface(noise, np.ones(noise.shape, bool), RIGHT, triangles=20_000)
    assert len(surface.faces) <= 20_000
    assert surface.faces.max() < len(surface.vertices) <= 65_535
    assert surface.faces.dtype == np.uint16


def test_values_are_those_of_the_crystal_at_the_surface():
    density, support = ball(20)
    x, y, _ = np.moveaxis(index(64), -1, 0).astype(np.float32)
    strain = np.where(support, 1e-3 * y, np.nan).astype(np.float32)
    surface = isosurface(density * np.exp(0.04j * x + 2.5j), support, RIGHT, values={"strain": strain})
    place = surface.vertices / 5.0
    np.testing.assert_allclose(surface.values["phase"], 0.04 * place[:, 0], atol=0.04)  # a voxel
    np.testing.assert_allclose(surface.values["strain"], 1e-3 * place[:, 1], atol=1e-3)
    assert {array.dtype for array in (*surface.values.values(), surface.vertices)} == {np.dtype(np.float32)}


def test_a_crystal_that_fills_its_box_is_closed_at_the_walls():
    density = np.ones((20, 20, 20), np.complex64)
    surface = isosurface(density, density.real > 0, RIGHT)
    assert volume(surface) == pytest.approx(100.0**3, rel=0.02)
    assert abs(surface.vertices.mean(axis=0)).max() < 0.1


def test_nothing_has_no_surface():
    nothing = np.zeros((16, 16, 16), np.complex64)
    assert isosurface(nothing, np.zeros(nothing.shape, bool), RIGHT) is None
    assert isosurface(nothing, np.ones(nothing.shape, bool), RIGHT) is None
    unknown = np.full(nothing.shape, np.nan, np.complex64)
    assert isosurface(unknown, np.ones(nothing.shape, bool), RIGHT) is None


def test_the_mean_phase_is_taken_out_of_any_object():
    density, support = ball(8, n=24)
    np.testing.assert_allclose(about_mean_phase(density * np.exp(2.9j), support), density, atol=1e-5)
