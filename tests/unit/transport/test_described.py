"""Scans that a beamline wrote as bare TIFF files or in an HDF5 file of its own, against the scan that they are."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from live_bcdi.config import Config, load_config
from live_bcdi.geometry import with_rocking_angle
from live_bcdi.sim import simulate_scan
from live_bcdi.transport.gather import gather
from live_bcdi.transport.hdf5 import write_scan
from live_bcdi.types import RockingScan, ScanError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(ROOT / "config" / "34idc.toml")


@pytest.fixture(scope="module")
def truth(config) -> RockingScan:
    """With the arm's pixel of the configuration; a simulated scan has the middle of its own frames."""
    scan, _ = simulate_scan(config=config, shape=(9, 16, 20), seed=3)
    middle_deg = float(scan.angles_deg[4])
    return replace(scan, geometry=replace(with_rocking_angle(scan.geometry, middle_deg), arm_pixel=(128.0, 128.0)))


def told(truth) -> dict[str, object]:
    """What a user would say of the scan."""
    geometry = truth.geometry
    circles = (*geometry.sample, *geometry.arm)
    return {
        "energy_kev": repr(geometry.energy_kev),
        "distance_m": repr(geometry.distance_m),
        "motors": {circle.motor: repr(circle.angle_deg) for circle in circles if circle.motor != "theta"},
    }


def ends(truth) -> str:
    return f"{truth.angles_deg[0]!s}:{truth.angles_deg[-1]!s}"


def assert_same(found, truth):
    assert np.array_equal(found.intensity, truth.intensity)
    assert found.angles_deg == pytest.approx(truth.angles_deg, abs=1e-12)
    assert found.geometry.rocking == truth.geometry.rocking
    for mine, theirs in zip(
        (*found.geometry.sample, *found.geometry.arm), (*truth.geometry.sample, *truth.geometry.arm), strict=True
    ):
        assert (mine.motor, mine.axis) == (theirs.motor, theirs.axis)
        assert mine.angle_deg == pytest.approx(theirs.angle_deg, abs=1e-9)
    for name in ("pixel_um", "arm_pixel", "row_direction", "column_direction", "beam_direction"):
        assert getattr(found.geometry, name) == getattr(truth.geometry, name)
    assert found.geometry.energy_kev == pytest.approx(truth.geometry.energy_kev, rel=1e-12)
    assert found.geometry.distance_m == pytest.approx(truth.geometry.distance_m, rel=1e-12)


@pytest.fixture
def folder(tmp_path, truth) -> Path:
    """Numbers without leading zeros, and a file that is no frame."""
    path = tmp_path / "gold"
    path.mkdir()
    for index, image in enumerate(truth.intensity):
        tifffile.imwrite(path / f"gold_{index + 3}.tif", image)
    tifffile.imwrite(path / "gold_dark.tif", truth.intensity[0])
    return path


def test_a_folder_of_tiffs_and_two_angles(folder, truth, config):
    found = gather(folder, config, files={**told(truth), "angles": ends(truth)})
    assert_same(found, truth)
    assert found.name == "gold"


def test_angles_of_a_text_file_that_goes_down(folder, truth, config, tmp_path):
    np.savetxt(tmp_path / "angles.txt", truth.angles_deg[::-1], fmt="%.15g", header="theta")
    found = gather(folder, config, files={**told(truth), "angles": str(tmp_path / "angles.txt")})
    assert found.angles_deg == pytest.approx(truth.angles_deg[::-1], abs=1e-12)


def test_a_tiff_of_many_pages(truth, config, tmp_path):
    tifffile.imwrite(tmp_path / "stack.TIFF", truth.intensity)
    files = {**told(truth), "angles": ends(truth)}
    assert_same(gather(tmp_path / "stack.TIFF", config, files=files), truth)


def test_a_mask_beside(folder, truth, config, tmp_path):
    bad = np.zeros(truth.intensity.shape[1:], np.uint8)
    bad[2, 3] = 7
    tifffile.imwrite(tmp_path / "mask.tif", bad)
    files = {**told(truth), "angles": ends(truth), "bad_pixels": str(tmp_path / "mask.tif")}
    assert np.array_equal(gather(folder, config, files=files).bad_pixels, bad != 0)


