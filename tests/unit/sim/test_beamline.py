"""The virtual beamline against Bragg's law, the configured circles, and closed forms of what goes wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.geometry import bragg_turns_deg, q_lab_invA, rotation_matrix, two_theta_deg
from live_bcdi.sim.axes import Axis
from live_bcdi.sim.beamline import FILTERS, MONITOR_HZ
from live_bcdi.sim.field import Field, Ring
from live_bcdi.sim.hazards import FULL_MA, Course, Hazards, Kick
from live_bcdi.sim.scattering import bragg_geometry, diffraction_amplitude, scan_steps
from live_bcdi.sim.scenes import virtual_beamline
from live_bcdi.types import ScanError

SHAPE = (64, 64)


def beamline(config, **how):
    return virtual_beamline(config, **{"shape": SHAPE, "strain": "none", **how})


def middle(counts):
    """Of the brightest half, as rows and columns."""
    bright = np.where(counts > counts.max() / 2, counts, 0).astype(float)
    return np.array([(bright * index).sum() for index in np.indices(counts.shape)]) / bright.sum()


def test_a_pattern_is_the_fourier_transform_of_its_crystal(config):
    grain = virtual_beamline(config, shape=(96, 96), strain="medium").field.grains[0]
    geometry = bragg_geometry(config, (96, 96))
    steps = scan_steps(geometry)
    exact = np.abs(diffraction_amplitude(grain.pattern.truth, steps, (65, 96, 96))) ** 2
    exact /= exact.max()
    row, column = np.indices((96, 96)) - 48
    for frame in (32, 34, 39):
        q = np.stack([np.full((96, 96), frame - 32), row, column], axis=-1) @ steps.T + grain.pattern.h_invA
        found = grain.pattern.at(q)
        # a cubic spline at four points a fringe
        assert np.abs(found - exact[frame]).max() < 3e-3
    assert not grain.pattern.at(grain.pattern.h_invA + 2 * grain.pattern.reach_invA).any()


@pytest.mark.parametrize("name", ["theta", "delta", "gamma", "chi"])
def test_the_peak_is_where_the_circles_say(config, name):
    """Turning one motor moves the peak to where Bragg's law and the arm put it: found again by exposures."""
    line = beamline(config, seed=2)
    grain = line.field.grains[0]
    away = {"theta": 0.0, "delta": 0.08, "gamma": -0.06, "chi": 0.15}[name]
    line.move({name: line.readback(name) + away})
    miss = line.miss(grain)
    line.move({"theta": line.readback("theta") + miss.rocking_deg})
    line.attenuate(0.02)
    found = middle(line.expose(20.0, acquisitions=20).counts)
    assert np.abs(found - [miss.row, miss.column]).max() < 0.5
    if name in ("delta", "gamma"):  # a pixel is 55 um at 0.5 m: 0.0063 degrees
        assert np.hypot(*(found - 32)) == pytest.approx(abs(away) / np.rad2deg(55e-6 / 0.5), rel=0.1)


def test_braggs_law_says_at_which_angle_it_is_bright(config):
    line = beamline(config, misaligned_deg=0.5, seed=4, shape=(256, 256))  # on which it stays
    grain = line.field.grains[0]
    line.attenuate(0.02)
    start, turn = line.readback("theta"), line.miss(grain).rocking_deg
    assert 0.05 < abs(turn) < 1
    angles = start + turn + np.linspace(-0.1, 0.1, 41)
    totals = []
    for angle in angles:
        line.move({"theta": angle})
        totals.append(line.expose(2.0).counts.sum())
    assert np.average(angles, weights=np.square(totals)) - start == pytest.approx(turn, abs=3e-3)
    # the length of h, and so the angle between incoming and outgoing beam, is the crystal's
    miss = line.miss(grain)
    geometry = line.geometry()
    bragg = 2 * np.rad2deg(np.arcsin(np.linalg.norm(grain.h_invA) / (4 * np.pi) * 12.398419843 / 9.0))
    assert two_theta_deg(geometry, miss.row, miss.column) == pytest.approx(bragg, abs=1e-9)


def test_strain_moves_the_peak_by_its_own_amount(config):
    line = beamline(config)
    grain = line.field.grains[0]
    before = line.miss(grain)
    line.replace_grain(0, replace(grain, strain=1e-3))
    after = line.miss(line.field.grains[0])
    # 2 d sin = lambda: the scattering angle becomes smaller by 2 tan(theta) strain
    angles = [two_theta_deg(line.geometry(), miss.row, miss.column) for miss in (before, after)]
    assert angles[1] - angles[0] == pytest.approx(-2e-3 * np.rad2deg(np.tan(np.deg2rad(angles[0] / 2))), rel=1e-2)


