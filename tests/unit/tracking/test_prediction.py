"""What is foretold is where the crystal then is, as often as is said; and it says so when the crystal is lost."""

import numpy as np
import pytest

from live_bcdi.config import load_config, shipped_configs
from live_bcdi.geometry import chain_matrix, q_lab_invA, rocking_axis_lab
from live_bcdi.sim.scattering import bragg_geometry, rocking_step_deg, scan_steps
from live_bcdi.tracking import Motion, Peak, View, motion_between, predict, seen_at
from live_bcdi.tracking.between import carried
from live_bcdi.tracking.prediction import foretell
from live_bcdi.types import ScanError

MANY = 120


def trajectories(kind, scans, random):
    """(scans, MANY) places, each step of the order of 1."""
    noise = random.normal(size=(scans, MANY))
    walk = np.cumsum(noise, axis=0)
    drift = random.normal(size=MANY) * np.arange(scans)[:, None]
    if kind == "a walk":
        return walk
    if kind == "a drift":
        return drift
    if kind == "both":
        return drift + 0.5 * walk
    return np.cumsum(0.2 * walk + random.normal(size=MANY), axis=0)  # a slope that walks


@pytest.mark.parametrize("kind", ["a walk", "a drift", "both", "a changing drift"])
@pytest.mark.parametrize("scans, std", [(3, 0.3), (12, 1.0)])
def test_it_is_within_the_error_bars_as_often_as_said(kind, scans, std):
    """Of 120 trajectories the share within an error bar of 68 % is known to 4.3 %, of 95 % to 1.9 %. It may be
    more where motion is more regular than a crystal's is known to be; never less by four of these."""
    random = np.random.default_rng(7)
    truth = trajectories(kind, scans + 1, random)
    seen = truth[:-1] + std * random.normal(size=(scans, MANY))
    told = foretell(np.arange(float(scans)), seen, np.full((scans, MANY), std))
    off = np.abs([each.value for each in told] - truth[-1])
    within = [np.mean(off < [getattr(each, name) for each in told]) for name in ("std", "std2")]
    assert within[0] > 0.68 - 4 * 0.043 and within[1] > 0.954 - 4 * 0.019
    if kind == "a walk" and scans > 3:
        assert within[0] < 0.68 + 4 * 0.043, "an error bar that is always right says nothing"


def test_a_drift_is_gone_on_with_and_a_walk_is_not():
    """As sure as the drift is known: by 0.1 a scan, over 30 of them. A walk is foretold to stay, to its own
    step."""
    random, times = np.random.default_rng(1), np.arange(30.0)
    drift = 2.0 * times + 0.1 * random.normal(size=30)
    walk = np.cumsum(random.normal(size=30))
    first, second = foretell(times, np.stack([drift, walk], axis=1), np.full((30, 2), 0.1))
    assert first.value == pytest.approx(60.0, abs=3 * first.std) and first.std < 0.3
    assert second.value == pytest.approx(walk[-1], abs=0.5) and 0.7 < second.std < 1.4


def motion(first=0.0, second=0.0, strain=0.0, counts=1.0, std=0.1):
    return Motion(
        rotation_mdeg=(first, second),
        rotation_std_mdeg=(std, std),
        strain=strain,
        strain_std=1e-6,
        counts_ratio=counts,
    )


def test_scans_that_did_not_see_it_make_it_less_sure_and_are_counted():
    random = np.random.default_rng(3)
    walked = [motion(x, -x, 1e-6 * x) for x in np.cumsum(random.normal(size=20))]
    sure, less = predict(walked), predict([*walked, None, None, None])
    assert (sure.unseen, less.unseen, sure.scans, less.scans) == (0, 3, 20, 20)
    for before, after in zip(sure.rotation_mdeg, less.rotation_mdeg):
        assert after.value == pytest.approx(before.value, abs=before.std)
        assert 1.5 < after.std / before.std < 3.0, "four steps of a walk instead of one are twice as far"


def test_the_times_count():
    """A drift goes on over a pause as long as it lasts."""
    random = np.random.default_rng(5)
    times = np.concatenate([np.arange(15), [30, 31, 32]]) * 60.0
    told = predict([motion(0.05 * time + 0.1 * random.normal()) for time in times], list(times))
    assert told.time_s == 33 * 60.0
    assert told.rotation_mdeg[0].value == pytest.approx(0.05 * told.time_s, abs=3 * told.rotation_mdeg[0].std)
    assert told.rotation_mdeg[0].std < 1.0


def test_of_one_scan_nobody_knows_how_far_it_goes():
    told = predict([motion()])
    assert told.rotation_mdeg[0].value == 0 and told.intensity.value == 1 and np.isnan(told.strain.std)
    lost = predict([None, None])
    assert np.isnan(lost.strain.value) and (lost.scans, lost.unseen) == (0, 2)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ScanError, match="nothing can be foretold from 0 scans"):
        predict([])
    with pytest.raises(ScanError, match="a time for each"):
        predict([motion()], [1.0, 2.0])
    with pytest.raises(ScanError, match="must rise"):
        predict([motion()] * 4, [4.0, 3.0, 2.0, 1.0])


@pytest.mark.parametrize("beamline", sorted(shipped_configs()))
def test_the_next_peak_is_where_the_turned_crystal_has_it(beamline):
    """A vector h that is turned by -0.02 deg about the rocking axis meets the detector at the same pixel when the
    motor turns it back: 0.02 deg more. What is across it, and the strain, are those of the way back."""
    config = load_config(shipped_configs()[beamline])
    geometry = bragg_geometry(config, (64, 64))
    row, column = geometry.arm_pixel
    step_deg = rocking_step_deg(geometry)
    holder = chain_matrix(geometry.sample).T
    h = holder @ q_lab_invA(geometry, row, column)
    axis = holder @ rocking_axis_lab(geometry)
    first = Peak(h_invA=h, covariance_invA2=1e-12 * np.eye(3), rocking_axis=tuple(axis), counts=1e4)
    turn = np.deg2rad(-0.02)
    moved = np.cos(turn) * h + np.sin(turn) * np.cross(axis, h) + (1 - np.cos(turn)) * (axis @ h) * axis
    there = Peak(h_invA=moved, covariance_invA2=1e-12 * np.eye(3), rocking_axis=tuple(axis), counts=1e4)
    step = motion_between(first, there)
    back, _ = carried(first, step.rotation_mdeg, step.strain)
    np.testing.assert_allclose(back, moved, rtol=0, atol=1e-9)
    start_deg = next(c.angle_deg for c in geometry.sample if c.motor == geometry.rocking)
    view = View(
        h_invA=h,
        steps_invA=holder @ scan_steps(geometry),
        origin=(32.0, row, column),
        first_deg=start_deg - 32 * step_deg,
        step_deg=step_deg,
    )
    seen = seen_at(predict([motion_between(first, first), step, step, step]), first, view)
    assert seen.angle_deg.value == pytest.approx(start_deg + 0.02, abs=2e-4 + 3 * seen.angle_deg.std)
    assert abs(seen.row.value - row) < 0.1 + 3 * seen.row.std
    assert abs(seen.column.value - column) < 0.1 + 3 * seen.column.std
    assert seen.angle_deg.std > 0 and np.isfinite(seen.row.std2)