@pytest.fixture
def foreign(tmp_path, truth) -> Path:
    """Paths and units of its own, a motor once a frame, frames behind links as in EIGER's master file."""
    angles = {circle.motor: circle.angle_deg for circle in (*truth.geometry.sample, *truth.geometry.arm)}
    with h5py.File(tmp_path / "data_1.h5", "w") as file:
        file["counts"] = truth.intensity[:5]
    with h5py.File(tmp_path / "data_2.h5", "w") as file:
        file["counts"] = truth.intensity[5:]
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        for part in (1, 2):
            file[f"frames/part_{part}"] = h5py.ExternalLink(f"data_{part}.h5", "counts")
        file["mono/energy"] = [truth.geometry.energy_kev * 1000]
        file["mono/energy"].attrs["units"] = "eV"
        file["camera/distance"] = truth.geometry.distance_m * 1000
        file["camera/distance"].attrs["units"] = "mm"
        file["motors/theta"] = np.deg2rad(truth.angles_deg)
        file["motors/theta"].attrs["units"] = "rad"
        file["motors/delta"] = angles["delta"] + 1e-4 * np.resize([-1, 0, 1], len(truth.angles_deg))
        file["motors/gamma"] = angles["gamma"]
        file["i0"] = np.arange(1.0, 1 + len(truth.angles_deg))
        file["bad"] = np.eye(*truth.intensity.shape[1:])
    return tmp_path / "scan.h5"


def of_foreign(config, truth, **changes) -> Config:
    """What the beamline's file says of its HDF5 files."""
    motors = told(truth)["motors"] | {"delta": "/motors/delta", "gamma": "/motors/gamma"}
    files = {"frames": "/frames/part_*", "angles": "/motors/theta", "energy_kev": "/mono/energy"}
    files |= {"distance_m": "/camera/distance", "motors": motors, "monitor": "/i0", "bad_pixels": "/bad"}
    return config.changed(files={**files, **changes})


def test_an_hdf5_file_that_the_configuration_describes(foreign, truth, config):
    found = gather(foreign, of_foreign(config, truth))
    assert_same(found, truth)
    assert found.monitor.tolist() == list(range(1, 10))
    assert found.bad_pixels.sum() == 16 and found.bad_pixels[3, 3]


def test_options_go_before_the_configuration(foreign, truth, config):
    found = gather(foreign, of_foreign(config, truth), files={"energy_kev": "8.5", "motors": {"delta": "30"}})
    assert found.geometry.energy_kev == 8.5
    assert found.geometry.arm[0].angle_deg == 30
    assert found.geometry.arm[1] == pytest.approx(truth.geometry.arm[1])


def test_the_only_volume_needs_no_name(truth, config, tmp_path):
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["a/b"] = truth.intensity
        file["a/again"] = file["a/b"]
    files = {**told(truth), "angles": ends(truth)}
    assert_same(gather(tmp_path / "one.h5", config, files=files), truth)


def test_nexus_needs_no_word(truth, config, tmp_path):
    write_scan(tmp_path / "nexus.h5", truth)
    found = gather(tmp_path / "nexus.h5", config, hkl=(2, 0, 0), sample="another")
    assert_same(found, truth)
    assert (found.hkl, found.sample) == ((2, 0, 0), "another")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"angles": None}, "no angles of the 9 frames.*FIRST:LAST.*of 9 numbers are: /i0 .*, /motors/"),
        ({"angles": "/motors/thet"}, "neither .* nor a dataset of scan.h5; of 9 numbers are: .*/motors/theta"),
        ({"angles": "/motors/gamma"}, "9 frames, but /motors/gamma has 1 angles"),
        ({"angles": "1:x"}, "'1:x' is neither"),
        ({"energy_kev": None}, "no photon energy: give --energy-kev"),
        ({"energy_kev": "9000"}, "energy_kev is 9000, more than 200: mind the unit"),
        ({"energy_kev": "/motors/theta"}, "/motors/theta is in 'rad'; known are keV"),
        ({"distance_m": "500"}, "distance_m is 500, more than 100"),
        ({"frames": "/frames/part_3"}, "no dataset '/frames/part_3'"),
        ({"frames": "/i0"}, r"/i0 is \(9,\) float64; it must be counts .*/frames/part_1 \(5, 16, 20\)"),
        ({"frames": "/none*"}, r"/none\* is nothing"),
        ({"frames": None}, "which dataset has the frames.*part_1.*part_2"),
        ({"motors": {"chi": "1"}}, "no position of motor delta, gamma, phi: give --motor delta=DEGREES"),
        ({"bad_pixels": "/i0"}, r"/i0 is \(9,\), the frames are \(16, 20\)"),
        ({"monitor": "/motors/none"}, "monitor: '/motors/none' is neither"),
    ],
)
def test_what_is_missing_or_does_not_fit(foreign, truth, config, changes, says):
    with pytest.raises(ScanError, match=says):
        gather(foreign, of_foreign(config, truth, **changes))