def test_a_crystal_is_lit_as_the_beam_is_wide(config):
    line = beamline(config)
    grain = line.field.grains[0]
    line.attenuate(0.02)
    full = line.expose(50.0, acquisitions=50).counts.sum()
    line.move({"y": 6.0})  # vertical: half of the width at half of the maximum
    assert line.illumination(grain) == pytest.approx(0.5)
    assert line.expose(50.0, acquisitions=50).counts.sum() / full == pytest.approx(0.5, rel=0.03)
    line.move({"y": 0.0, "theta": 0.0, "x": 6.0, "z": 200.0})  # z is along the beam then
    assert line.illumination(grain) == pytest.approx(0.5)
    line.move({"theta": 30.0})
    across = 6 * np.cos(np.deg2rad(30)) + 200 * np.sin(np.deg2rad(30))
    assert line.miss(grain).across_um == pytest.approx((across, 0.0), abs=1e-9)


def test_backlash_is_play(config):
    axis = Axis(name="theta", backlash=0.2)
    way = [(1.0, 0.9), (0.95, 0.9), (0.85, 0.9), (0.7, 0.8), (0.75, 0.8), (1.0, 0.9)]
    for target, driven in way:
        end_s = axis.start(target, axis.end_s)
        assert axis.readback_at(end_s) == target
        assert axis.driven_at(end_s) == pytest.approx(driven)
    line = beamline(config, hazards=Hazards(backlash=0.1))
    grain, start = line.field.grains[0], line.readback("theta")
    line.move({"theta": start - 1})
    line.move({"theta": start})
    assert line.readback("theta") == start
    assert line.miss(grain).rocking_deg == pytest.approx(0.05)  # it stands half of the play behind


def test_a_motor_stops_beside_what_it_says(config):
    line = beamline(config, hazards=Hazards(repeatability=1e-3))
    grain, missed = line.field.grains[0], []
    start = line.readback("theta")
    for _ in range(300):
        line.move({"theta": start})
        missed.append(line.miss(grain).rocking_deg)
    assert np.std(missed) == pytest.approx(1e-3, rel=0.15)
    assert line.readback("theta") == start


def test_moves_take_their_time_and_go_evenly(config):
    line = beamline(config)
    start = line.readback("theta")
    end_s = line.begin("theta", start + 2.0)
    assert end_s == 2.0
    line.wait(0.5)
    assert line.readback("theta") == pytest.approx(start + 0.5)
    line.move({"phi": 1.0, "x": 200.0})  # together: 4 s for the stage
    assert line.time_s == pytest.approx(4.5)
    line.begin("theta", start)
    line.wait(0.5)
    line.axis("theta").halt(line.time_s)
    assert line.readback("theta") == pytest.approx(start + 1.5)
    assert line.time_s == 5.0


@pytest.mark.parametrize("target", [70.001, -1e9, float("nan"), float("inf"), -float("inf")])
def test_no_motor_goes_beyond_its_limits(config, target):
    line = beamline(config)
    before = line.positions
    for move in (
        lambda: line.move({"chi": 1.0, "theta": target}),
        lambda: line.begin("theta", target),
        lambda: line.expose(1.0, turning=("theta", target)),
        lambda: line.place({"theta": target}),
    ):
        with pytest.raises(ScanError, match="theta cannot be moved"):
            move()
        assert line.positions == before and line.time_s == 0
    line.move({"theta": 70.0})
    with pytest.raises(ScanError, match="no motor 'omega'"):
        line.move({"omega": 1.0})


def test_drift_goes_on_with_the_clock(config):
    line = beamline(config, hazards=Hazards(drift_um_per_h=6.0, drift_mdeg_per_h=30.0), seed=5)
    grain = line.field.grains[0]
    course = line.course
    for hours in (0.5, 1.0):
        line.until(hours * 3600)
        assert np.linalg.norm(course.shift_um(line.time_s)) == pytest.approx(6 * hours)
        assert np.linalg.norm(course.turn_mdeg(line.time_s)) == pytest.approx(30 * hours)
    h = rotation_matrix((0.0, 1.0, 0.0), line.readback("theta")) @ grain.h_invA
    turned = np.deg2rad(1e-3 * (rotation_matrix((0.0, 1.0, 0.0), 17.010111055) @ course.turn_mdeg(3600.0)))
    geometry = line.geometry()
    wanted = bragg_turns_deg(geometry, h + np.cross(turned, h))[0]
    assert line.miss(grain).rocking_deg == pytest.approx(wanted, abs=1e-4)  # the cross product is of first order
    assert abs(wanted) > 1e-3


