"""The key of Tiled: the server makes it, everyone else reads it or is told where to look. A result in Tiled."""

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.cli import config_path
from live_bcdi.config import Config, StorageConfig, TiledConfig, load_config
from live_bcdi.stream.fakes import RUN, small_scan, start_document
from live_bcdi.tracking.following import motion_table, place_table
from live_bcdi.transport.tiled import api_key, connect, make_api_key, read_raw_scan, store_result
from live_bcdi.transport.tracks import series_key, store_track
from live_bcdi.types import (
    Agreement,
    LabImage,
    Outcome,
    Reconstruction,
    Resolution,
    ScanError,
    ShellCorrelation,
)

VARIABLE = "LIVE_BCDI_TILED_API_KEY"


@pytest.fixture
def config(tmp_path, monkeypatch) -> Config:
    monkeypatch.delenv(VARIABLE, raising=False)
    return load_config(config_path("34idc")).model_copy(update={"storage": StorageConfig(directory=tmp_path)})


def of_a_site(config: Config, uri: str) -> Config:
    return config.model_copy(update={"tiled": TiledConfig(uri=uri)})


@pytest.fixture
def server():
    """An HTTP server that answers everything with one status."""

    class Answer(BaseHTTPRequestHandler):
        status = 401

        def do_GET(self):
            self.send_response(self.status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield Answer, f"http://127.0.0.1:{running.server_port}/api/v1"
        running.shutdown()


def test_the_servers_key_is_for_its_owner_only(config, tmp_path):
    key = make_api_key(config)
    assert len(key) == 64
    assert (tmp_path / "tiled" / "api_key").stat().st_mode & 0o777 == 0o600
    assert make_api_key(config) == api_key(config) == key


def test_a_client_makes_no_key(config, tmp_path):
    with pytest.raises(ScanError, match=rf"no key for Tiled .*{tmp_path}/tiled/api_key .*\${VARIABLE}"):
        api_key(config)
    assert list(tmp_path.iterdir()) == []


def test_where_it_was_looked_for_is_a_whole_path(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScanError, match=f"{tmp_path}/runs/tiled/api_key cannot be read"):
        api_key(config.model_copy(update={"storage": StorageConfig(directory=Path("runs"))}))


def test_a_key_that_others_can_read_is_refused(config, tmp_path):
    make_api_key(config)
    (tmp_path / "tiled" / "api_key").chmod(0o644)
    for find in (api_key, make_api_key):
        with pytest.raises(ScanError, match=r"others can read the key in .*api_key \(mode 644\)"):
            find(config)


def test_the_environment_comes_first(config, monkeypatch):
    make_api_key(config)
    monkeypatch.setenv(VARIABLE, "given")
    assert api_key(config) == make_api_key(config) == "given"


def test_a_sites_key_is_never_ours(config, monkeypatch):
    make_api_key(config)
    site = of_a_site(config, "https://tiled.example/api/v1")
    for find in (api_key, make_api_key):
        with pytest.raises(
            ScanError, match=rf"no key for Tiled at https://tiled.example/api/v1: set \${VARIABLE}"
        ):
            find(site)
    monkeypatch.setenv(VARIABLE, "given")
    assert api_key(site) == "given"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_an_absent_server(config, server, monkeypatch, status):
    answer, uri = server
    answer.status = status
    monkeypatch.setenv(VARIABLE, "wrong")
    with pytest.raises(ScanError, match=rf"Tiled at {uri} refused the key \({status}\); .*\${VARIABLE}"):
        connect(of_a_site(config, uri))


def test_a_server_without_a_key_for_it(config, server):
    with pytest.raises(ScanError, match=rf"no key for Tiled at {server[1]}: set \${VARIABLE}"):
        connect(of_a_site(config, server[1]))


def test_an_absent_server(config, free_port):
    with pytest.raises(ScanError, match=r"cannot be reached .*`live-bcdi up`"):
        connect(of_a_site(config, f"http://127.0.0.1:{free_port()}/api/v1"))


def test_every_array_of_a_result_has_its_unit_and_a_form_that_tiled_draws():
    cube = np.ones((4, 4, 4), np.complex64)
    real, support = np.full(cube.shape, 2e-4, np.float32), cube != 0
    line = np.arange(3.0)
    result = Reconstruction(
        density=cube,
        support=support,
        chi=0.0,
        chi_starts=(0.0,),
        metrics={},
        recipe="ER",
        seed=0,
        outcome=Outcome.DONE,
        lab=LabImage(
            density=cube,
            support=support,
            displacement_angstrom=real,
            strain=real,
            voxel_nm=5.0,
            q_centre_invA=np.array([0.0, 2.0, 0.0]),
            displacement_std_angstrom=real,
            strain_std=real,
        ),
        resolution=Resolution(q_invA=line, prtf=line, resolution_nm=1.0),
        agreement=Agreement(
            mode=1j * cube,
            weights=line,
            amplitude_std=real,
            phase_std_rad=real,
            correlation=ShellCorrelation(
                q_invA=line, correlation=line, voxels=np.arange(3), resolution_nm={"0.5": 9.5}
            ),
        ),
    )
    node = Recorder()
    assert store_result(node, "uid", result, {"name": "s"}) == "refined/uid/1"
    arrays = node["refined"]["uid"]["1"].arrays
    assert {name for name, (array, _) in arrays.items() if np.iscomplexobj(array)} == {"density"}
    for name, (array, about) in arrays.items():
        assert "units" in about or array.dtype == bool, name
        assert array.ndim == 1 or about["axes"] in ("x, y, z", "rocking, row, column"), name
    np.testing.assert_allclose(arrays["mode_phase"][0], np.pi / 2)
    # d_0 = 2 pi / 2 ångström, strained by 2e-4
    np.testing.assert_allclose(arrays["d_spacing"][0], np.pi * 1.0002, rtol=1e-6)
    assert arrays["fsc"][1]["resolution_nm 0.5"] == "9.5"
    assert {"strain_std", "displacement_std", "phase_std", "amplitude_std", "shear_1", "shear_2"} <= set(arrays)
    bare = Recorder()
    store_result(bare, "uid", replace(result, lab=None, resolution=None, agreement=None), {})
    assert set(bare["refined"]["uid"]["1"].arrays) == {"density", "detector_support"}


def test_a_result_that_comes_again_is_stored_once():
    """Who was killed before it noted the delivery comes again; who was killed within it left half of it."""
    density = np.ones((4, 4, 4), np.complex64)
    result = Reconstruction(
        **{"density": density, "support": density.real > 0, "chi_starts": (0.1,), "chi": 0.1},
        **{"recipe": "ER", "seed": 0, "outcome": Outcome.DONE, "metrics": {}},
    )
    node = Recorder()
    assert store_result(node, "uid", result, {"file": "a"}) == "refined/uid/1"
    assert store_result(node, "uid", result, {"file": "a"}) == "refined/uid/1"
    assert store_result(node, "uid", result, {"file": "b"}) == "refined/uid/2"
    node["refined"]["uid"]["2"].metadata["complete"] = False
    assert store_result(node, "uid", result, {"file": "b"}) == "refined/uid/3", "files of 2 may be there still"
    assert set(node["refined"]["uid"]) == {"1", "3"}
    assert all(version.metadata["complete"] for version in node["refined"]["uid"].values())
    assert store_result(node, "uid", result, {"file": "c"}, kind="preview") == "preview/uid/1"
    assert set(node["refined"]["uid"]) == {"1", "3"}


def test_of_a_series_the_newest_few_stay_and_no_halves():
    """It is delivered after every scan, as a whole: 220 of them must not lie there."""
    row = {"run": "3f9c", "name": "gold 7", "time_s": 1.0, "reasons": []}
    row |= {**motion_table(None), **place_table("no counts")}
    node, told = Recorder(), {"series": "gold", "scans": [row], "prediction": {}}
    paths = [store_track(node, {}, told, finished_s=float(number)) for number in range(4)]
    versions = node["series"][series_key("gold")]
    versions["4"].metadata["complete"] = False  # who is killed leaves half of one
    paths += [store_track(node, {}, told, finished_s=float(number)) for number in range(4, 12)]
    assert [path.split("/")[-1] for path in paths] == [str(number) for number in range(1, 13)]
    assert list(versions) == ["8", "9", "10", "11", "12"]
    assert all(version.metadata["complete"] for version in versions.values())


class Recorder(dict):
    """As much of a Tiled container as `store_result` asks for."""

    def __init__(self, metadata=None):
        super().__init__()
        self.arrays = {}
        self.metadata = dict(metadata or {})

    def create_container(self, name, metadata=None):
        self[name] = Recorder(metadata)
        return self[name]

    def delete_contents(self, names, *, recursive, external_only):
        for name in names:
            del self[name]

    def write_array(self, array, key, metadata):
        self.arrays[key] = (array, metadata)

    def update_metadata(self, metadata):
        assert metadata == {"complete": True}
        self.metadata |= metadata


class Node(dict):
    """What a client of Tiled gives: a mapping with metadata, or an array to read."""

    def __init__(self, items=(), metadata=None, array=None):
        super().__init__(items)
        self.metadata, self._array = metadata, array

    def read(self):
        return self._array


def test_a_raw_run_of_a_killed_detector_ends_with_its_last_whole_frame():
    """It writes angle and monitor before the frame: the soak met 13 angles with 12 frames."""
    scan = small_scan(num=13, shape=(8, 6))
    arrays = {"det": scan.intensity[:12], "det-angle": scan.angles_deg, "det-monitor": scan.monitor}
    stream = Node({key: Node(array=array) for key, array in arrays.items()})
    run = Node({"primary": stream}, metadata={"start": start_document(scan)})
    found = read_raw_scan(Node({"raw": Node({RUN: run})}), RUN[:8])
    np.testing.assert_array_equal(found.intensity, scan.intensity[:12])
    np.testing.assert_array_equal(found.angles_deg, scan.angles_deg[:12])
    np.testing.assert_array_equal(found.monitor, scan.monitor[:12])
