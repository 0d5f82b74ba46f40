"""A series of simulated scans of a crystal that is turned, fades, is lost and found again."""

from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.config import Preprocessing, load_config, shipped_configs
from live_bcdi.geometry import axes_across, q_lab_invA, rocking_axis_lab
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.scattering import bragg_geometry, measure, scan_steps
from live_bcdi.tracking import follow, record_scan
from live_bcdi.tracking.following import beside, joined, prediction_table, recorded
from live_bcdi.types import RockingScan, ScanError

SHAPE = (40, 48, 48)
GEOMETRY = bragg_geometry(load_config(shipped_configs()["34idc"]), SHAPE[1:])
TURNED = np.array([[1.5 * k, -1.0 * k, 1e-5 * k] for k in range(7)])  # mdeg, mdeg, strain


def scan_of(first, second, strain, seed, photons=1e5) -> RockingScan:
    h, steps = q_lab_invA(GEOMETRY, *GEOMETRY.arm_pixel), scan_steps(GEOMETRY)
    axes = axes_across(h, rocking_axis_lab(GEOMETRY))
    crystal = random_truth(h, steps, strain="weak", oversampling=3.0, seed=4)
    moved = np.cross(np.deg2rad(1e-3) * np.array([first, second]) @ axes, h) - strain * h
    gradient = crystal.gradient_angstrom_per_nm - moved * 10 / np.linalg.norm(h)
    truth = replace(crystal, gradient_angstrom_per_nm=tuple(gradient))
    return replace(
        measure(truth, GEOMETRY, shape=SHAPE, photons=photons, seed=seed), monitor=np.full(SHAPE[0], 1e5)
    )


@pytest.fixture(scope="module")
def scans():
    return [scan_of(*turned, seed=number) for number, turned in enumerate(TURNED)]


@pytest.fixture(scope="module")
def records(scans):
    return [record_scan(scan) for scan in scans]


def test_the_motion_is_true_within_its_error_bars_and_goes_on(records):
    followed = follow(records, list(np.arange(7) * 60.0))
    for motion, truth in zip(followed.motions, TURNED):
        found, std = [*motion.rotation_mdeg, motion.strain], [*motion.rotation_std_mdeg, motion.strain_std]
        assert (np.abs(np.array(found) - truth) < 4 * np.array(std)).all()
    told = followed.prediction
    for expected, value in zip((*told.rotation_mdeg, told.strain), (10.5, -7.0, 7e-5)):
        assert abs(expected.value - value) < expected.std2 and expected.std > 0
    assert followed.reasons == ((),) * 7 and followed.lost == "" and told.time_s == 420.0


def test_the_corner_of_a_part_is_added_and_nothing_else_changes(scans, records):
    """Four rows and six columns cut off on each side: the same peak but for what the rim held."""
    scan, (rows, columns) = scans[0], (slice(4, -4), slice(6, -6))
    row, column = scan.geometry.arm_pixel
    part = replace(
        scan,
        intensity=scan.intensity[:, rows, columns],
        bad_pixels=None if scan.bad_pixels is None else scan.bad_pixels[rows, columns],
        geometry=replace(scan.geometry, arm_pixel=(row - 4, column - 6)),
    )
    found = record_scan(part, (4, 6))
    np.testing.assert_allclose(found.view.origin, records[0].view.origin, rtol=0, atol=1e-2)
    np.testing.assert_allclose(found.peak.h_invA, records[0].peak.h_invA, rtol=0, atol=2e-6)


def holed(scan):
    """Without three rows of the detector, two pixels beside the peak."""
    bad = np.zeros(SHAPE[1:], bool)
    bad[26:29] = True
    return replace(scan, bad_pixels=bad)


def test_a_gap_beside_the_peak_pulls_at_no_motion():
    """Alone each is off by the gap's pull, which changes as the peak moves by a row a scan; beside the first, of
    which only the surroundings of the peak are known, all are true within error bars of counting noise."""
    turned = [(0.0, 12.0 * k, 0.0) for k in range(5)]
    scans = [scan_of(*each, seed=number, photons=1e6) for number, each in enumerate(turned)]
    alone = [record_scan(holed(scan)) for scan in scans]
    together = [alone[0], *(beside(alone[0], each) for each in alone[1:])]
    assert all(each.compared is not None for each in together[1:])

    def errors(records):
        motions = follow(records).motions
        found = np.array([(*motion.rotation_mdeg, motion.strain) for motion in motions])
        return np.abs(found - turned), np.array([(*m.rotation_std_mdeg, m.strain_std) for m in motions])

    (pulled, _), (off, std) = errors(alone), errors(together)
    assert pulled[:, 1].max() > 0.8 and pulled[:, 2].max() > 5e-6
    assert (off < 4 * std).all() and off[:, 1].max() < 0.15 and std[:, :2].max() < 0.1 and std[:, 2].max() < 2e-6
    true = np.subtract(record_scan(scans[4]).view.origin, record_scan(scans[0]).view.origin)
    told = np.subtract(together[4].view.origin, together[0].view.origin)
    np.testing.assert_allclose(told, true, atol=0.05)
    expected = follow(together).prediction.rotation_mdeg[1]
    assert abs(expected.value - 60.0) < expected.std2 < 20


