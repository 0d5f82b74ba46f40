"""The oracle must see each kind of loss: a run that is right, then spoiled in one way after another."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.faults.material import Material, write_configs
from live_bcdi.faults.oracle import Fate, Fault, Oracle, Run, leftovers
from live_bcdi.metadata import scan_metadata
from live_bcdi.pipeline import reconstruct_as_configured
from live_bcdi.stream.run import KEY, planned_metadata
from live_bcdi.transport.hdf5 import FrameWriter, read_result, write_result

BEAMLINE = Path(__file__).resolve().parents[3] / "config" / "34idc.toml"
UID = "0123abcd-run"


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    services, _ = write_configs(folder, BEAMLINE)
    return Material(folder / "scans", services)


class Node(dict):
    """A container of Tiled's, as far as the oracle looks."""

    def __init__(self, *args, metadata=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.metadata = metadata or {}


class Leaf:
    def __init__(self, values):
        self.values, self.shape = values, np.shape(values)

    def read(self):
        return self.values


class World:
    """A run of the first `count` frames of a scan as everything right would leave it."""

    def __init__(self, storage, material, count=None):
        self.storage, self.material = storage, material
        for folder in ("frames", "results", "queue/done", "queue/failed", "outbox", "documents"):
            (storage / folder).mkdir(parents=True)
        self.file = material.files[0]
        whole = material.scan(self.file)
        self.num = len(whole.intensity)
        self.count = self.num if count is None else count
        self.scan = material.scan(self.file, self.count)
        self.write_frames(self.scan)
        self.result = reconstruct_as_configured([self.scan], material.config)
        self.write_result(self.result)
        self.ticket(frames=self.count, missing=list(range(self.count, self.num)))
        self.root = Node(raw=Node({UID: self.raw(self.count)}), refined=Node({UID: Node({"1": self.version()})}))
        self.run = Run(
            number=0, file=self.file, num=self.num, fly=False, uid=UID, told=self.count, fate=Fate.COMPLETE
        )

    def write_frames(self, scan):
        path = self.storage / "frames" / f"scan_{UID[:8]}.h5"
        path.unlink(missing_ok=True)
        with FrameWriter(path, scan.intensity.shape[1:], scan.intensity.dtype) as file:
            for image, angle_deg in zip(scan.intensity, scan.angles_deg):
                file.append(image, angle_deg=angle_deg, timestamp_s=0.0)

    def write_result(self, result):
        path = self.storage / "results" / f"scan_{UID[:8]}_1.cxi"
        path.unlink(missing_ok=True)
        write_result(path, result, scan_name="scan", run=UID, links={})

    def ticket(self, **fields):
        table = {"run": UID, "file": str(self.storage / "results" / f"scan_{UID[:8]}_1.cxi"), **fields}
        (self.storage / "queue/done" / f"000_{UID}.json").write_text(json.dumps(table))

    def raw(self, frames, stop=True):
        scan = self.material.scan(self.file, frames)
        stream = {"det": scan.intensity, "det-angle": scan.angles_deg, "det-monitor": scan.monitor}
        ends = {"start_deg": scan.angles_deg[0], "stop_deg": scan.angles_deg[-1]}
        start = {"uid": UID, KEY: planned_metadata(scan_metadata(scan), num=self.num, **ends)}
        about = {"start": start, "stop": {"exit_status": "success"} if stop else None}
        return Node(primary=Node({key: Leaf(values) for key, values in stream.items()}), metadata=about)

    def version(self, density=None, complete=True):
        density = self.result.density if density is None else density
        return Node(density=Leaf(density), metadata={"complete": complete})

    def found(self):
        oracle = Oracle(self.storage, self.material)
        findings = oracle.result(self.run, self.root)
        findings += oracle.versions(self.run, self.root) + oracle.raw(self.run, self.root)
        return {finding.fault for finding in findings}


@pytest.fixture
def world(tmp_path, material):
    return World(tmp_path, material)


def test_a_right_run_is_right(world):
    assert world.found() == set()
    assert Oracle(world.storage, world.material).settled([world.run]) == [world.run]


def test_an_aborted_run_is_right_when_it_names_what_is_missing(tmp_path, material):
    assert World(tmp_path, material, count=12).found() == set()


def test_a_missing_list_that_leaves_one_out_is_wrong(tmp_path, material):
    world = World(tmp_path, material, count=12)
    world.ticket(frames=12, missing=list(range(13, world.num)))
    assert world.found() == {Fault.WRONG}


def test_a_result_of_fewer_frames_than_the_file_holds_lost_them(world):
    world.write_result(
        reconstruct_as_configured([world.material.scan(world.file, world.num - 1)], world.material.config)
    )
    world.ticket(frames=world.num - 1, missing=[world.num - 1])
    assert world.found() == {Fault.LOST, Fault.WRONG}


def test_frames_that_are_documented_and_not_in_the_file_are_lost(world):
    world.run.told = world.num + 1
    assert Fault.LOST in world.found()


def test_one_count_that_differs_in_the_detectors_file_is_wrong(world):
    frames = world.scan.intensity.copy()
    frames[3, 5, 5] += 1
    world.write_frames(replace(world.scan, intensity=frames))
    with pytest.raises(Exception, match="frame 3 of the detector's file"):
        world.found()


def test_a_density_that_differs_in_one_voxel_is_wrong(world):
    density = world.result.density.copy()
    density[2, 2, 2] = np.nextafter(density[2, 2, 2].real + 1, 2)
    world.root["refined"][UID]["1"] = world.version(density)
    assert world.found() == {Fault.WRONG}
    world.write_result(replace(read_result(world.storage / "results" / f"scan_{UID[:8]}_1.cxi"), density=density))
    world.root["refined"][UID]["1"] = world.version()
    assert world.found() == {Fault.WRONG}


def test_a_result_of_another_input_is_wrong(world):
    world.write_result(replace(world.result, provenance={**world.result.provenance, "input_sha256": "0"}))
    assert world.found() == {Fault.WRONG}


def test_no_result_is_missing(world):
    ticket = next((world.storage / "queue/done").glob("*.json"))
    ticket.rename(world.storage / "queue/failed" / ticket.name)
    assert world.found() == {Fault.MISSING}
    assert Oracle(world.storage, world.material).settled([world.run]) == [world.run]


def test_a_result_that_tiled_does_not_have_whole_is_missing(world):
    world.root["refined"][UID]["1"].metadata["complete"] = False
    assert world.found() == {Fault.MISSING}
    del world.root["refined"][UID]
    assert world.found() == {Fault.MISSING}


def test_a_result_twice_is_seen(world):
    world.root["refined"][UID]["2"] = world.version()
    assert world.found() == {Fault.TWICE}


def test_a_result_of_frames_that_give_none_is_wrong(tmp_path, material):
    world = World(tmp_path, material)
    (tmp_path / "frames" / f"scan_{UID[:8]}.h5").unlink()
    world.run.told = 0
    assert Fault.WRONG in world.found()


@pytest.mark.parametrize("spoil", ["absent", "no stop", "short"])
def test_a_raw_run_that_is_not_whole_is_seen(world, spoil):
    if spoil == "absent":
        del world.root["raw"][UID]
    else:
        world.root["raw"][UID] = world.raw(world.num - (spoil == "short"), stop=spoil != "no stop")
    assert world.found() == {Fault.RAW}


@pytest.mark.parametrize(("more", "found"), [(1, set()), (2, {Fault.RAW})])
def test_a_frame_that_was_written_whole_before_the_kill_is_none_too_many(tmp_path, material, more, found):
    world = World(tmp_path, material, count=12)
    world.run.fate = Fate.KILLED
    world.root["raw"][UID] = world.raw(12 + more)
    assert world.found() == found


def test_what_is_owed_is_not_settled_and_what_is_left_is_told(world):
    (world.storage / "outbox" / f"000_{UID}.json").write_text("{}")
    (world.storage / "results" / "x.partial").write_text("")
    assert Oracle(world.storage, world.material).settled([world.run]) == []
    assert sorted(leftovers(world.storage)) == [f"outbox/000_{UID}.json", "results/x.partial"]
