"""The measured 34-ID-C scan through the whole live path, against what was measured of it independently."""

import json
import subprocess
import sys

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.session import play
from live_bcdi.transport.hdf5 import read_result, read_scan, write_scan
from live_bcdi.transport.spec import read_spec_scan


@pytest.fixture(scope="module")
def scan_file(system, s0054, tmp_path_factory):
    path = tmp_path_factory.mktemp("s0054") / "scan.h5"
    write_scan(path, read_spec_scan(s0054, 54, load_config(system[1])))
    return path


@pytest.fixture(scope="module")
def played(system, scan_file):
    return play(system[0], scan_file, system[1], rate_hz=0, fly=False)


def test_every_frame_is_in_the_volume_with_the_counts_that_spec_saw(played):
    assert played["live"]["count"] == 201
    assert played["result"]["frames"] == 201
    assert played["result"]["frame_totals_equal"] == "201/201"
    assert played["live"]["total"] == 46_155_653


def test_the_peak_is_where_it_was_measured(played, shared):
    """Within 0.2%: the brightest pixel lies 0.9 pixels from the centre of mass that the figures are for, which is
    0.01% of Q."""
    expected = json.loads((shared / "expected_S0054.json").read_text())
    geometry = expected["geometry_arm_at_pixel_128_128"]
    live = played["live"]
    assert live["peak"] == expected["peak"]["voxel_rock_row_col"]
    assert live["bragg_deg"] == pytest.approx(geometry["bragg_deg"], rel=2e-3)
    assert live["q_invA"] == pytest.approx(geometry["Q_invA"], rel=2e-3)
    assert live["d_angstrom"] == pytest.approx(geometry["d_A"], rel=2e-3)


def test_offline_gives_the_same_bits(played, scan_file, system, tmp_path):
    command = [sys.executable, "-m", "live_bcdi.cli", "phase", str(scan_file), "-o", str(tmp_path / "offline.cxi")]
    subprocess.run([*command, "--config", str(system[1])], check=True, capture_output=True)
    live, offline = read_result(played["result"]["file"]), read_result(tmp_path / "offline.cxi")
    np.testing.assert_array_equal(live.density, offline.density)
    np.testing.assert_array_equal(live.lab.strain, offline.lab.strain)
    assert live.provenance == offline.provenance


def test_the_detectors_file_is_the_recording(played, system, scan_file):
    frames = load_config(system[1]).storage.directory / "frames"
    (path,) = frames.glob(f"*_{played['run'][:8]}.h5")
    written, recorded = read_scan(path), read_scan(scan_file)
    np.testing.assert_array_equal(written.intensity, recorded.intensity)
    np.testing.assert_array_equal(written.angles_deg, recorded.angles_deg)
