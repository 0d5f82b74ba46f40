"""The types refuse what cannot be a scan."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from live_bcdi.types import Geometry, RockingScan, Rotation, ScanError


@pytest.fixture
def geometry() -> Geometry:
    return Geometry(
        energy_kev=9.0,
        distance_m=0.5,
        pixel_um=(55.0, 55.0),
        arm_pixel=(1.0, 1.0),
        beam_direction=(0.0, 0.0, 1.0),
        row_direction=(0.0, -1.0, 0.0),
        column_direction=(1.0, 0.0, 0.0),
        sample=(Rotation(motor="theta", axis=(0.0, 1.0, 0.0), angle_deg=0.0),),
        arm=(Rotation(motor="delta", axis=(0.0, 1.0, 0.0), angle_deg=30.0),),
        rocking="theta",
    )


@pytest.fixture
def scan(geometry) -> RockingScan:
    return RockingScan(
        name="s", intensity=np.zeros((3, 4, 5), np.int32), angles_deg=np.arange(3.0), geometry=geometry
    )


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", ["energy_kev", "distance_m"])
def test_energy_and_distance_must_be_positive(geometry, name, value):
    with pytest.raises(ScanError, match=f"{name} must be positive"):
        replace(geometry, **{name: value})


def test_a_motor_must_have_a_position(geometry):
    lost = replace(geometry.arm[0], angle_deg=np.nan)
    with pytest.raises(ScanError, match="'delta' has no finite position"):
        replace(geometry, arm=(lost,))


def test_rocking_must_be_a_sample_circle(geometry):
    with pytest.raises(ScanError, match="'delta' is not a sample circle; they are theta"):
        replace(geometry, rocking="delta")


@pytest.mark.parametrize("vector", [(0.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, np.nan, 1.0), (0.0, 1.0 + 2e-6, 0.0)])
def test_axes_and_directions_are_unit_vectors(geometry, vector):
    turned = replace(geometry.arm[0], axis=vector)
    with pytest.raises(ScanError, match="the axis of motor 'delta' must be a vector of length 1"):
        replace(geometry, arm=(turned,))
    for name in ("beam_direction", "row_direction", "column_direction"):
        with pytest.raises(ScanError, match=f"{name} must be a vector of length 1"):
            replace(geometry, **{name: vector})


def test_a_direction_of_six_digits_is_one(geometry):
    replace(geometry, beam_direction=(0.707107, 0.0, 0.707107))


@pytest.mark.parametrize("name", ["beam_direction", "row_direction"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_detector_seen_edge_on_is_none(geometry, name, sign):
    with pytest.raises(ScanError, match="lie in one plane"):
        replace(geometry, **{name: (sign, 0.0, 0.0)})


@pytest.mark.parametrize("pixel", [(0.0, 55.0), (55.0, -1.0), (np.nan, 55.0), (55.0, np.inf)])
def test_pixels_have_a_size(geometry, pixel):
    with pytest.raises(ScanError, match="both pixel_um must be positive"):
        replace(geometry, pixel_um=pixel)


@pytest.mark.parametrize("pixel", [(np.nan, 1.0), (1.0, np.inf)])
def test_the_arm_points_at_a_finite_pixel(geometry, pixel):
    with pytest.raises(ScanError, match="arm_pixel must be two finite numbers"):
        replace(geometry, arm_pixel=pixel)


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5, 1)])
def test_frames_must_be_a_volume(scan, shape):
    with pytest.raises(ScanError, match="frames must be"):
        replace(scan, intensity=np.zeros(shape))


@pytest.mark.parametrize("name", ["angles_deg", "monitor", "timestamps_s", "have"])
def test_one_value_a_frame(scan, name):
    with pytest.raises(ScanError, match=f"3 frames but {name}"):
        replace(scan, **{name: np.ones(4)})


def test_bad_pixels_must_fit_the_frames(scan):
    with pytest.raises(ScanError, match="bad_pixels"):
        replace(scan, bad_pixels=np.zeros((5, 4), bool))


def test_types_are_frozen(scan, geometry):
    with pytest.raises(FrozenInstanceError):
        scan.name = "other"
    with pytest.raises(FrozenInstanceError):
        geometry.energy_kev = 1.0
