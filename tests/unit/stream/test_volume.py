"""A run in bounded memory: the window is around the peak, follows it, and ends as the file has it."""

import numpy as np
import pytest

from live_bcdi.stream.fakes import MemoryStore, frames_of, plan_of, small_scan
from live_bcdi.stream.live import LiveRun
from live_bcdi.stream.volume import Volume
from live_bcdi.types import Frame

SHAPE = (60, 80)
FRAME_BYTES = 60 * 80 * 4


def scan_with_peak(track, num=40):
    """Few counts, and in frame i a peak around the pixel `track(i)`; a hot pixel far from it."""
    scan = small_scan(num=num, shape=SHAPE)
    rng = np.random.default_rng(5)
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    for index in range(num):
        row, column = track(index)
        mean = 0.05 + 200 * np.exp(-((index - 25) ** 2) / 50 - ((rows - row) ** 2 + (columns - column) ** 2) / 8)
        scan.intensity[index] = rng.poisson(mean)
    scan.intensity[:, 3, 70] = 100_000
    return scan


def still(index):
    return 41, 22


def run_of(scan, limit_bytes, least=12, skip=()):
    live = LiveRun(plan_of(scan), lambda: 0.0, limit_bytes=limit_bytes, least=least)
    for frame in frames_of(scan):
        if frame.index not in skip:
            live.add(frame)
    return live


def assert_is_the_file(live, scan):
    rows, columns = live.assembler.volume.window
    assert live.assembler.have.all()
    np.testing.assert_array_equal(live.assembler.frames, scan.intensity[:, rows, columns])


def test_all_frames_are_kept_whole_where_they_fit():
    scan = scan_with_peak(still)
    live = run_of(scan, 40 * FRAME_BYTES)
    assert_is_the_file(live, scan)
    assert live.assembler.frames.shape == scan.intensity.shape
    assert "window" not in live.update().fields


@pytest.mark.parametrize("frames_that_fit", [1, 4, 12, 39])
def test_memory_is_bounded_and_what_the_page_is_told_is_of_whole_frames(frames_that_fit):
    scan = scan_with_peak(still)
    limit = frames_that_fit * FRAME_BYTES
    live, whole = run_of(scan, limit), run_of(scan, None)
    live.finish(MemoryStore(scan))
    assert live.assembler.frames.nbytes <= max(limit // 2, 40 * 12 * 12 * 4)
    assert_is_the_file(live, scan)
    one, other = live.update(at_peak=True), whole.update(at_peak=True)
    assert one.fields["window"] == [
        edge for part in live.assembler.volume.window for edge in (part.start, part.stop)
    ]
    assert {**one.fields, "window": None} == {**other.fields, "window": None}
    for name, array in other.arrays.items():
        if name.startswith("centroid"):  # in a box, which is smaller where the window is
            continue
        np.testing.assert_array_equal(one.arrays[name], array)
    top, bottom, left, right = one.fields["window"]
    assert top + 3 <= 41 < bottom - 3 and left + 3 <= 22 < right - 3


def test_the_window_follows_a_peak_that_leaves_it_and_what_it_left_is_refilled():
    scan = scan_with_peak(lambda index: (12, 22) if index < 21 else (46, 60))
    live = run_of(scan, 4 * FRAME_BYTES, skip=(5,))
    assert live.assembler.missing, "the window never moved"
    assert live.update().fields["count"] == 39
    assert live.snapshot(8).have is not None
    assert live.finish(MemoryStore(scan)) == 1
    assert_is_the_file(live, scan)
    fields = live.update().fields
    assert (fields["count"], fields["refilled"], fields["received"], fields["missing"]) == (40, 1, 39, 0)
    np.testing.assert_array_equal(live.update().arrays["totals"], scan.intensity.sum(axis=(1, 2)))


def test_a_snapshot_is_of_the_window_and_its_pixels_keep_their_place():
    scan = scan_with_peak(still)
    live = run_of(scan, 4 * FRAME_BYTES)
    live.finish(MemoryStore(scan))
    box = live.snapshot(10)
    row, column = (int(was - now) for was, now in zip(scan.geometry.arm_pixel, box.geometry.arm_pixel))
    first = int(np.flatnonzero(scan.angles_deg == box.angles_deg[0])[0])
    expected = scan.intensity[first : first + 10, row : row + 10, column : column + 10]
    np.testing.assert_array_equal(box.intensity, expected)
    assert row < 41 < row + 10 and column < 22 < column + 10  # around the peak and not the hot pixel


def test_a_snapshot_before_there_is_a_window():
    scan = scan_with_peak(still)
    live = LiveRun(plan_of(scan), lambda: 0.0, limit_bytes=12 * FRAME_BYTES, least=12)
    for frame in frames_of(scan)[:3]:
        live.add(frame)
    np.testing.assert_array_equal(live.assembler.scan().intensity, scan.intensity[:3])
    assert "window" not in live.update().fields


def test_less_memory_for_a_run_under_way_takes_no_frame_from_it():
    scan = scan_with_peak(still)
    live = run_of(scan, None)
    live.limit(8 * FRAME_BYTES)
    assert live.assembler.frames.nbytes <= 4 * FRAME_BYTES
    assert_is_the_file(live, scan)


def test_a_window_is_never_smaller_than_the_least():
    volume = Volume(1000, SHAPE, np.int32, limit_bytes=1, least=16)
    volume.put(0, np.ones(SHAPE, np.int32))
    volume.crop(0, 79)
    assert volume.window == (slice(0, 16), slice(64, 80))
    assert not volume.wants_window


def test_the_window_takes_all_of_a_short_edge_and_more_of_the_other():
    volume = Volume(10, (20, 400), np.uint16, limit_bytes=2 * 10 * 2 * 20 * 200, least=4)
    volume.crop(10, 200)
    assert volume.window == (slice(0, 20), slice(100, 300))


def test_a_copy_of_a_frame_that_the_window_lost_is_no_duplicate():
    scan = scan_with_peak(lambda index: (12, 22) if index < 21 else (46, 60))
    live = run_of(scan, 4 * FRAME_BYTES)
    lost = live.assembler.missing[0]
    again: Frame = frames_of(scan)[lost]
    assert live.add(again) and not live.add(again)
    assert (live.assembler.count, live.assembler.duplicates) == (40, 1)
    assert live.update().arrays["totals"][lost] == scan.intensity[lost].sum()
