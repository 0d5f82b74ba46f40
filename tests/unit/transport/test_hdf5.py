"""Scans on disk: exact round trips, whole files or none, frames while they grow, and one message a fault."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.metadata import scan_metadata
from live_bcdi.transport.hdf5 import (
    ANGLE_PATH,
    DATA_PATH,
    MONITOR_PATH,
    FrameFile,
    FrameWriter,
    read_scan,
    write_scan,
)
from live_bcdi.transport.spec import read_spec_scan
from live_bcdi.types import RockingScan, ScanError

ROOT = Path(__file__).resolve().parents[3]


def assert_same(left, right):
    """Every field equal, arrays in dtype and bits too."""
    for each in fields(left):
        a, b = getattr(left, each.name), getattr(right, each.name)
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), each.name
        else:
            assert a == b, each.name


def write_frames(writer: FrameWriter, scan: RockingScan, indices):
    for index in indices:
        writer.append(
            scan.intensity[index],
            angle_deg=scan.angles_deg[index],
            monitor=scan.monitor[index],
            timestamp_s=scan.timestamps_s[index],
        )


class TestWholeScan:
    def test_round_trip(self, tmp_path, scan):
        write_scan(tmp_path / "s.h5", scan)
        assert_same(read_scan(tmp_path / "s.h5"), scan)

    @pytest.mark.parametrize("dtype", ["u1", "<u2", ">i4", "<i8", "<f4", "<f8"])
    def test_round_trip_of_every_kind_of_count(self, tmp_path, scan, dtype):
        scan = replace(scan, intensity=scan.intensity.astype(dtype))
        write_scan(tmp_path / "s.h5", scan)
        assert_same(read_scan(tmp_path / "s.h5"), scan)

    def test_what_is_not_known_stays_unknown(self, tmp_path, scan):
        bare = RockingScan(
            name="bare", intensity=scan.intensity, angles_deg=scan.angles_deg, geometry=scan.geometry
        )
        write_scan(tmp_path / "s.h5", bare)
        assert_same(read_scan(tmp_path / "s.h5"), bare)

    def test_monitor_with_gaps_is_kept(self, tmp_path, scan):
        scan = replace(scan, monitor=np.array([1.0, np.nan, 2.0, np.inf, 3.0]))
        write_scan(tmp_path / "s.h5", scan)
        assert_same(read_scan(tmp_path / "s.h5"), scan)

    def test_measured_scan_round_trip(self, s0054, tmp_path):
        scan = read_spec_scan(s0054, 54, load_config(ROOT / "config" / "34idc.toml"))
        write_scan(tmp_path / "s.h5", scan)
        assert_same(read_scan(tmp_path / "s.h5"), scan)

    def test_a_second_write_replaces_the_first(self, tmp_path, scan):
        write_scan(tmp_path / "s.h5", scan)
        other = replace(scan, name="other")
        write_scan(tmp_path / "s.h5", other)
        assert_same(read_scan(tmp_path / "s.h5"), other)
        assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]

    def test_file_is_readable_by_others_as_the_umask_says(self, tmp_path, scan):
        write_scan(tmp_path / "s.h5", scan)
        (tmp_path / "plain").touch()
        assert (tmp_path / "s.h5").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_failure_leaves_the_old_file_and_nothing_else(self, tmp_path, scan):
        write_scan(tmp_path / "s.h5", scan)
        with pytest.raises(ScanError, match="JSON values only"):
            write_scan(tmp_path / "s.h5", replace(scan, metadata={"array": np.zeros(3)}))
        assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]
        assert_same(read_scan(tmp_path / "s.h5"), scan)

    def test_no_such_folder(self, tmp_path, scan):
        with pytest.raises(ScanError, match="could not be written: there is no such file or folder"):
            write_scan(tmp_path / "nowhere" / "s.h5", scan)

    def test_frames_are_one_compressed_chunk_each(self, tmp_path, scan):
        write_scan(tmp_path / "s.h5", scan)
        with h5py.File(tmp_path / "s.h5") as file:
            assert file[DATA_PATH].chunks == (1, 6, 8)
            assert "32008" in file[DATA_PATH]._filters  # the registered number of bitshuffle


class TestOtherProgramsRead:
    """The NeXus and CXI fields say the same as our own table."""

    @pytest.fixture
    def file(self, tmp_path, scan):
        write_scan(tmp_path / "s.h5", scan)
        with h5py.File(tmp_path / "s.h5", "r+") as file:
            yield file

    def test_default_plot(self, file, scan):
        entry = file[file.attrs["default"]]
        data = entry[entry.attrs["default"]]
        assert (file.attrs["NX_class"], entry.attrs["NX_class"], data.attrs["NX_class"]) == (
            "NXroot",
            "NXentry",
            "NXdata",
        )
        assert np.array_equal(data[data.attrs["signal"]], scan.intensity)
        assert np.array_equal(data[data.attrs["axes"][0]], scan.angles_deg)

    def test_cxi_names(self, file, scan):
        assert file["cxi_version"][()] == 160
        detector = file["entry_1/instrument_1/detector_1"]
        assert np.array_equal(file["entry_1/data_1/data"], scan.intensity)
        assert np.array_equal(detector["data"], scan.intensity)
        assert detector["distance"][()] == scan.geometry.distance_m
        assert detector["y_pixel_size"][()] == pytest.approx(55e-6, rel=1e-15)
        assert detector["x_pixel_size"][()] == pytest.approx(75e-6, rel=1e-15)
        assert np.array_equal(detector["mask"][()] != 0, scan.bad_pixels)
        joule = file["entry_1/instrument_1/source_1/energy"][()]
        assert joule == pytest.approx(9.1e3 * 1.602176634e-19, rel=1e-15)

    def test_every_class_and_unit_is_said(self, file):
        classes = {}
        file.visititems(lambda name, item: classes.setdefault(name, item.attrs.get("NX_class")))
        assert all(classes[name] for name, item in classes.items() if isinstance(file[name], h5py.Group))
        circles = file["entry/sample/transformations"]
        assert {name: circles[name].attrs["units"] for name in circles} == dict.fromkeys(
            ("mu", "theta", "chi"), "degree"
        )

    def test_circles_depend_on_the_one_they_sit_on(self, file):
        circles = file["entry/sample/transformations"]
        chain, name = [], file["entry/sample/depends_on"].asstr()[()].split("/")[-1]
        while name != ".":
            chain.append(name)
            name = circles[name].attrs["depends_on"]
        assert chain == ["chi", "theta", "mu"]

    def test_reading_without_our_table(self, file, scan, tmp_path):
        """All but what NeXus has no field for; micrometres come back from metres to rounding."""
        del file["entry/live_bcdi"]
        file.close()
        back = read_scan(tmp_path / "s.h5")
        assert back.geometry.pixel_um == pytest.approx(scan.geometry.pixel_um, rel=1e-15)
        middle = replace(
            scan.geometry,
            pixel_um=back.geometry.pixel_um,
            energy_kev=back.geometry.energy_kev,
            sample=tuple(
                replace(circle, angle_deg=scan.angles_deg[2]) if circle.motor == "theta" else circle
                for circle in scan.geometry.sample
            ),
        )
        assert back.geometry == middle
        assert back.geometry.energy_kev == pytest.approx(9.1, rel=1e-15)
        same = replace(
            back, geometry=scan.geometry, have=scan.have, timestamps_s=scan.timestamps_s, metadata=scan.metadata
        )
        assert_same(same, scan)

    def test_units_of_other_programs(self, file, scan, tmp_path):
        detector = file["entry/instrument/detector"]
        for name, value, units in (("distance", 1000 / 3, "mm"), ("x_pixel_size", 75.0, "um")):
            del detector[name]
            detector.create_dataset(name, data=value).attrs["units"] = units
        angles = file[ANGLE_PATH]
        angles[...] = np.deg2rad(scan.angles_deg)
        angles.attrs["units"] = "rad"
        del file["entry/live_bcdi"], file["entry/instrument/source_1"]
        file["entry/instrument/beam/incident_energy"][()] = 9100.0
        file["entry/instrument/beam/incident_energy"].attrs["units"] = "eV"
        file.close()
        back = read_scan(tmp_path / "s.h5")
        assert back.geometry.distance_m == pytest.approx(scan.geometry.distance_m, rel=1e-14)
        assert back.geometry.pixel_um == pytest.approx(scan.geometry.pixel_um, rel=1e-14)
        assert back.geometry.energy_kev == pytest.approx(9.1, rel=1e-14)
        assert back.angles_deg == pytest.approx(scan.angles_deg, rel=1e-14)

    def test_all_that_is_missing_is_said_at_once(self, tmp_path):
        """A CXI file as phasing programs keep them: counts, energy and distance, but no motors."""
        with h5py.File(tmp_path / "other.cxi", "w") as file:
            file["entry_1/data_1/data"] = np.zeros((4, 5, 6), np.int32)
            file["entry_1/instrument_1/source_1/energy"] = 1.4e-15
            file["entry_1/instrument_1/detector_1/distance"] = 0.5
        with pytest.raises(ScanError) as raised:
            read_scan(tmp_path / "other.cxi")
        for part in ("other.cxi", "x_pixel_size", "y_pixel_size", "0 sample rotations", "slow_pixel_direction"):
            assert part in str(raised.value)
        for part in ("distance", "photon energy"):
            assert part not in str(raised.value)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (None, "no frames at entry_1/data_1/data"),
            (np.zeros((4, 4)), "not .rocking, row, column. counts"),
            (np.zeros((4, 4, 4), complex), "not .rocking, row, column. counts"),
        ],
    )
    def test_no_frames(self, tmp_path, value, message):
        with h5py.File(tmp_path / "other.cxi", "w") as file:
            if value is not None:
                file["entry_1/data_1/data"] = value
        with pytest.raises(ScanError, match=message):
            read_scan(tmp_path / "other.cxi")

    def test_unknown_unit(self, file, tmp_path):
        del file["entry/live_bcdi"]
        file["entry/instrument/detector/distance"].attrs["units"] = "furlong"
        file.close()
        with pytest.raises(ScanError, match="distance is in 'furlong'; known are m, mm"):
            read_scan(tmp_path / "s.h5")


class TestDamagedFiles:
    def test_absent(self, tmp_path):
        with pytest.raises(ScanError, match=r"no\.h5 cannot be read: there is no such file"):
            read_scan(tmp_path / "no.h5")

    def test_not_hdf5(self, tmp_path):
        (tmp_path / "s.h5").write_text("hello")
        with pytest.raises(ScanError, match="it is not an HDF5 file"):
            read_scan(tmp_path / "s.h5")

    @pytest.mark.parametrize("part", [0.99, 0.5, 0.1, 0.01])
    def test_truncated(self, tmp_path, scan, part):
        path = tmp_path / "s.h5"
        write_scan(path, scan)
        os.truncate(path, int(path.stat().st_size * part))
        with pytest.raises(ScanError, match="it is truncated; copy it again"):
            read_scan(path)

    def test_damaged_frame(self, tmp_path, scan):
        path = tmp_path / "s.h5"
        write_scan(path, scan)
        with h5py.File(path) as file:
            chunk = file[DATA_PATH].id.get_chunk_info(2)
        with path.open("r+b") as raw:
            raw.seek(chunk.byte_offset)
            raw.write(b"\xff" * chunk.size)
        with pytest.raises(ScanError, match=r"s\.h5 holds no readable scan"):
            read_scan(path)
        with FrameFile(path) as frames:
            assert np.array_equal(frames.frame(1)[0], scan.intensity[1])
            with pytest.raises(ScanError, match=r"s\.h5 holds no readable frame 2"):
                frames.frame(2)

    def test_table_of_another_time(self, tmp_path, scan):
        path = tmp_path / "s.h5"
        write_scan(path, scan)
        with h5py.File(path, "r+") as file:
            del file["entry/live_bcdi/scan"]
            file["entry/live_bcdi/scan"] = '{"name": "x"}'
        with pytest.raises(ScanError, match="missing key 'geometry'"):
            read_scan(path)

    def test_file_without_frames(self, tmp_path):
        with h5py.File(tmp_path / "s.h5", "w") as file:
            file["a"] = 1
        with pytest.raises(ScanError, match="holds no readable frames"):
            FrameFile(tmp_path / "s.h5")


class TestGrowingFile:
    @pytest.fixture
    def path(self, tmp_path) -> Path:
        return tmp_path / "live.h5"

    @pytest.fixture
    def whole(self, scan) -> RockingScan:
        """A detector's file has every frame that it counts."""
        return replace(scan, have=None)

    def writer(self, path, scan, **metadata):
        return FrameWriter(path, scan.intensity.shape[1:], scan.intensity.dtype, **metadata)

    def test_frames_as_they_come(self, path, whole):
        with self.writer(path, whole) as writer, FrameFile(path) as reader:
            for index in range(5):
                assert (writer.count, reader.count()) == (index, index)
                write_frames(writer, whole, [index])
                image, *values = reader.frame(index)
                assert np.array_equal(image, whole.intensity[index])
                expected = (whole.angles_deg[index], whole.monitor[index], whole.timestamps_s[index])
                assert tuple(values) == expected
            with pytest.raises(ScanError, match="has no frame 5; 5 are complete"):
                reader.frame(5)

    @pytest.mark.parametrize("order", [">", "<"])
    def test_frames_of_any_byte_order_are_had_in_this_machines(self, path, whole, order):
        """As those of the stream are, beside which they are put."""
        other = replace(whole, intensity=whole.intensity.astype(f"{order}u2"))
        with FrameWriter(path, (6, 8), f"{order}u2", metadata=scan_metadata(other)) as writer:
            write_frames(writer, other, range(3))
            with FrameFile(path) as file:
                image = file.frame(2)[0]
                scan = file.scan()
        assert image.dtype.isnative and scan.intensity.dtype.isnative
        np.testing.assert_array_equal(image, whole.intensity[2])
        np.testing.assert_array_equal(scan.intensity, whole.intensity[:3])

    def test_becomes_a_scan(self, path, whole):
        with self.writer(path, whole, metadata=scan_metadata(whole)) as writer:
            write_frames(writer, whole, range(3))
            part = read_scan(path)
            assert np.array_equal(part.intensity, whole.intensity[:3])
            write_frames(writer, whole, range(3, 5))
        assert_same(read_scan(path), whole)
        with h5py.File(path) as file:
            assert np.array_equal(file["entry_1/sample_1/transformations/theta"], whole.angles_deg)

    def test_without_metadata_it_is_frames_only(self, path, whole):
        with self.writer(path, whole) as writer:
            write_frames(writer, whole, range(5))
        with FrameFile(path) as frames:
            assert frames.count() == 5
        with pytest.raises(ScanError, match="is not a rocking scan that can be used"):
            read_scan(path)

    def test_wrong_metadata_makes_no_file(self, path, whole):
        with pytest.raises(ScanError, match="missing key 'geometry'"):
            self.writer(path, whole, metadata={"name": "x"})
        assert not path.exists()

    def test_monitor_that_was_not_there(self, path, whole):
        with self.writer(path, whole, metadata=scan_metadata(whole)) as writer:
            for index in range(5):
                writer.append(whole.intensity[index], angle_deg=0.1 * index, timestamp_s=float(index))
        scan = read_scan(path)
        assert scan.monitor is None
        assert scan.timestamps_s.tolist() == [0, 1, 2, 3, 4]

    def test_one_lost_monitor_reading_leaves_the_others(self, path, whole):
        monitor = [1.0, np.nan, 2.0, 3.0, 4.0]
        with self.writer(path, whole, metadata=scan_metadata(whole)) as writer:
            for index in range(5):
                writer.append(
                    whole.intensity[index], angle_deg=0.1 * index, monitor=monitor[index], timestamp_s=float(index)
                )
        np.testing.assert_array_equal(read_scan(path).monitor, monitor)

    def test_raw_data_are_not_overwritten(self, path, whole):
        self.writer(path, whole).close()
        with pytest.raises(ScanError, match=r"live.h5 cannot be made"):
            self.writer(path, whole)

    @pytest.mark.parametrize("change", [lambda image: image[:-1], lambda image: image.astype("f4")])
    def test_a_wrong_frame_does_no_harm(self, path, whole, change):
        with self.writer(path, whole, metadata=scan_metadata(whole)) as writer:
            write_frames(writer, whole, range(4))
            with pytest.raises(ScanError, match="frame 4 is"):
                writer.append(change(whole.intensity[4]), angle_deg=0, timestamp_s=0)
            write_frames(writer, whole, [4])
        assert_same(read_scan(path), whole)

    def test_full_disk_keeps_what_was_written(self, path, whole, monkeypatch):
        """The writer stops while there is room to close the file: HDF5 does not survive a failed write."""
        free = iter([10**9, 10**9, 10**6])
        usage = shutil.disk_usage(path.parent)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=next(free)))
        with self.writer(path, whole, metadata=scan_metadata(whole)) as writer:
            with pytest.raises(ScanError, match=r"live\.h5: the disk is full \(1 MB left.*make room"):
                write_frames(writer, whole, range(5))
            assert writer.count == 2
        assert np.array_equal(read_scan(path).intensity, whole.intensity[:2])

    def test_close_twice(self, path, whole):
        writer = self.writer(path, whole)
        writer.close()
        writer.close()

    def test_images_never_outrun_their_angles(self, path, whole, monkeypatch):
        """Whatever is flushed last when the writer dies, an image on disk has its angle and monitor there."""
        writer = self.writer(path, whole)
        write_frames(writer, whole, range(2))
        order = []
        flush = h5py.Dataset.flush
        monkeypatch.setattr(h5py.Dataset, "flush", lambda dataset: (order.append(dataset.name), flush(dataset))[1])
        write_frames(writer, whole, [2])
        monkeypatch.undo()
        writer.close()
        assert order.index(DATA_PATH) > max(order.index(ANGLE_PATH), order.index(MONITOR_PATH))
        assert order[-1] == "/entry/live_bcdi/complete"

    def test_whole_scan_files_too(self, path, scan):
        write_scan(path, replace(scan, monitor=None, timestamps_s=None))
        with FrameFile(path) as frames:
            image, angle_deg, monitor, timestamp_s = frames.frame(4)
        assert frames_equal(image, scan.intensity[4])
        assert angle_deg == scan.angles_deg[4]
        assert np.isnan(monitor)
        assert np.isnan(timestamp_s)

    def test_waits_for_a_file_to_come(self, path, whole):
        with pytest.raises(ScanError, match="there is no such file"):
            FrameFile(path, wait_s=0.05)


