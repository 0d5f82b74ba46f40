"""What the page is told must be what the frames say."""

import math
from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.geometry import d_spacing_angstrom, two_theta_deg
from live_bcdi.stream.fakes import MemoryStore, frames_of, plan_of, small_scan
from live_bcdi.stream.live import LiveRun
from live_bcdi.types import ScanError

SCAN = small_scan(num=10, shape=(8, 9))
SCAN.intensity[6, 3, 4] = 5000  # above the saturation limit of 1000
SCAN.intensity[:, 0, -1] = 99_999  # a hot pixel that is marked as bad must not be taken for the peak
SCAN.intensity[:, 7, 0] = 0  # a pixel that never counts


def live_run(skip=()):
    ticks = iter(np.arange(1000) * 0.1)
    live = LiveRun(plan_of(SCAN), lambda: float(next(ticks)))
    for frame in frames_of(SCAN):
        if frame.index not in skip:
            live.add(frame)
    return live


def test_peak_saturation_and_dead_pixels():
    fields = live_run().update().fields
    assert fields["peak"] == [6, 3, 4]
    assert fields["peak_counts"] == 5000
    assert fields["saturated"] == 2  # the peak, and the hot pixel
    assert fields["dead"] == 2  # the silent pixel, and the one marked as bad
    assert fields["bragg_deg"] == pytest.approx(two_theta_deg(SCAN.geometry, 3, 4) / 2)
    assert fields["d_angstrom"] == pytest.approx(d_spacing_angstrom(SCAN.geometry, 3, 4))


def test_a_frame_that_was_skipped_stays_so_when_it_is_shown_as_the_peak():
    """The page's counters take a number that falls for that of a new process."""
    live = live_run()
    assert [live.update(at_peak=at_peak).fields["skipped"] for at_peak in (False, True)] == [9, 9]


def test_rocking_curve_and_rate():
    update = live_run().update()
    np.testing.assert_array_equal(update.arrays["totals"], SCAN.intensity.sum(axis=(1, 2)))
    assert update.fields["rate_hz"] == pytest.approx(10.0)  # the clock ticks every 0.1 s
    assert update.arrays["image"].shape == (8, 9)


def test_what_the_stream_lost_is_counted_and_refilled_with_its_peak():
    live = live_run(skip=(2, 6))
    assert live.update().fields["missing"] == 2
    assert live.update().fields["peak"] != [6, 3, 4]
    assert live.finish(MemoryStore(SCAN)) == 2
    fields = live.update().fields
    assert (fields["missing"], fields["refilled"], fields["peak"]) == (0, 2, [6, 3, 4])


def test_a_snapshot_is_a_box_around_the_peak_and_a_copy():
    live = live_run()
    box = live.snapshot(4)
    np.testing.assert_array_equal(box.intensity, SCAN.intensity[4:8, 1:5, 2:6])
    box.intensity[:] = -1
    assert live.assembler.frames.min() >= 0


