"""Advice from quick scans of simulated crystals, whose fringes are known: each fills a third of the array's
rocking axis, so that a fringe is three of its steps."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.geometry import q_lab_invA
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.scattering import bragg_geometry, diffraction_amplitude, scan_steps
from live_bcdi.steering.rocking import PreScan, Wanted, advise_range, advise_rocking, peak_rate, rates_at, revisit
from live_bcdi.types import ScanError

CONFIG = load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")
FRINGE_DEG = 0.03
CENTRE_DEG = 12.0
WANTED = Wanted(dose_s=100.0, limits_deg=(11.0, 13.0))


@lru_cache
def rates(places, seed=0, strain="weak"):
    """Light at angles `places` fringes from the peak, 1 a second in all where it is brightest."""
    geometry = bragg_geometry(CONFIG, (48, 48))
    steps = scan_steps(geometry)
    truth = random_truth(
        q_lab_invA(geometry, *geometry.arm_pixel), steps, strain=strain, oversampling=3.0, seed=seed
    )
    at = np.append(3.0 * np.array(places), 0.0)
    light = np.abs(diffraction_amplitude(truth, steps, (len(at), 48, 48), rocking=at)) ** 2
    return light[:-1] / light[-1].sum()


def pre_scan(first=-4.0, last=4.0, points=3.0, photons=1e5, **more):
    """`points` a fringe from `first` to `last` fringes; `photons` a second where it is brightest."""
    places = np.arange(first, last + 1e-9, 1 / points)
    given = {"seed": 0, "strain": "weak", "background": 0.0, "seconds": 1.0, "transmission": 1.0} | more
    light = rates(tuple(places), given["seed"], given["strain"]) * photons + given["background"]
    dose = given["seconds"] * given["transmission"]
    counts = np.random.default_rng(given["seed"]).poisson(light * dose)
    return PreScan(
        frames=counts,
        angles_deg=CENTRE_DEG + FRINGE_DEG * places,
        seconds=np.full(len(places), given["seconds"]),
        transmission=np.full(len(places), given["transmission"]),
        saturation_counts=given.get("saturation_counts"),
        acquisitions=given.get("acquisitions", 1),
    )


@pytest.mark.parametrize("photons", [3e3, 1e6])
@pytest.mark.parametrize("strain", ["weak", "strong"])
def test_three_points_a_fringe(photons, strain):
    """A crystal that is not a box is not as long as its box; a band limit is known within 30 % from so few frames.
    Even then there are two points a fringe."""
    points = []
    for seed in range(4):
        found = advise_range(pre_scan(photons=photons, seed=seed, strain=strain, points=4.0), WANTED)
        assert not found.again
        points.append(FRINGE_DEG / found.step_deg)
    assert min(points) > 1.9 and max(points) < 4.5
    assert np.mean(points) == pytest.approx(3.0, rel=0.25)
    finer = advise_range(pre_scan(points=4.0), Wanted(dose_s=100.0, limits_deg=(11.0, 13.0), points=4.5))
    assert FRINGE_DEG / finer.step_deg == pytest.approx(
        1.5 * FRINGE_DEG / advise_range(pre_scan(points=4.0), WANTED).step_deg, rel=0.1
    )


def test_the_peak_is_in_the_middle_and_its_error_bar_is_honest():
    found = [advise_range(pre_scan(first=-5.3, last=3.1, photons=1e4, seed=seed), WANTED) for seed in range(6)]
    for each in found:
        assert abs(each.centre_deg - CENTRE_DEG) < 0.25 * FRINGE_DEG
        assert each.start_deg < each.centre_deg < each.stop_deg
        assert each.angles_deg[[0, -1]] == pytest.approx([each.start_deg, each.stop_deg])


def test_fringes_that_are_cut_off_extend_the_range_on_their_side():
    found = advise_range(pre_scan(first=-8.0, last=1.5, photons=1e6), WANTED)
    below, above = found.extend_deg
    assert above == pytest.approx((8.0 - 1.5) * FRINGE_DEG, rel=0.3)
    assert abs(below) < 2 * FRINGE_DEG
    assert any("extend the range above" in each for each in found.why)
    assert not any("below" in each for each in found.why)


def test_a_tail_on_one_side_is_followed_on_that_side():
    """As of a crystal with a bent end: a peak, and beyond it 1 / angle^2 on one side alone."""
    places = np.arange(-6.0, 6.01, 1 / 4)
    rows, columns = np.indices((48, 48))
    spot = np.exp(-((rows - 24) ** 2 + (columns - 24) ** 2) / 18)
    for side in (-1, 1):
        away = side * places
        curve = np.exp(-((2 * places) ** 2)) + 0.05 * (away > 1) / np.maximum(away, 1) ** 2
        counts = np.random.default_rng(0).poisson(300.0 * curve[:, None, None] * spot)
        one = np.ones(len(places))
        pre = PreScan(frames=counts, angles_deg=CENTRE_DEG + FRINGE_DEG * places, seconds=one, transmission=one)
        found = advise_range(pre, Wanted(dose_s=5.0, limits_deg=(11.0, 13.0)))
        reach = found.centre_deg - found.start_deg, found.stop_deg - found.centre_deg
        assert reach[side == 1] > 1.3 * reach[side != 1]


def test_where_nothing_is_left_above_noise_the_range_ends():
    """60 counts in the brightest frame, 4 % of it in the first fringe's: nothing is to be seen beyond a few."""
    dim = Wanted(dose_s=20.0, limits_deg=(11.0, 13.0))
    found = advise_range(pre_scan(first=-8.0, last=8.0, photons=300, points=3.5), dim)
    assert max(found.extend_deg) < -2 * FRINGE_DEG
    assert any("shorten" in each for each in found.why)
    longer = advise_range(
        pre_scan(first=-8.0, last=8.0, photons=300, points=3.5), Wanted(dose_s=1e4, limits_deg=(11.0, 13.0))
    )
    assert longer.stop_deg - longer.start_deg > 1.5 * (found.stop_deg - found.start_deg)


