"""The SPEC reader: the measured scan exactly, a small made one in every detail, and one message a fault."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from live_bcdi.config import Config, load_config, parse_config
from live_bcdi.transport.spec import read_spec_scan
from live_bcdi.types import ScanError

ROOT = Path(__file__).resolve().parents[3]
ANGLES = [0.1, 0.2, 0.3]
HEAD = """#F made.spec
#E 1000
#D Sat Feb 01 20:15:38 2020

#O0 Delta  Theta  Chi  Phi  Gamma  camdist  Energy

"""
SCAN = """#S {number}  ascan  th 0.1 0.3  5 0.25
#D Tue Feb 04 12:28:23 2020
#T 0.25  (Seconds)
#P0 32 0.2 90 -5 12 500 9
#N 4
#L Theta  Epoch  ImageTot  Monitor
"""


@pytest.fixture
def config() -> Config:
    return load_config(ROOT / "config" / "34idc.toml")


@pytest.fixture
def frames() -> np.ndarray:
    return np.arange(3 * 4 * 6, dtype=np.int32).reshape(3, 4, 6)


@pytest.fixture
def folder(tmp_path, frames) -> Path:
    """A scan that was stopped after 3 of 6 points; its frames in a folder below, named as the beamline does."""
    write_spec(tmp_path, points(frames))
    (tmp_path / "frames").mkdir()
    for index, image in enumerate(frames):
        tifffile.imwrite(frame_path(tmp_path, index), image)
    return tmp_path


def points(frames) -> str:
    return "".join(
        f"{angle} {10 + 5 * index} {int(image.sum())} {1000 + index}\n"
        for index, (angle, image) in enumerate(zip(ANGLES, frames, strict=True))
    )


def write_spec(folder, lines, *, head=HEAD, scan=SCAN, number=7):
    (folder / "made.spec").write_text(head + scan.format(number=number) + lines)


def frame_path(folder, index) -> Path:
    return folder / "frames" / f"made_S0007_{index:05d}.tif"


def test_everything_of_a_scan(folder, config, frames):
    scan = read_spec_scan(folder, 7, config)
    assert scan.name == "made_S0007"
    assert scan.intensity.dtype == np.int32
    assert np.array_equal(scan.intensity, frames)
    assert scan.angles_deg.tolist() == ANGLES
    assert scan.timestamps_s.tolist() == [1010.0, 1015.0, 1020.0]
    assert scan.monitor.tolist() == [1000.0, 1001.0, 1002.0]
    assert scan.bad_pixels is None
    assert scan.saturation_counts == 11810 * 20
    assert scan.exposure_s == 0.25 * 20
    assert (scan.hkl, scan.sample) == ((1.0, 1.0, 1.0), "gold nanocrystal")
    assert scan.geometry == config.geometry(
        {"delta": 32, "theta": 0.2, "chi": 90, "phi": -5, "gamma": 12}, energy_kev=9.0, distance_m=0.5
    )
    assert scan.metadata["frame_totals"] == [float(image.sum()) for image in frames]
    assert scan.metadata["frame_total_mismatches"] == 0
    assert scan.metadata["spec"]["command"] == "ascan th 0.1 0.3 5 0.25"


def test_hkl_and_sample_can_be_said(folder, config):
    scan = read_spec_scan(folder, 7, config, hkl=(2.0, 0.0, 0.0), sample="platinum")
    assert (scan.hkl, scan.sample) == ((2.0, 0.0, 0.0), "platinum")


def test_frames_go_by_their_number_not_their_name(folder, config, frames):
    """Numbers without leading zeros sort wrongly as text."""
    for index in range(3):
        frame_path(folder, index).rename(folder / f"made_S0007_{index + 9}.tif")
    assert np.array_equal(read_spec_scan(folder, 7, config).intensity, frames)


def test_wrong_sums_are_named_and_counted(folder, config, frames, caplog):
    altered = frames.copy()
    altered[2, 0, 0] += 1
    tifffile.imwrite(frame_path(folder, 2), altered[2])
    with caplog.at_level(logging.WARNING):
        scan = read_spec_scan(folder, 7, config)
    assert scan.metadata["frame_total_mismatches"] == 1
    assert "the sum of frame 2 " in caplog.text


def test_last_of_two_scans_with_one_number(folder, config, frames, caplog):
    first = SCAN.format(number=7) + "0.5 1 2 3\n\n"
    write_spec(folder, points(frames), head=HEAD + first)
    scan = read_spec_scan(folder, 7, config)
    assert scan.angles_deg.tolist() == ANGLES
    assert "scan 7 2 times" in caplog.text


def test_bad_pixels_from_dark_and_white_field(folder, config):
    """Marked dark, or below a quarter of the median white field; the files are of the whole detector."""
    dark = np.zeros((8, 8), np.int32)
    dark[1, 2] = 100
    dark[7, 7] = 100  # outside the frames
    white = np.full((8, 8), 1000.0, np.float32)
    white[0, 0], white[3, 5], white[2, 2], white[2, 3] = 0, 249, 251, np.nan
    tifffile.imwrite(folder / "dark.tif", dark)
    tifffile.imwrite(folder / "whitefield.tif", np.nan_to_num(white, nan=0.0))
    bad = read_spec_scan(folder, 7, config).bad_pixels
    assert sorted(map(tuple, np.argwhere(bad).tolist())) == [(0, 0), (1, 2), (2, 3), (3, 5)]


def test_counting_to_a_monitor_has_no_exposure(folder, config, frames):
    write_spec(folder, points(frames), scan=SCAN.replace("#T 0.25  (Seconds)", "#M 10000"))
    assert read_spec_scan(folder, 7, config).exposure_s is None


def fault_no_spec(folder, frames):
    (folder / "made.spec").unlink()


def fault_two_specs(folder, frames):
    shutil.copy(folder / "made.spec", folder / "other.spec")


def fault_not_spec(folder, frames):
    (folder / "made.spec").write_bytes(b"\x00\x01 not a spec file")


def fault_no_scans(folder, frames):
    (folder / "made.spec").write_text(HEAD)


def fault_other_scans(folder, frames):
    others = "".join(SCAN.format(number=number) + "0 0 0 0\n\n" for number in (3, 4, 5, 9))
    (folder / "made.spec").write_text(HEAD + others)


def fault_no_frames(folder, frames):
    shutil.rmtree(folder / "frames")


def fault_frame_gone(folder, frames):
    frame_path(folder, 1).unlink()


def fault_frame_too_many(folder, frames):
    tifffile.imwrite(frame_path(folder, 3), frames[0])


def fault_frame_twice(folder, frames):
    shutil.copy(frame_path(folder, 1), folder / frame_path(folder, 1).name)


def fault_nan_angle(folder, frames):
    write_spec(folder, points(frames).replace("0.2 ", "nan ", 1))


def fault_infinite_angle(folder, frames):
    write_spec(folder, points(frames).replace("0.2 ", "1e999 ", 1))


def fault_position(folder, frames):
    write_spec(folder, points(frames), scan=SCAN.replace("#P0 32", "#P0 nan"))


def fault_word(folder, frames):
    write_spec(folder, points(frames).replace("0.2 ", "0.2x ", 1))


def fault_short_line(folder, frames):
    write_spec(folder, points(frames).rsplit(" ", 1)[0] + "\n")


def fault_truncated(folder, frames):
    path = frame_path(folder, 1)
    path.write_bytes(path.read_bytes()[:-20])


def fault_empty_tiff(folder, frames):
    frame_path(folder, 1).write_bytes(b"")


def fault_other_shape(folder, frames):
    tifffile.imwrite(frame_path(folder, 1), frames[1, :3])


def fault_other_dtype(folder, frames):
    tifffile.imwrite(frame_path(folder, 1), frames[1].astype(np.uint16))


def fault_stack(folder, frames):
    tifffile.imwrite(frame_path(folder, 0), frames, photometric="minisblack")


def fault_no_motor(folder, frames):
    write_spec(folder, points(frames), head=HEAD.replace("Gamma", "Gimel"))


def fault_short_positions(folder, frames):
    write_spec(folder, points(frames), scan=SCAN.replace(" 500 9", ""))


def fault_no_energy(folder, frames):
    write_spec(folder, points(frames), head=HEAD.replace("Energy", "Enemy"))


def fault_no_column(folder, frames):
    write_spec(folder, points(frames), scan=SCAN.replace("#L Theta", "#L Eta"))


def fault_no_counter(folder, frames):
    write_spec(folder, points(frames), scan=SCAN.replace("Monitor", "Minotaur"))


def fault_no_points(folder, frames):
    write_spec(folder, "")


def fault_small_dark(folder, frames):
    tifffile.imwrite(folder / "dark.tif", np.zeros((3, 6), np.int32))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (fault_no_spec, r"must hold one SPEC file .*there are 0: none"),
        (fault_two_specs, r"there are 2: made.spec, other.spec"),
        (fault_not_spec, r"made.spec is not a SPEC file"),
        (fault_no_scans, r"made.spec is a SPEC file without scans"),
        (fault_other_scans, r"made.spec has no scan 7; it has 3-5, 9"),
        (fault_no_frames, r"has no frames of scan 7: no file \*_S0007_\*.tif"),
        (fault_frame_gone, r"3 SPEC points but 2 frames; there is no frame 1"),
        (fault_frame_too_many, r"3 SPEC points but 4 frames"),
        (fault_frame_twice, r"frame 1 is there twice"),
        (fault_nan_angle, r"made.spec, line 14, is not all numbers; mend it: nan 15"),
        (fault_infinite_angle, r"line 14, is not all numbers; mend it: 1e999 15"),
        (fault_position, r"line 10, is not all numbers; mend it: #P0 nan 0.2"),
        (fault_word, r"line 14, is not all numbers; mend it: 0.2x 15"),
        (fault_short_line, r"2 SPEC points but 3 frames; a SPEC line with too few numbers is no point"),
        (fault_truncated, r"made_S0007_00001.tif is truncated"),
        (fault_empty_tiff, r"made_S0007_00001.tif is truncated"),
        (fault_other_shape, r"made_S0007_00001.tif is \(3, 6\) int32, but .*00000.tif is \(4, 6\)"),
        (fault_other_dtype, r"made_S0007_00001.tif is \(4, 6\) uint16"),
        (fault_stack, r"made_S0007_00000.tif is \(3, 4, 6\); a frame must be"),
        (fault_no_motor, r"no position of 'Gamma' .*check \[spec\] motors.gamma"),
        (fault_short_positions, r"no position of 'Energy' .*check \[spec\] energy_kev"),
        (fault_no_energy, r"no position of 'Energy' .*check \[spec\] energy_kev"),
        (fault_no_column, r"no column 'Theta' .*check \[spec\] motors.theta"),
        (fault_no_counter, r"no column 'Monitor' .*check \[spec\] monitor"),
        (fault_no_points, r"has no points"),
        (fault_small_dark, r"dark.tif is \(3, 6\), smaller than the frames"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_fault(folder, config, frames, fault, message):
    fault(folder, frames)
    with pytest.raises(ScanError, match=message):
        read_spec_scan(folder, 7, config)


def test_no_spec_table(folder, config):
    table = config.model_dump(exclude={"spec"})
    with pytest.raises(ScanError, match=r"34-ID-C has no \[spec\] table"):
        read_spec_scan(folder, 7, parse_config(table))


@pytest.mark.parametrize("keep", [0, 4, 8, 1000, 200_000, 262_160, 262_300])
def test_measured_frame_cut_anywhere(s0054, folder, config, keep):
    """The beamline's writer puts the directory at the end; tifffile then gives an empty image, not an error."""
    whole = (s0054 / "frames" / "Staff20-1a_S0054_00099.tif").read_bytes()
    frame_path(folder, 1).write_bytes(whole[:keep])
    with pytest.raises(ScanError, match=r"00001\.tif is truncated"):
        read_spec_scan(folder, 7, config)