def frames_equal(left, right) -> bool:
    return bool(np.array_equal(left, right))


WRITER = """
import os, resource, signal, sys, time
import numpy as np
from pathlib import Path
from live_bcdi.transport.hdf5 import FrameWriter, read_scan, write_scan
from live_bcdi.metadata import scan_metadata
from live_bcdi.types import ScanError

source, path, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
scan = read_scan(source)
if mode.startswith("full"):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    if mode == "full-scan":
        write_scan(path, scan)
    shape, dtype = scan.intensity.shape[1:], scan.intensity.dtype
    with FrameWriter(path, shape, dtype, metadata=scan_metadata(scan)) as writer:
        for index, image in enumerate(scan.intensity):
            writer.append(image, angle_deg=scan.angles_deg[index], monitor=1.0 * index, timestamp_s=2.0 * index)
            if mode == "slow":
                time.sleep(0.01)
            if mode == "die" and index == 6:
                os.kill(os.getpid(), signal.SIGKILL)
except ScanError as error:
    print(error)
    sys.exit(3)
"""


class TestOtherProcess:
    """The writer is a process of its own, as the detector is."""

    @pytest.fixture
    def source(self, tmp_path, scan) -> RockingScan:
        random = np.random.default_rng(0)
        source = replace(
            scan,
            intensity=random.integers(0, 2**31, (20, 48, 40), np.int32),  # incompressible
            angles_deg=np.arange(20.0),
            monitor=None,
            timestamps_s=None,
            have=None,
            bad_pixels=None,
            flatfield=None,
        )
        write_scan(tmp_path / "source.h5", source)
        return source

    def start(self, tmp_path, mode):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "source.h5"), str(tmp_path / "live.h5"), mode]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def test_reader_opens_before_the_file_is_there_and_follows(self, tmp_path, source):
        with self.start(tmp_path, "slow") as process, FrameFile(tmp_path / "live.h5", wait_s=30.0) as reader:
            seen = 0
            while seen < 20:
                for index in range(seen, reader.count()):
                    image, angle_deg, monitor, timestamp_s = reader.frame(index)
                    assert np.array_equal(image, source.intensity[index])
                    assert (angle_deg, monitor, timestamp_s) == (index, index, 2 * index)
                    seen = index + 1
                assert process.poll() in (None, 0)
        assert process.returncode == 0

    def test_killed_writer_leaves_its_frames(self, tmp_path, source):
        with self.start(tmp_path, "die") as process:
            pass
        assert process.returncode == -signal.SIGKILL
        with FrameFile(tmp_path / "live.h5") as reader:
            assert reader.count() == 7
            assert np.array_equal(reader.frame(6)[0], source.intensity[6])
        scan = read_scan(tmp_path / "live.h5")
        assert np.array_equal(scan.intensity, source.intensity[:7])
        assert scan.geometry == source.geometry

    def test_full_disk_leaves_no_half_scan(self, tmp_path, source):
        with self.start(tmp_path, "full-scan") as process:
            said = process.stdout.read()
        assert process.returncode == 3, said
        assert "live.h5 could not be written: the disk is full; make room and do it again" in said
        assert [path.name for path in tmp_path.iterdir()] == ["source.h5"]