def test_without_a_gap_nothing_is_compared(records):
    assert beside(records[0], records[1]) is records[1]


def test_what_was_compared_with_a_scan_that_is_no_good_is_by_itself(scans):
    """The first proves to be dim once there are others: the second is the first then."""
    dim, *good = [record_scan(holed(scan)) for scan in scans]
    dim = altered(dim, brightness=0.01)
    followed = follow([dim, *(beside(dim, each) for each in good)])
    alone = follow([dim, *good])
    assert followed.motions[0] is None and followed.motions[1].rotation_mdeg == (0.0, 0.0)
    for one, other in zip(followed.motions[2:], alone.motions[2:]):
        assert one.rotation_mdeg == other.rotation_mdeg


def test_scans_of_other_steps_are_not_compared(scans):
    first, other = (record_scan(holed(scan)) for scan in scans[:2])
    finer = replace(other, view=replace(other.view, steps_invA=0.9 * other.view.steps_invA))
    assert beside(first, finer) is finer


def test_a_scan_is_recorded_as_it_is_configured(scans):
    """A monitor that is wrong, counts that are everywhere, and a flat field that shades one side."""
    scan, plain = scans[0], record_scan(scans[0])
    drifting = replace(scan, monitor=np.linspace(1e5, 3e5, SHAPE[0]))
    ignored = record_scan(drifting, settings=Preprocessing(monitor=False))
    np.testing.assert_array_equal(ignored.view.origin, plain.view.origin)
    assert np.isnan(ignored.facts.monitor)
    assert abs(record_scan(drifting).view.origin[0] - plain.view.origin[0]) > 0.05
    foggy = replace(scan, intensity=scan.intensity + 5)
    cleared = record_scan(foggy, settings=Preprocessing(background=5.0))
    np.testing.assert_allclose(cleared.view.origin, plain.view.origin, atol=1e-3)
    assert cleared.peak.counts == pytest.approx(plain.peak.counts, rel=1e-3)
    shade = np.ones(SHAPE[1:])
    shade[:, : SHAPE[2] // 2] = 0.5
    shaded = replace(scan, intensity=scan.intensity * shade, flatfield=shade)
    np.testing.assert_allclose(record_scan(shaded).view.origin, plain.view.origin, atol=1e-3)
    unused = record_scan(shaded, settings=Preprocessing(flatfield=False))
    assert abs(unused.view.origin[2] - plain.view.origin[2]) > 0.1
    binned = record_scan(scan, settings=Preprocessing(shape=(16, 16, 16), binning=(1, 2, 2)))
    np.testing.assert_array_equal(binned.view.origin, plain.view.origin)


def test_a_crystal_that_is_lost_is_told_and_left_out_of_what_is_foretold(scans, records):
    none = replace(
        scans[0], intensity=np.random.default_rng(0).poisson(0.003, SHAPE).astype(scans[0].intensity.dtype)
    )
    lost = recorded(none)
    followed = follow([*records, lost])
    assert followed.lost and followed.motions[-1] is None and followed.reasons[-1]
    sure, less = follow(records).prediction, followed.prediction
    assert (less.scans, less.unseen) == (7, 1)
    for before, after in zip(sure.rotation_mdeg, less.rotation_mdeg):
        assert after.std > before.std
    again = follow([*records, lost, record_scan(scan_of(12.0, -8.0, 8e-5, seed=9))])
    assert again.lost == "" and again.prediction.unseen == 0 and again.prediction.scans == 8


def test_a_scan_without_beam_is_no_good_but_the_others_are(scans, records):
    dark = replace(scans[3], monitor=np.full(SHAPE[0], 1e3), intensity=scans[3].intensity // 50)
    followed = follow([*records[:3], recorded(dark), *records[4:]])
    assert [bool(reasons) for reasons in followed.reasons] == [False] * 3 + [True] + [False] * 3
    assert "the beam was lost" in followed.reasons[3][0] and followed.motions[3] is None


def nothing_but(level, seed, like):
    counts = np.random.default_rng(seed).poisson(level, SHAPE).astype(like.intensity.dtype)
    return replace(like, intensity=counts)


@pytest.mark.parametrize("level", [1e-5, 0.003, 0.01, 1.0, 30.0])
def test_a_background_is_no_peak(scans, level):
    for seed in range(4):
        with pytest.raises(ScanError, match=r"no counts|no peak stands out|no one place"):
            record_scan(nothing_but(level, seed, scans[0]))


@pytest.mark.parametrize("photons, level", [(100, 0.0), (100, 0.003), (1e4, 1.0)])
def test_a_weak_peak_stands_out(photons, level):
    weak = scan_of(0.0, 0.0, 0.0, seed=3, photons=photons)
    noise = np.random.default_rng(3).poisson(level, SHAPE).astype(weak.intensity.dtype)
    found = record_scan(replace(weak, intensity=weak.intensity + noise))
    alone = record_scan(scan_of(0.0, 0.0, 0.0, seed=5, photons=1e6))
    assert np.abs(np.subtract(found.view.origin, alone.view.origin)).max() < 1.5
    assert found.peak.counts == pytest.approx(alone.peak.counts * photons / 1e6, rel=0.35)


def altered(record, *, brightness=1.0, monitor=1.0):
    facts = record.facts
    return replace(
        record, facts=replace(facts, brightness=brightness * facts.brightness, monitor=monitor * facts.monitor)
    )


@pytest.mark.parametrize("changes", [{"brightness": 0.05}, {"monitor": 0.01}, None])
def test_a_crystal_that_is_lost_for_long_stays_lost(scans, records, changes):
    """As dim peaks elsewhere, as scans without beam, or as background only."""
    astray = record_scan(scan_of(-96.0, -72.0, 0.0, seed=50))
    blind = [
        recorded(nothing_but(0.01, number, scans[0])) if changes is None else altered(astray, **changes)
        for number in range(20)
    ]
    followed = follow([*records, *blind])
    assert followed.lost and followed.motions[7:] == (None,) * 20 and all(followed.reasons[7:])
    assert (followed.prediction.scans, followed.prediction.unseen) == (7, 20)
    before = follow(records)
    assert followed.next_place.row.value == pytest.approx(before.next_place.row.value, abs=2)
    assert not any(followed.reasons[:7])
    again = follow([*records, *blind, records[0]])
    assert again.lost == "" and again.motions[-1] is not None


def test_what_is_said_of_a_scan_stays_as_more_come(records):
    """Twelve before it and itself are all that it is judged by."""
    many = [altered(records[number % 7], brightness=0.98**number) for number in range(40)]
    many[20] = altered(records[0], brightness=0.05)
    whole = follow(many).reasons
    assert [bool(reasons) for reasons in whole] == [number == 20 for number in range(40)]
    for count in (21, 22, 30):
        assert follow(many[:count]).reasons == whole[:count]


def test_a_first_scan_that_was_dim_is_found_out_later(records):
    followed = follow([altered(records[3], brightness=0.01), *records])
    assert followed.motions[0] is None and "is lost" in followed.reasons[0][0]
    assert followed.motions[1].rotation_mdeg == (0.0, 0.0)


def test_intensity_is_by_the_monitor(scans, records):
    half = scan_of(0.0, 0.0, 0.0, seed=11, photons=5e4)
    found = follow([*records, record_scan(replace(half, monitor=0.5 * scans[0].monitor))])
    assert found.motions[-1].counts_ratio == pytest.approx(1.0, abs=0.03)
    faded = follow([*records, record_scan(half)])
    assert faded.motions[-1].counts_ratio == pytest.approx(0.5, abs=0.02)


def test_a_peak_near_the_end_is_told_and_followed_with_a_larger_error(scans, records):
    """Frames are cut off until the peak is the last but one: its place is off by up to a frame."""
    frames = round(records[5].view.origin[0]) + 2
    scan = scans[5]
    cut = replace(
        scan,
        intensity=scan.intensity[:frames],
        angles_deg=scan.angles_deg[:frames],
        monitor=scan.monitor[:frames],
    )
    followed = follow([*records[:5], record_scan(cut)])
    assert followed.lost == "" and "turned away" in followed.reasons[-1][0]
    motion, whole = followed.motions[-1], follow(records).motions[5]
    for axis in (0, 1):
        off = abs(motion.rotation_mdeg[axis] - TURNED[5][axis])
        assert off < 2 * motion.rotation_std_mdeg[axis]
    assert motion.rotation_std_mdeg[0] > 10 * whole.rotation_std_mdeg[0]
    assert followed.prediction.unseen == 0


def test_the_tables_have_a_row_a_scan_and_no_number_that_is_none(records):
    mixed = [*records[:3], "no peak"]
    followed = follow(mixed)
    rows = joined(mixed, followed)
    assert [row["angle_deg"] is None for row in rows] == [False, False, False, True]
    assert rows[3]["reasons"] == ["no peak"] and rows[3]["rotation_mdeg"] is None
    told = prediction_table(followed)
    assert told["lost"] == "no peak" and told["angle_deg"]["std"] > 0 and told["time_s"] is None
    alone = prediction_table(follow(records[:1]))
    assert alone["row"] == {"value": alone["row"]["value"], "std": None, "std2": None}
    nothing = prediction_table(follow(["no peak"]))
    assert nothing["strain"] == {"value": None, "std": None, "std2": None} and "row" not in nothing
