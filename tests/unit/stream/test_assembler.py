"""Whatever way frames come, the volume must be the same as if each had come once and in time."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.metadata import scan_metadata
from live_bcdi.preprocess import diffraction_volume
from live_bcdi.stream.assembler import Assembler
from live_bcdi.stream.fakes import MemoryStore, frames_of, plan_of, small_scan
from live_bcdi.types import Frame, ScanError

SCAN = small_scan(num=12, shape=(6, 5))


def filled(frames, scan=SCAN):
    assembler = Assembler(plan_of(scan))
    for frame in frames:
        assembler.add(frame)
    return assembler


def test_frames_in_order_give_the_scan_back():
    assembled = filled(frames_of(SCAN)).scan()
    np.testing.assert_array_equal(assembled.intensity, SCAN.intensity)
    np.testing.assert_array_equal(assembled.angles_deg, SCAN.angles_deg)
    np.testing.assert_array_equal(assembled.monitor, SCAN.monitor)
    assert assembled.have is None
    assert assembled.geometry == SCAN.geometry
    assert assembled.hkl == SCAN.hkl


def test_shuffled_and_repeated_frames_give_the_same_volume():
    frames = frames_of(SCAN)
    order = np.random.default_rng(1).permutation(np.repeat(np.arange(12), 2))
    assembler = filled(frames[index] for index in order)
    np.testing.assert_array_equal(assembler.frames, SCAN.intensity)
    assert (assembler.count, assembler.duplicates) == (12, 12)


def test_a_duplicate_does_not_overwrite_what_came_first():
    first, *_ = frames_of(SCAN)
    assembler = filled([first])
    again = Frame(**{**frame_fields(first), "image": first.image + 1})
    assert assembler.add(again) is False
    np.testing.assert_array_equal(assembler.frames[0], first.image)


def frame_fields(frame):
    return {name: getattr(frame, name) for name in Frame.__dataclass_fields__}


def test_gaps_are_refilled_from_the_file_and_counted():
    kept = [frame for frame in frames_of(SCAN) if frame.index not in (0, 5, 11)]
    assembler = filled(kept)
    assert assembler.missing == [0, 5, 11]
    assert assembler.refill(MemoryStore(SCAN)) == 3
    np.testing.assert_array_equal(assembler.scan().intensity, SCAN.intensity)
    np.testing.assert_array_equal(assembler.scan().angles_deg, SCAN.angles_deg)
    assert (assembler.missing, assembler.refilled) == ([], 3)


def test_what_neither_stream_nor_file_has_is_said():
    """An aborted scan: seven frames on disk. The end is cut, a hole within is marked."""
    assembler = filled(frame for frame in frames_of(SCAN) if frame.index in (0, 1, 9))
    assembler.refill(MemoryStore(SCAN, count=7))
    assert assembler.missing == [7, 8, 10, 11]
    scan = assembler.scan()
    assert len(scan.intensity) == 10
    np.testing.assert_array_equal(np.flatnonzero(~scan.have), [7, 8])
    assert not scan.intensity[7:9].any()


def test_a_box_keeps_the_geometry_of_its_pixels():
    scan = filled(frames_of(SCAN)).scan(slice(2, 9), slice(1, 5), slice(2, 4))
    np.testing.assert_array_equal(scan.intensity, SCAN.intensity[2:9, 1:5, 2:4])
    row, column = SCAN.geometry.arm_pixel
    assert scan.geometry.arm_pixel == (row - 1, column - 2)
    np.testing.assert_array_equal(scan.bad_pixels, SCAN.bad_pixels[1:5, 2:4])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run": "another"}, "is of run another"),
        ({"index": 12}, "12 were planned"),
        ({"index": -1}, "12 were planned"),
        ({"image": np.zeros((6, 4), np.int32)}, "the others are"),
        ({"image": np.zeros((6, 5), np.uint16)}, "the others are"),
    ],
)
def test_a_frame_that_does_not_belong_is_refused_and_harms_nothing(change, message):
    first, second, *_ = frames_of(SCAN)
    assembler = filled([first])
    with pytest.raises(ScanError, match=message):
        assembler.add(Frame(**{**frame_fields(second), **change}))
    assert assembler.count == 1


def test_no_frame_is_an_error_that_names_the_run():
    with pytest.raises(ScanError, match="has no frame"):
        Assembler(plan_of(SCAN)).scan()


def test_one_lost_monitor_reading_leaves_the_others():
    """What is made of the live scan is what is made of the recorded one, bit for bit."""
    monitor = np.linspace(1000.0, 2000.0, 12)
    monitor[4] = np.nan
    scan = replace(SCAN, monitor=monitor)
    live = filled(frames_of(scan), scan).scan()
    np.testing.assert_array_equal(live.monitor, monitor)
    np.testing.assert_array_equal(diffraction_volume(live).intensity, diffraction_volume(scan).intensity)


def test_no_monitor_is_no_monitor():
    scan = replace(SCAN, monitor=None)
    assert filled(frames_of(scan), scan).scan().monitor is None


def test_a_flat_field_without_a_mask():
    flatfield = np.linspace(0.5, 1.5, 30, dtype=np.float32).reshape(6, 5)
    scan = replace(SCAN, bad_pixels=None, flatfield=flatfield)
    whole, box = filled(frames_of(scan), scan).scan(), filled(frames_of(scan), scan).scan(rows=slice(2, 4))
    np.testing.assert_allclose(whole.flatfield, flatfield, atol=1e-4)  # it travels in steps of 1e-4
    np.testing.assert_array_equal(box.flatfield, whole.flatfield[2:4])


@pytest.mark.parametrize("name", ["bad_pixels", "flatfield"])
def test_a_mask_of_another_detector_is_refused_with_the_first_frame(name):
    other = replace(
        SCAN, intensity=np.zeros((12, 7, 5), np.int32), **{"bad_pixels": None, name: np.zeros((7, 5), bool)}
    )
    assembler = Assembler(replace(plan_of(SCAN), scan=scan_metadata(other)))
    with pytest.raises(ScanError, match=rf"{name} is \(7, 5\), its frames are \(6, 5\)"):
        assembler.add(frames_of(SCAN)[0])
    assert assembler.count == 0


def test_a_mask_and_a_flat_field_of_two_detectors_are_refused_at_the_start():
    table = scan_metadata(replace(SCAN, flatfield=np.ones((6, 5))))
    table["flatfield"] |= {"shape": [5, 6]}
    with pytest.raises(ScanError, match="flatfield is"):
        Assembler(replace(plan_of(SCAN), scan=table))


def test_a_box_of_a_large_detector_copies_no_whole_frame():
    shape = (400, 500)
    scan = replace(small_scan(num=8, shape=shape), flatfield=np.ones(shape, np.float32))
    assembler = filled(frames_of(scan), scan)
    tracemalloc.start()
    try:
        assembler.scan(slice(0, 8), slice(100, 116), slice(200, 216))
        assert tracemalloc.get_traced_memory()[1] < 400 * 500  # bytes: a quarter of one frame of int32
    finally:
        tracemalloc.stop()