def test_a_motor_that_moves_and_one_that_is_not_there(foreign, truth, config):
    with pytest.raises(ScanError, match=r"motor gamma: .* is not one position, but 9 from .*one circle rocks"):
        gather(foreign, of_foreign(config, truth), files={"motors": {"gamma": "/i0"}})
    with pytest.raises(ScanError, match="34-ID-C has no motor detla; it has chi, delta"):
        gather(foreign, of_foreign(config, truth), files={"motors": {"detla": "1"}})


def test_a_part_that_was_not_copied(foreign, truth, config):
    """HDF5 itself fills a virtual dataset with zeros where a file is gone."""
    layout = h5py.VirtualLayout(shape=truth.intensity.shape, dtype=truth.intensity.dtype)
    layout[:5] = h5py.VirtualSource("data_1.h5", "counts", shape=truth.intensity[:5].shape)
    layout[5:] = h5py.VirtualSource("data_2.h5", "counts", shape=truth.intensity[5:].shape)
    with h5py.File(foreign, "a") as file:
        file.create_virtual_dataset("all", layout)
    settings = of_foreign(config, truth, frames="/all")
    assert_same(gather(foreign, settings), truth)
    (foreign.parent / "data_2.h5").unlink()
    with pytest.raises(ScanError, match=r"has its data in data_2\.h5, not there"):
        gather(foreign, settings)
    with pytest.raises(ScanError, match="what /frames/part_2 links to is not there"):
        gather(foreign, of_foreign(config, truth, angles="0:1"))


def test_folders_that_are_no_one_scan(folder, truth, config, tmp_path):
    files = {**told(truth), "angles": ends(truth)}
    (folder / "gold_5.tif").rename(folder / "other_2.tif")
    with pytest.raises(ScanError, match="no frame 5: copy it again, or choose with --frames"):
        gather(folder, config, files={**files, "frames": "gold_*.tif"})
    (folder / "other_2.tif").rename(folder / "other_4.tif")
    with pytest.raises(ScanError, match=r"frame 4 is there twice.*choose those of one scan with --frames"):
        gather(folder, config, files=files)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScanError, match="has 0 frames"):
        gather(tmp_path / "empty", config, files=files)
    with pytest.raises(ScanError, match="there is no such file or folder"):
        gather(tmp_path / "none", config, files=files)


def test_a_folder_with_a_spec_file_wants_a_number(folder, truth, config):
    (folder / "gold.spec").touch()
    with pytest.raises(ScanError, match="has a SPEC file: give the number"):
        gather(folder, config)
    with pytest.raises(ScanError, match="leave out angles"):
        gather(folder, config, scan=1, files={"angles": "0:1"})


def test_a_foreign_file_without_a_word_says_both_ways(foreign, config):
    with pytest.raises(ScanError, match=r"not a rocking scan that can be used.*Or say where things are: --frames"):
        gather(foreign, config)


def test_garbage(config, truth, tmp_path):
    files = {**told(truth), "angles": "0:1"}
    for name in ("noise.h5", "noise.tif", "noise.dat"):
        (tmp_path / name).write_bytes(np.random.default_rng(1).bytes(5000))
        with pytest.raises(ScanError, match=name):
            gather(tmp_path / name, config, files=files)