def test_measured_scan(s0054, shared, config):
    """Facts measured independently (expected_S0054.json), all exact."""
    expected = json.loads((shared / "expected_S0054.json").read_text())
    scan = read_spec_scan(s0054, 54, config)
    facts = expected["frames"]
    assert scan.intensity.shape == (facts["count"], *facts["shape"])
    assert scan.intensity.dtype == np.int32
    assert int(scan.intensity.sum(dtype=np.int64)) == facts["total_counts"]
    assert int(scan.intensity.max()) == facts["max_counts"]
    assert scan.metadata["frame_total_mismatches"] == 0
    sums = scan.intensity.sum(axis=(1, 2))
    assert int((sums == scan.metadata["frame_totals"]).sum()) == facts["frame_sum_equals_SPEC_ImageTot"]
    assert np.unravel_index(scan.intensity.argmax(), scan.intensity.shape) == tuple(
        expected["peak"]["voxel_rock_row_col"]
    )
    assert np.mean(np.diff(scan.angles_deg)) == pytest.approx(0.00500003, abs=1e-7)  # 1.0000068 deg / 200
    assert np.all((np.diff(scan.timestamps_s) > 5.44) & (np.diff(scan.timestamps_s) < 5.51))
    assert scan.saturation_counts > scan.intensity.max()
    setting = expected["setting"]
    circles = {circle.motor: circle.angle_deg for circle in (*scan.geometry.sample, *scan.geometry.arm)}
    for motor, angle_deg in circles.items():
        assert angle_deg == setting[f"{motor}_deg"]
    assert (scan.geometry.energy_kev, scan.geometry.distance_m) == (9.0, 0.5)


def test_measured_bad_pixels(s0054, config):
    """13 marked dark, 252 that do not count in the white field (2 are both): nearly all on the chip's last
    column and in its corner. The other 297 pixels that are silent in the scan are where a few counts are
    expected, so silence is chance there."""
    scan = read_spec_scan(s0054, 54, config)
    bad = scan.bad_pixels
    silent = scan.intensity.sum(axis=0) == 0
    assert int(silent.sum()) == 465
    assert int(bad.sum()) == 263
    assert int((bad & silent).sum()) == 168
    assert int(bad[:, -1].sum()) == 183
    assert int(scan.intensity[:, bad].sum()) == 388  # of 46 million counts
