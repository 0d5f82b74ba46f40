"""Arm, stage and second rotation, against the virtual beamline's truth."""

import math
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.sim.scenes import virtual_beamline
from live_bcdi.steering.aiming import arm_onto, reach_deg, stage_across
from live_bcdi.types import ScanError

FOLDER = Path(__file__).resolve().parents[3] / "config"
CONFIGS = [load_config(FOLDER / f"{name}.toml") for name in ("34idc", "id01", "p10")]
LIMITS = {"delta": (-5.0, 60.0), "gamma": (-5.0, 40.0)}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.beamline)
def test_the_arm_brings_a_peak_to_the_chosen_pixel(config):
    line = virtual_beamline(config, misaligned_deg=0.5, strain="none", seed=3)
    grain, limits = line.field.grains[0], {axis.motor: axis.limits for axis in config.diffractometer.arm}
    seen = line.miss(grain)
    line.move(arm_onto(line.geometry(), (seen.row, seen.column), (40.0, 90.0), limits))
    there = line.miss(grain)
    assert (there.row, there.column) == pytest.approx((40.0, 90.0), abs=0.01)
    assert math.hypot(seen.row - 40, seen.column - 90) > 5


def test_an_arm_without_room_is_told():
    geometry = virtual_beamline(CONFIGS[0], strain="none").geometry()
    near = {circle.motor: (circle.angle_deg - 1e-3, circle.angle_deg + 1e-3) for circle in geometry.arm}
    with pytest.raises(ScanError, match="another pixel"):
        arm_onto(geometry, (20.0, 20.0), (64.0, 64.0), near)
    with pytest.raises(ScanError, match="limits"):
        arm_onto(geometry, (20.0, 20.0), (64.0, 64.0), {})


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.beamline)
def test_the_stage_moves_the_crystal_across_the_beam(config):
    line = virtual_beamline(config, strain="none")
    told = stage_across(config, line.geometry(), (12.0, 8.0))
    assert len(told) == 2
    for direction, (motor, width) in enumerate(told.items()):
        before = line.miss(line.field.grains[0]).across_um[direction]
        line.move({motor: width})
        moved = line.miss(line.field.grains[0]).across_um[direction] - before
        assert abs(moved) == pytest.approx((12.0, 8.0)[direction] / 2.3548, rel=1e-4)
        line.move({motor: 0.0})


def test_a_stage_that_only_goes_along_the_beam_is_told():
    config = CONFIGS[0]
    only_z = config.diffractometer.model_copy(update={"stage": config.diffractometer.stage[2:]})
    geometry = virtual_beamline(config, strain="none").geometry()
    with pytest.raises(ScanError, match="no translation"):
        stage_across(config.model_copy(update={"diffractometer": only_z}), geometry, (12.0, 12.0))


def test_the_detector_sees_as_far_as_is_said():
    line = virtual_beamline(CONFIGS[0], strain="none")
    reach = reach_deg(line.geometry(), "chi", line.shape)
    away = []
    for turn in (reach, 1.5 * reach):
        line.move({"chi": turn})
        miss = line.miss(line.field.grains[0])
        away.append(float(np.hypot(miss.row - 64, miss.column - 64)))
    assert away == pytest.approx([0.8 * 64, 1.2 * 64], rel=0.03)
    with pytest.raises(ScanError, match="no circle"):
        reach_deg(line.geometry(), "mu", line.shape)