def test_a_background_shortens_the_range():
    dim = Wanted(dose_s=30.0, limits_deg=(11.0, 13.0))
    dark = advise_range(pre_scan(first=-7.0, last=7.0, photons=3e4), dim)
    bright = advise_range(pre_scan(first=-7.0, last=7.0, photons=3e4, background=1.0), dim)
    assert bright.stop_deg - bright.start_deg < 0.8 * (dark.stop_deg - dark.start_deg)


@pytest.mark.parametrize(("first", "last"), [(-0.2, 5.0), (0.3, 5.0), (-5.0, 0.2)])
def test_a_peak_at_an_end_is_scanned_again_about_it(first, last):
    found = advise_range(pre_scan(first=first, last=last), WANTED)
    assert found.again and any("at an end" in each for each in found.why)
    assert abs(found.centre_deg - CENTRE_DEG) < 0.6 * FRINGE_DEG
    assert found.start_deg < CENTRE_DEG - 2 * FRINGE_DEG and found.stop_deg > CENTRE_DEG + 2 * FRINGE_DEG


def test_steps_too_coarse_for_the_fringes_are_told():
    found = advise_range(pre_scan(first=-8.0, last=8.0, points=1.2), WANTED)
    assert found.again and any("too coarse" in each for each in found.why)
    assert found.step_deg < 0.5 * FRINGE_DEG / 1.2


def test_limits_are_kept_and_told():
    tight = Wanted(dose_s=100.0, limits_deg=(CENTRE_DEG - 0.1, CENTRE_DEG + 0.05))
    found = advise_range(pre_scan(photons=1e6), tight)
    assert (found.start_deg, found.stop_deg) == tight.limits_deg
    assert sum("limits" in each for each in found.why) == 2
    with pytest.raises(ScanError, match="align"):
        advise_range(pre_scan(), Wanted(dose_s=1.0, limits_deg=(20.0, 21.0)))


def test_a_scan_downwards_says_the_same():
    up = pre_scan()
    down = PreScan(
        frames=up.frames[::-1], angles_deg=up.angles_deg[::-1], seconds=up.seconds, transmission=up.transmission
    )
    one, other = advise_range(up, WANTED), advise_range(down, WANTED)
    assert (one.start_deg, one.stop_deg, one.num) == pytest.approx((other.start_deg, other.stop_deg, other.num))
    np.testing.assert_allclose(rates_at(up, one.angles_deg, 12.0)[0], rates_at(down, one.angles_deg, 12.0)[0])


