"""`open_run` against a Tiled in this process, with runs laid out as bluesky and refinement write them."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import httpx
import numpy as np
import pytest
import xarray as xr

from live_bcdi import catalogue, open_run
from live_bcdi.config import StorageConfig, TiledConfig, find_config, load_config
from live_bcdi.metadata import scan_metadata
from live_bcdi.stream.run import planned_metadata
from live_bcdi.transport.hdf5 import read_result, write_result, write_scan
from live_bcdi.transport.stored import result_metadata
from live_bcdi.transport.tiled import store, store_result, tiled_errors
from live_bcdi.types import ScanError

ROOT = Path(__file__).resolve().parents[2]
MEASURED, TWICE, WAITING, OTHER = "aa110000-5ed", "aa112222-ce", "bb330000-a17", "cc440000-07"


@pytest.fixture
def root(empty_tiled, scan, result):
    """The catalogue with four runs: measured and refined once, refined again, not refined, measured by others."""
    if "raw" in empty_tiled:
        return empty_tiled
    whole = replace(scan, have=None, timestamps_s=None)
    raw, refined = (empty_tiled.create_container(name) for name in ("raw", "refined"))
    for uid in (MEASURED, TWICE, WAITING):
        table = planned_metadata(scan_metadata(whole), num=5, start_deg=0.1, stop_deg=0.14)
        node = raw.create_container(uid, metadata={"start": {"uid": uid, "time": 1.0, "live_bcdi": table}})
        primary = node.create_container("primary")
        primary.write_array(whole.intensity[:, None], key="detector")
        primary.write_array(whole.angles_deg, key="detector-angle")
        primary.write_array(whole.monitor, key="detector-monitor")
    raw.create_container(OTHER, metadata={"start": {"uid": OTHER, "time": 2.0}})
    versions = refined.create_container(TWICE)
    for seed in (2, 9, 10):
        table = {**result_metadata(replace(result, seed=seed)), "name": "crystal 3", "complete": True}
        versions.create_container(str(seed), metadata=table)
    versions.create_container("11", metadata={"complete": False, "name": "cut off"})
    store_result(empty_tiled, MEASURED, result, {"name": "crystal 3", "file": "a"})
    return empty_tiled


@pytest.fixture
def config(tmp_path):
    found = load_config(find_config("34idc"))
    return found.model_copy(update={"storage": StorageConfig(directory=tmp_path)})


@pytest.fixture
def look(root, monkeypatch):
    """`open_run` of that server."""
    monkeypatch.setattr(catalogue, "connect", lambda config: root)
    return open_run


def test_a_run_by_the_beginning_of_its_uid(look):
    run = look("aa1100")
    assert (run.uid, run.name, list(run.results["refined"])) == (MEASURED, "crystal 3", ["1"])
    assert run.metadata["start"]["time"] == 1.0
    assert repr(run) == "<run aa110000 'crystal 3': refined 1>"
    assert look(MEASURED).uid == MEASURED


def test_without_a_uid_the_run_that_was_refined_last(look):
    assert look().uid == MEASURED


def test_the_notebook(look, monkeypatch, result, scan):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    notebook = json.loads((ROOT / "docs" / "read_results.ipynb").read_text(encoding="utf-8"))
    names: dict = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["run"].uid == MEASURED
    np.testing.assert_array_equal(names["middle"]["strain"], result.lab.strain[3])
    np.testing.assert_array_equal(names["frames"], scan.intensity)


def test_every_array_is_that_of_the_result(look, result):
    found = look(MEASURED).result()
    whole = found.dataset()
    assert set(found) == set(whole.variables) - {*"xyz", "rocking", "row", "column", "mode"} - {
        f"q_{axis}" for axis in ("rocking", "row", "column")
    }
    for name, expected in (
        ("strain", result.lab.strain),
        ("strain_std", result.lab.strain_std),
        ("displacement", result.lab.displacement_angstrom),
        ("support", result.lab.support),
        ("density", result.density),
        ("intensity", result.volume.intensity),
        ("prtf", result.resolution.prtf),
        ("phase_std", result.agreement.phase_std_rad),
    ):
        np.testing.assert_array_equal(whole[name].values, expected)
        assert whole[name].values.dtype == expected.dtype
    np.testing.assert_array_equal(whole["prtf"]["prtf_q"], result.resolution.q_invA)
    assert whole["prtf_q"].attrs["units"] == "1/angstrom"
    assert float(whole["x"][1] - whole["x"][0]) == pytest.approx(5.1)
    assert whole.attrs["provenance.numpy"] == "2.4"
    assert whole["phase"].attrs["convention"] == "phase = -h.u"
    assert whole.attrs["recipe"] == result.recipe


def test_the_reconstruction_comes_back(look, result):
    back = look(MEASURED).result().reconstruction()
    np.testing.assert_array_equal(back.density, result.density)
    np.testing.assert_array_equal(back.lab.strain, result.lab.strain)
    np.testing.assert_array_equal(back.volume.q_steps_invA, result.volume.q_steps_invA)
    assert back.outcome is result.outcome


def test_the_newest_of_several_results_and_each_by_its_number(look):
    """As text, 10 comes before 2. What was cut off while it was stored is none."""
    run = look("aa112")
    assert list(run.results["refined"]) == ["2", "9", "10"]
    assert run.result().metadata["seed"] == 10
    assert run.result(2).metadata["seed"] == run.result("2").metadata["seed"] == 2
    with pytest.raises(ScanError, match="run aa112222 has no refined result 11; it has 2, 9, 10"):
        run.result(11)


def test_the_raw_scan(look, scan):
    run = look("bb330")
    found = run.scan()
    np.testing.assert_array_equal(found.intensity, scan.intensity)
    np.testing.assert_array_equal(found.angles_deg, scan.angles_deg)
    np.testing.assert_array_equal(found.monitor, scan.monitor)
    assert found.geometry == scan.geometry
    np.testing.assert_array_equal(run.frames().values, scan.intensity)


def test_results_of_every_kind_are_read_and_none_is_overwritten(look, root):
    """As a tracker will store them: arrays of any number of axes, and no recipe."""
    shift = np.arange(12.0).reshape(4, 3)
    arrays = {
        "shift": (shift, {"axes": "state, direction", "units": "um"}),
        "surface": (np.zeros((2, 3, 4)), {"units": "1"}),
    }
    paths = [store(root, ("tracking", WAITING), arrays, {"name": "crystal 3", "chi": chi}) for chi in (1.0, 2.0)]
    assert paths == [f"tracking/{WAITING}/1", f"tracking/{WAITING}/2"]
    run = look("bb330")
    assert repr(run) == "<run bb330000 'crystal 3': tracking 1, 2>"
    found = run.result(1, kind="tracking")
    assert found["shift"].dims == ("state", "direction")
    np.testing.assert_array_equal(found["shift"], shift)
    assert found["surface"].shape == (2, 3, 4)
    assert repr(found) == f"<tracking/{WAITING}/1: chi 1>"
    assert run.result(kind="tracking").metadata["chi"] == 2.0
    with pytest.raises(ScanError, match="is not whole"):
        found.reconstruction()
    with pytest.raises(ScanError, match="has no preview result yet"):
        run.result(kind="preview")
    with pytest.raises(ScanError, match="no kind of result; they are refined, preview"):
        store(root, ("refinde", WAITING), arrays, {})
    root.delete_contents("tracking", recursive=True, external_only=False)


def test_no_result_yet(look):
    run = look("bb330")
    assert "no results yet" in repr(run)
    with pytest.raises(ScanError, match=r"run bb330000 \(crystal 3\) has no refined result yet; `live-bcdi phase"):
        run.result()


@pytest.mark.parametrize(
    ("uid", "says"),
    [
        ("dddd", "0 runs in Tiled begin with 'dddd'"),
        ("aa11", f"2 runs in Tiled begin with 'aa11': {MEASURED}, {TWICE}; give the uid of one"),
        ("aa1", "there is no file 'aa1', and the uid of a run begins with 4 to 8 hexadecimal digits"),
        ("", "it is a folder"),
    ],
)
def test_which_run_is_not_clear(look, uid, says):
    with pytest.raises(ScanError, match=says):
        look(uid)


def test_a_run_of_other_plans(look):
    with pytest.raises(ScanError, match="live_bcdi_plans"):
        look("cc440").scan()


def test_an_array_that_is_not_there(look):
    with pytest.raises(ScanError, match=rf"refined/{MEASURED}/1 has no array 'tilt'; it has .*strain"):
        look(MEASURED).result()["tilt"]


def test_an_absent_tiled(config, free_port, monkeypatch):
    monkeypatch.setenv(catalogue.URI_ENV, f"http://127.0.0.1:{free_port()}/api/v1")
    with pytest.raises(ScanError, match=r"cannot be reached .*`live-bcdi up`"):
        open_run("aa1100")
    away = config.model_copy(update={"tiled": TiledConfig(port=free_port())})
    with pytest.raises(ScanError, match="cannot be reached"):
        open_run("aa1100", config=away)
    with pytest.raises(ScanError, match=r"no configuration file nowhere\.toml"):
        open_run("aa1100", config="nowhere.toml")


def test_tiled_goes_away_while_one_looks(look, config):
    class Gone:
        metadata = MappingProxyType({"axes": "x, y, z"})

        def read(self):
            raise httpx.ConnectError("refused")

    found = replace(look(MEASURED).result(), arrays={"strain": Gone()}, errors=lambda: tiled_errors(config))
    with pytest.raises(ScanError, match=r"cannot be reached \(ConnectError\)"):
        found["strain"]


def test_a_file_gives_what_tiled_gives(look, tmp_path, result):
    write_result(tmp_path / "r.cxi", result, scan_name="crystal 3", run=MEASURED, links={})
    run, stored = open_run(tmp_path / "r.cxi"), look(MEASURED)
    assert (run.uid, run.name) == (stored.uid, stored.name)
    ours, theirs = run.result().dataset(), stored.result().dataset()
    for name in theirs.variables:
        np.testing.assert_allclose(ours[name].values, theirs[name].values, rtol=1e-6)
        assert ours[name].dims == theirs[name].dims
        assert ours[name].attrs == theirs[name].attrs, name
    assert {key: ours.attrs[key] for key in ours.attrs} == {key: theirs.attrs[key] for key in ours.attrs}
    assert open_run(str(tmp_path / "r.cxi")).result(1)["strain"].identical(ours["strain"])


def test_the_frames_of_a_result_file_move_with_it(tmp_path, result, scan):
    (tmp_path / "a").mkdir()
    write_scan(tmp_path / "a" / "s.h5", scan)
    write_result(
        tmp_path / "a" / "r.cxi", result, scan_name="s", run="", links={"frames": str(tmp_path / "a" / "s.h5")}
    )
    (tmp_path / "a").rename(tmp_path / "b")
    run = open_run(tmp_path / "b" / "r.cxi")
    np.testing.assert_array_equal(run.scan().intensity, scan.intensity)
    assert "offline" in repr(run)
    (tmp_path / "b" / "s.h5").unlink()
    with pytest.raises(ScanError, match=r"the frames of .*r\.cxi are not here: it names .*s\.h5"):
        run = open_run(tmp_path / "b" / "r.cxi")
        run.scan()


def test_files_that_are_none(tmp_path, scan):
    with pytest.raises(ScanError, match="there is no such file"):
        open_run("nowhere.cxi")
    write_scan(tmp_path / "s.h5", scan)
    with pytest.raises(ScanError, match="is not a result"):
        open_run(tmp_path / "s.h5")


def test_a_dataset_is_kept_in_a_file_of_any_program(tmp_path, result):
    """Attributes that netCDF takes; what has complex numbers is left out by name."""
    plain = replace(result, seed=3)  # netCDF 3 has 32 bits
    write_result(tmp_path / "r.cxi", plain, scan_name="s", run="", links={})
    found = open_run(tmp_path / "r.cxi").result().dataset("strain", "strain_std", "prtf")
    found.to_netcdf(tmp_path / "s.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "s.nc", engine="scipy") as back:
        np.testing.assert_array_equal(back["strain"], result.lab.strain)
        assert back.attrs["recipe"] == read_result(tmp_path / "r.cxi").recipe


def test_the_package_comes_without_what_its_front_doors_need():
    heavy = ("tiled", "bluesky", "xarray", "numpy", "h5py", "live_bcdi.catalogue")
    told = f"import sys, live_bcdi; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", told], text=True).strip() == "[]"
    doors = "import sys; from live_bcdi import open_run, phase; print('bluesky' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", doors], text=True).strip() == "False"
