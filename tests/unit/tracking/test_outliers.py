"""Bad scans among repeats of a simulated crystal, one kind at a time; and fifty good ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import Preprocessing, load_config
from live_bcdi.geometry import q_lab_invA
from live_bcdi.pipeline import prepared
from live_bcdi.preprocess import prepare
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.repeats import BAD, Repeated
from live_bcdi.sim.scattering import bragg_geometry, scan_steps
from live_bcdi.tracking import outliers, scan_facts, unusable
from live_bcdi.tracking.outliers import left_out
from live_bcdi.types import ScanError

SHAPE = (40, 48, 48)
SETTINGS = Preprocessing(binning=(1, 1, 1))


def source(**changes):
    """Whose peak is at 0.7 of what an acquisition may hold."""
    geometry = bragg_geometry(load_config(Path("config/34idc.toml")), SHAPE[1:])
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    truth = random_truth(h, scan_steps(geometry), strain="medium", oversampling=3.0, seed=1)
    made = Repeated(truth=truth, geometry=geometry, shape=SHAPE, photons=1e6, beam=0.05)
    return replace(made, saturation_counts=float(np.ceil(made.expected().max() / 0.7)), **changes)


def facts_of(scan):
    return scan_facts(scan, *prepare(scan, SETTINGS))


@pytest.fixture(scope="module")
def repeats():
    return [facts_of(scan) for scan in source().series(9, seed=2)]


# how much of what is wrong, and why the scan is left out
STRENGTHS = {
    "alien": (0.05, "another crystal"),
    "hot pixels": (5, "pixels and voxels are hot"),
    "turned away": (1, "turned away"),
    "crystal lost": (0.02, "the crystal is lost"),
    "beam lost": (0.2, "8 frames had no beam"),
    "jump": (2, "it jumped by"),
    "stale frames": (2, "2 frames are the one before them"),
    "missing frames": (2, "2 frames are missing"),
    "saturated": (1.5, "are saturated"),
}


@pytest.mark.parametrize("kind", STRENGTHS)
def test_a_bad_scan_is_told_and_why(repeats, kind):
    strength, words = STRENGTHS[kind]
    found = outliers([*repeats[:4], facts_of(source().bad(kind, strength)), *repeats[4:]])
    assert words in "; ".join(found[4]), found
    assert not any(found[:4]) and not any(found[5:]), found


@pytest.mark.parametrize("frame", [-4, -2, 0, 1, 3])
def test_a_jump_of_a_pixel_is_told_wherever_about_the_peak_it_was(repeats, frame):
    scans, made = [source().expected((0.0, *moved)) for moved in ((0, 0), (0.8, -0.6))], source()
    later = np.arange(SHAPE[0]) >= SHAPE[0] // 2 + frame
    jumped = made.scan(np.where(later[:, None, None], scans[1], scans[0]), np.random.default_rng(5))
    told = "; ".join(outliers([*repeats, facts_of(jumped)])[-1])
    assert "jumped by" in told
    # what the Gaussian about the middle sees of it
    assert 0.4 < float(told.split("jumped by ")[1].split()[0]) <= 1.0


def test_every_kind_of_bad_scan_is_looked_for():
    assert set(STRENGTHS) == set(BAD)
    with pytest.raises(ScanError, match="there are alien, "):
        source().bad("odd", 1)


def test_a_bad_scan_may_be_the_first_and_there_may_be_several(repeats):
    found = outliers(
        [
            facts_of(source().bad("jump", 3)),
            *repeats,
            facts_of(source().bad("crystal lost", 0.05)),
            facts_of(source().bad("hot pixels", 9)),
        ]
    )
    assert [bool(each) for each in found] == [True] + [False] * 9 + [True, True]


def test_fifty_good_scans_raise_no_alarm():
    found = outliers([facts_of(scan) for scan in source(beam=0.1).series(50, fading=0.4, seed=5)])
    assert not any(found), [each for each in found if each]


def test_a_frame_that_sums_acquisitions_is_saturated_at_as_many_limits():
    """The peak of three is at 2.1 limits; by the limit of one its middle would be masked."""
    scan = next(source(acquisitions=3, photons=3e6).series(1))
    assert facts_of(scan).saturated == 0
    assert facts_of(replace(scan, saturation_counts=scan.saturation_counts / 3)).saturated > 10


def test_too_high_is_four_standard_deviations_from_the_median_whatever_the_bad_ones(repeats):
    """Four of them are 50 here; two scans at a thousand would carry a mean and its deviation along."""
    scatter = [92, 108, 100, 95, 105, 88, 112, 100, 97, 103]
    found = outliers([replace(repeats[0], hot=hot) for hot in (*scatter, 122, 170, 1000, 1000)])
    assert [bool(each) for each in found] == [False] * 11 + [True] * 3
    assert found[11] == ("170 pixels and voxels are hot",)


def test_of_few_scans_nothing_is_said(repeats):
    assert outliers([*repeats[:3], facts_of(source().bad("jump", 3))]) == ((), (), (), ())


def without(frames, how="are missing"):
    """The first scan of a series without some of its frames, or without beam in them, or as those before them."""
    scan = next(source().series(9, seed=2))
    if how == "the one before them":
        scan.intensity[frames] = scan.intensity[[frame - 1 for frame in frames]]
        return scan
    gone = np.isin(np.arange(SHAPE[0]), frames)
    scan.intensity[gone] = 0
    if how == "had no beam":
        return replace(scan, monitor=np.where(gone, 0.0, scan.monitor))
    return replace(scan, have=~gone)


def test_a_frame_that_is_masked_is_told_but_costs_the_scan_only_at_the_peak_or_where_they_are_many(repeats):
    cases = [([2], "are missing", False), ([2, 37], "had no beam", False), ([20], "are missing", True)]
    cases += [([1, 3, 37], "are missing", True)]
    cases += [([12, 28], "the one before them", False), ([20], "the one before them", True)]
    for frames, how, is_left in cases:
        facts = [facts_of(without(frames, how)), *repeats[1:]]
        assert how in outliers(facts)[0][0]
        assert bool(left_out(facts)[0]) == is_left, frames
        assert not any(left_out(facts)[1:])


def test_a_sum_keeps_a_repeat_that_lacks_a_frame_away_from_the_peak():
    others = list(source().series(6, seed=2))[1:]
    kept, left = (prepared([without(frames), *others], SETTINGS)[1]["summed"] for frames in ([2], [20]))
    assert "left out" not in kept and kept.count(": summed") == 6
    assert "left out, as 1 frames are missing" in left and left.count(": summed") == 5


def test_a_scan_without_counts_has_no_facts_and_says_why():
    good = list(source().series(2))
    empty = source().bad("crystal lost", 0.0)
    empty = replace(empty, intensity=np.zeros_like(empty.intensity))
    with pytest.raises(ScanError, match="no counts") as caught:
        facts_of(empty)
    assert unusable(empty, caught.value, good).startswith("it cannot be used: the scan has no counts")
    dark = replace(empty, monitor=empty.monitor / 1e3)
    assert unusable(dark, caught.value, good) == "the monitor is at 0% of the usual: the beam was lost"
    assert "no counts" in unusable(replace(dark, monitor=None), caught.value, good)