def test_kicks_come_and_relax():
    course = Course(hazards=Hazards(), seed=0)
    kick = Kick(time_s=10.0, shift_um=np.array([1.0, 2.0, 0]), turn_mdeg=np.array([0, 0, 5.0]), relaxing_s=100.0)
    course.kicks.append(kick)
    assert not course.shift_um(9.9).any()
    assert course.shift_um(110.0) == pytest.approx(np.array([1, 2, 0]) / np.e)
    assert course.turn_mdeg(10.0) == pytest.approx([0, 0, 5])
    course.kicks.append(replace(kick, relaxing_s=float("inf")))
    assert course.shift_um(1e6) == pytest.approx([1, 2, 0])
    kicked = Course(hazards=Hazards(kick_every_s=600, kick_um=2.0), seed=1).kicks
    assert len(kicked) == pytest.approx(48 * 6, rel=0.2)
    assert np.std([each.shift_um for each in kicked]) == pytest.approx(2.0, rel=0.1)


def test_trips_take_the_light_and_nothing_else(config):
    line = beamline(config, hazards=Hazards(trip_every_s=1000.0, trip_s=200.0), seed=3)
    begin_s, end_s = line.course.trips[0]
    line.attenuate(0.02)
    line.until(begin_s - 10)
    assert line.current_ma == FULL_MA
    half = line.expose(20.0)  # half of it in the dark
    assert half.monitor == pytest.approx(10 * MONITOR_HZ * line.transmission, rel=0.01)
    assert line.current_ma == 0
    dark = line.expose(min(10.0, (end_s - begin_s) / 4))
    assert dark.monitor == 0
    assert dark.counts.sum() < 0.1 * half.counts.sum()
    assert dark.counts.sum() == pytest.approx(0.02 * 64 * 64 * (dark.end_s - dark.begin_s), rel=0.3)  # background
    merged = line.course.beam_s(0.0, 5000.0)
    times = np.arange(0.0, 5000.0, 2.0) + 1.0
    assert merged == pytest.approx(np.mean([line.course.current_ma(t) > 0 for t in times]) * 5000, abs=12)


def test_the_ring_loses_current_until_it_is_topped_up():
    course = Course(hazards=Hazards(lifetime_s=3600.0, top_up_s=180.0), seed=0)
    assert course.current_ma(90.0) == pytest.approx(FULL_MA * np.exp(-90 / 3600))
    assert course.current_ma(180.0) == FULL_MA
    assert course.beam_s(0.0, 2.0) == pytest.approx(2 * np.exp(-1 / 3600))


def test_attenuators_and_shutter(config):
    line = beamline(config)
    assert line.transmission == 1
    assert [line.attenuate(wanted) for wanted in (0.5, 0.3, 1e-9, 1.0)] == [0.5, 0.25, np.prod(FILTERS), 1.0]
    line.attenuate(0.02)
    assert line.transmission == 0.015625
    first = line.expose(100.0, acquisitions=100).counts.sum()
    line.attenuate(0.01)
    assert line.transmission == 0.0078125
    second = line.expose(100.0, acquisitions=100).counts.sum()
    background = 0.02 * 64 * 64 * 100
    assert (first - background) / (second - background) == pytest.approx(2, rel=0.02)
    assert line.dose_s == pytest.approx(100 * (0.015625 + 0.0078125))
    line.shutter_open = False
    shut = line.expose(100.0)
    assert shut.monitor == 0 and shut.counts.sum() == pytest.approx(background, rel=0.05)
    for wanted in (0.0, -1.0, 2.0, float("nan")):
        with pytest.raises(ScanError, match="attenuators"):
            line.attenuate(wanted)


def test_saturation_is_that_of_one_acquisition(config):
    line = beamline(config, peak_hz=4e4)
    limit = config.detector.saturation_counts
    one = line.expose(1.0)
    assert one.saturated and one.counts.max() == limit
    many = line.expose(1.0, acquisitions=20)
    assert not many.saturated
    assert many.counts.max() == pytest.approx(4e4, rel=0.1)
    some = line.expose(1.0, acquisitions=2)
    assert some.saturated and some.counts.max() == 2 * limit


def test_counts_are_poisson_and_dead_pixels_are_dead(config):
    line = beamline(config)
    (row, column), *_ = line.field.dead
    line.attenuate(0.02)
    frames = np.stack([line.expose(1.0).counts for _ in range(200)])
    bright = frames.mean(axis=0) > 20
    assert (frames.var(axis=0)[bright] / frames.mean(axis=0)[bright]).mean() == pytest.approx(1, abs=0.1)
    assert not frames[:, row, column].any()