def test_a_page_image_keeps_the_peak_of_a_large_detector():
    scan = small_scan(num=3, shape=(1030, 700))
    scan.intensity[0, 517, 333] = 70_000
    live = LiveRun(plan_of(scan), lambda: 0.0)
    live.add(frames_of(scan)[0])
    update = live.update()
    block = update.fields["image_bin"]
    assert update.arrays["image"].shape == (344, 234)  # the last row and column of blocks are not full
    assert update.arrays["image"][517 // block, 333 // block] == 70_000


def test_in_the_end_the_frame_of_the_peak_is_shown():
    update = live_run().update(at_peak=True)
    np.testing.assert_array_equal(update.arrays["image"], SCAN.intensity[6])
    assert (update.fields["index"], update.fields["angle_deg"]) == (6, SCAN.angles_deg[6])


def test_the_newest_frame_has_its_time_stamp_and_that_of_the_peak_none():
    """The last is shown when it is old: from its stamp to the screen is no delay."""
    live = live_run(skip=(9,))
    assert live.update().fields["frame_time_s"] == SCAN.timestamps_s[8]
    assert live.update(at_peak=True).fields["frame_time_s"] is None
    live.add(replace(frames_of(SCAN)[9], timestamp_s=math.nan))
    assert live.update().fields["frame_time_s"] is None


def test_before_the_first_frame_there_is_nothing_to_see():
    live = LiveRun(plan_of(SCAN), lambda: 0.0)
    assert "image" not in live.update().arrays
    with pytest.raises(ScanError, match="no frame yet"):
        live.snapshot(4)


def test_silent_pixels_of_a_large_detector_are_counted_when_the_scan_is_over():
    scan = small_scan(num=3, shape=(1030, 1065))
    scan.intensity[:, 500, 500] = 0
    live = LiveRun(plan_of(scan), lambda: 0.0)
    for frame in frames_of(scan):
        live.add(frame)
    assert live.update().fields["dead"] == 1  # the one that is marked as bad
    assert live.update(at_peak=True).fields["dead"] == 2
    assert live.update().fields["dead"] == 2


def test_a_flat_field_without_a_mask_is_watched():
    scan = replace(SCAN, bad_pixels=None, flatfield=np.ones((8, 9), np.float32))
    live = LiveRun(plan_of(scan), lambda: 0.0)
    for frame in frames_of(scan):
        live.add(frame)
    assert live.snapshot(4).flatfield.shape == (4, 4)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_gaps_of_a_detector_are_not_counts(dtype):
    scan = replace(SCAN, intensity=SCAN.intensity.astype(dtype), bad_pixels=None)
    scan.intensity[:, 0, -1] = 0
    counts = scan.intensity.copy()
    scan.intensity[:, 2] = np.iinfo(dtype).max if dtype == np.uint16 else -1
    counts[:, 2] = 0
    live = LiveRun(plan_of(scan), lambda: 0.0)
    for frame in frames_of(scan):
        live.add(frame)
    update = live.update(at_peak=True)
    assert update.fields["peak"] == [6, 3, 4]
    np.testing.assert_array_equal(update.arrays["totals"], counts.sum(axis=(1, 2)))
    np.testing.assert_array_equal(update.arrays["image"], counts[6])
    np.testing.assert_array_equal(live.assembler.frames, scan.intensity)  # what is archived is as it came


def test_advice_is_given_by_what_the_frames_say():
    live = live_run()
    facts = live.facts(ended=True)
    assert (facts.peak, facts.peak_counts, facts.saturated, facts.saturation_counts) == ((3, 4), 5000, 2, 1000.0)
    assert (facts.shape, facts.planned_deg) == ((8, 9), (SCAN.angles_deg[0], SCAN.angles_deg[-1]))
    np.testing.assert_array_equal(facts.totals, SCAN.intensity.sum(axis=(1, 2)))
    assert LiveRun(plan_of(SCAN), lambda: 0.0).facts() is None


def test_the_rim_is_seen_without_its_hot_pixels():
    """By brute force over all three neighbours at the rim."""
    live = live_run()
    brightest = SCAN.intensity.max(axis=0)
    brightest[0, -1] = 0  # marked as bad
    edges = [brightest[0], brightest[-1], brightest[:, 0], brightest[:, -1]]
    middle = max(sorted(edge[k : k + 3])[1] for edge in edges for k in range(len(edge) - 2))
    assert live.facts().rim_counts == middle < 100


def test_the_time_between_frames_forgets_a_pause():
    """Frames every 0.5 s, a pause of 1000 s, and then one every 0.1 s: after 32 of these it is 0.1 s."""
    scan = small_scan(num=60, shape=(8, 9))
    times = np.cumsum([0.5] * 10 + [1000.0] + [0.1] * 49)
    now = {}
    live = LiveRun(plan_of(scan), lambda: now["s"])
    assert live.interval_s() is None
    for frame, now["s"] in zip(frames_of(scan), times):
        live.add(frame)
        if frame.index == 9:
            assert live.update().fields["interval_s"] == pytest.approx(0.5)
    assert live.update().fields["interval_s"] == pytest.approx(0.1)