def test_the_whole_advice_spends_the_dose_and_saturates_nothing():
    pre = pre_scan(photons=1e6, seconds=0.1, transmission=0.1, saturation_counts=1e4)
    found = advise_rocking(pre, WANTED, (1.0, 0.1, 0.01), shortest_s=0.01)
    assert found.seconds.sum() * found.attenuation.transmission == pytest.approx(WANTED.dose_s)
    brightest = rates(tuple(np.arange(-0.3, 0.31, 0.1))).max() * 1e6
    expected = brightest * found.attenuation.transmission * found.attenuation.acquisition_s
    assert 0.3 * 1e4 < expected < 1e4
    assert (found.acquisitions * found.attenuation.acquisition_s >= found.seconds - 1e-9).all()
    assert not found.again and len(found.seconds) == found.range.num


def test_the_limit_is_that_of_one_acquisition():
    """Sixteen summed hold more than one may."""
    pre = pre_scan(photons=1e6, saturation_counts=2e4, acquisitions=16)
    assert pre.frames.max() > 2e4
    assert not peak_rate(pre)[1]
    assert peak_rate(
        PreScan(**{**{name: getattr(pre, name) for name in pre.__dataclass_fields__}, "acquisitions": 1})
    )[1]


def test_a_saturated_pre_scan_is_made_again_in_a_fainter_beam():
    pre = pre_scan(photons=1e6, saturation_counts=1e3)
    found = advise_rocking(pre, WANTED, (1.0, 0.5, 0.1, 0.01), shortest_s=0.01)
    assert found.again and found.attenuation.transmission <= 0.1
    assert any("saturated" in each for each in found.why)


def test_rates_between_and_beyond_the_pre_scan_are_those_of_the_crystal():
    pre = pre_scan(first=-3.0, last=3.0, points=4.0, photons=1e7)
    places = (-6.0, -4.5, -0.4, 0.1, 1.4, 5.0)
    told = rates_at(pre, CENTRE_DEG + FRINGE_DEG * np.array(places), CENTRE_DEG)[0].sum(axis=1)
    truth = rates(places).sum(axis=(1, 2)) * 1e7
    assert np.abs(np.log(told[2:4] / truth[2:4])).max() < 0.15
    assert np.abs(np.log(told / truth)).max() < np.log(5)  # of fringes, which come and go


def test_angles_that_had_no_beam_are_visited_again():
    pre = pre_scan(photons=1e5)
    angles = np.linspace(CENTRE_DEG - 0.06, CENTRE_DEG + 0.06, 13)
    spent = np.full(13, 5.0)
    spent[[4, 9]] = 0.0
    which, seconds = revisit(pre, angles, spent, 8.0, least_s=0.5)
    assert which.tolist() == [4, 9]
    assert seconds == pytest.approx([4.0, 4.0], rel=0.15)
    which, seconds = revisit(pre, angles, spent, 20.0)
    assert {4, 9} < set(which.tolist()) and seconds.sum() == pytest.approx(20.0)


def test_what_is_no_pre_scan_is_refused():
    pre = pre_scan()
    with pytest.raises(ScanError, match="no peak"):
        advise_range(pre_scan(photons=1e-9, background=1.0), WANTED)
    with pytest.raises(ScanError, match="counts"):
        advise_range(pre_scan(photons=1e-9), WANTED)
    with pytest.raises(ScanError, match="at least"):
        PreScan(frames=pre.frames[:3], angles_deg=pre.angles_deg[:3], seconds=np.ones(3), transmission=np.ones(3))
    with pytest.raises(ScanError, match="seconds"):
        PreScan(frames=pre.frames, angles_deg=pre.angles_deg, seconds=np.ones(3), transmission=pre.transmission)
    with pytest.raises(ScanError, match="points"):
        Wanted(dose_s=1.0, limits_deg=(0.0, 1.0), points=1.5)
    with pytest.raises(ScanError, match="rise"):
        Wanted(dose_s=1.0, limits_deg=(1.0, 0.0))