def test_a_turning_exposure_is_the_mean_of_standing_ones(config):
    line = beamline(config)
    line.attenuate(0.02)
    start = line.readback("theta")
    line.move({"theta": start - 0.2})
    swept = line.expose(400.0, acquisitions=400, turning=("theta", start + 0.2)).counts
    assert line.readback("theta") == pytest.approx(start + 0.2)
    angles = start + (np.arange(100) + 0.5) / 100 * 0.4 - 0.2
    stood = np.zeros(SHAPE)
    for angle in angles:
        line.move({"theta": angle})
        stood += line.expose(4.0, acquisitions=4).counts
    assert swept.sum() == pytest.approx(stood.sum(), rel=0.01)
    excess = (swept - stood) / np.sqrt(swept + stood + 1)
    assert np.std(excess) < 1.5  # of independent Poisson counts it is 1


def test_a_ring_stands_still_where_its_spacing_is(config):
    line = beamline(config)
    line.field = Field(grains=(), rings=(Ring(d_angstrom=2.3545, rate_hz=100.0, width=5e-4),))
    first = line.expose(10.0).counts
    line.move({"theta": line.readback("theta") + 1.0, "x": 100.0})
    second = line.expose(10.0).counts
    assert first.sum() == pytest.approx(second.sum(), rel=0.01)
    lengths = np.linalg.norm(q_lab_invA(line.geometry(), *np.indices(SHAPE)), axis=-1)
    assert 2 * np.pi / np.average(lengths, weights=first) == pytest.approx(2.3545, rel=1e-3)


def test_the_same_seed_and_calls_give_the_same_counts(config):
    def measured(seed):
        line = beamline(config, seed=seed, neighbours=2, powder=True, hazards=Hazards(repeatability=1e-3))
        line.move({"theta": line.readback("theta") + 0.01})
        return line.expose(0.1).counts

    assert np.array_equal(measured(7), measured(7))
    assert not np.array_equal(measured(7), measured(8))


def test_scenes_are_as_bad_as_asked(config):
    for seed in range(20):
        line = beamline(config, misaligned_deg=1.0, misplaced_um=20.0, neighbours=3, seed=seed)
        grain, *others = line.field.grains
        assert np.linalg.norm(grain.position_um) <= 20
        assert all(each.rate_hz < grain.rate_hz for each in others) and len(others) == 3
        home = beamline(config, seed=seed).field.grains[0].h_invA
        angle = np.rad2deg(np.arccos(home @ grain.h_invA / np.linalg.norm(home) ** 2))
        assert angle <= 1.0


@pytest.mark.parametrize("seconds, acquisitions", [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, 0)])
def test_exposures_that_are_none(config, seconds, acquisitions):
    with pytest.raises(ScanError, match="exposure"):
        beamline(config).expose(seconds, acquisitions=acquisitions)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_hazards_are_not_negative(value):
    with pytest.raises(ScanError, match="kick_um"):
        Hazards(kick_um=value)


def test_other_beamlines_work_as_well():
    for name in ("id01", "p10"):
        config = load_config(Path(__file__).resolve().parents[3] / "config" / f"{name}.toml")
        line = beamline(config)
        assert np.abs(middle(line.expose(0.1).counts) - 32).max() < 0.5


def test_the_stage_brings_a_crystal_into_the_beam(config):
    line = beamline(config)
    line.replace_grain(0, replace(line.field.grains[0], position_um=(3.0, 6.0, -2.0)))
    grain = line.field.grains[0]
    line.move({"theta": 0.0})
    assert line.miss(grain).across_um == pytest.approx((3.0, -6.0))  # rows go down
    line.move({"x": -3.0, "y": -6.0, "z": 2.0, "theta": 40.0})
    assert line.illumination(grain) == pytest.approx(1.0)


def test_a_crystal_that_is_turned_about_h_shows_its_pattern_turned(config):
    line = beamline(config)
    grain = line.field.grains[0]
    h = grain.pattern.h_invA
    about = rotation_matrix(tuple(h / np.linalg.norm(h)), 70.0)
    line.replace_grain(0, replace(grain, turn=grain.turn @ about))
    line.attenuate(0.02)
    counts = line.expose(100.0, acquisitions=100).counts
    back = q_lab_invA(line.geometry(), *np.indices(SHAPE)) @ about  # each q turned by the inverse
    expected = grain.pattern.at(back) * counts.max() / grain.pattern.at(back).max()
    bright = expected > 0.01 * expected.max()
    alive = np.ones(SHAPE, bool)
    alive[tuple(np.array(line.field.dead).T)] = False
    off = np.abs(counts - expected)[bright & alive] / np.sqrt(expected[bright & alive] + 1)
    assert off.mean() < 2  # of Poisson counts it is 0.8, and the scale is that of one pixel
