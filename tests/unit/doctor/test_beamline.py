"""Configurations that are wrong, each in one way."""

import pytest

from live_bcdi.cli import config_path
from live_bcdi.config import load_config
from live_bcdi.doctor import beamline
from live_bcdi.transport.keys import make_keys


def one(found, status, *words):
    assert [finding.status for finding in found] == [status], found
    for word in words:
        assert word in found[0].what
    assert found[0].do or status == "ok"


def test_a_geometry_that_can_be(config):
    one(beamline.geometry(config), "ok", "theta y+, chi z-, phi y+", "theta rocks")


@pytest.mark.parametrize("name", ["34idc", "id01", "p10"])
def test_what_ships_has_no_problem(name):
    shipped = load_config(config_path(name))
    for check in (beamline.geometry, beamline.named_files, beamline.packages):
        assert "problem" not in [finding.status for finding in check(shipped)]


@pytest.mark.parametrize(
    ("table", "changes", "status", "word"),
    [
        ("detector", {"rows": "x-"}, "problem", "lie along one axis"),
        ("detector", {"rows": "z-"}, "problem", "beam z+ lies in the detector's plane"),
        ("detector", {"pixel_um": (55e-6, 55e-6)}, "warning", "pixel_um"),
        ("detector", {"pixel_um": (0, 55)}, "problem", "pixel_um"),
        ("detector", {"arm_pixel": (float("nan"), 1)}, "problem", "arm_pixel"),
        ("detector", {"distance_m": 500}, "warning", "distance_m is 500"),
        ("detector", {"distance_m": -0.5}, "problem", "distance_m"),
        ("detector", {"saturation_counts": None}, "warning", "saturation_counts is not set"),
        ("detector", {"saturation_counts": 0}, "problem", "saturation_counts is 0"),
        ("sample", {"hkl": (0, 0, 0)}, "problem", "hkl"),
        ("diffractometer", {"rocking": "chi"}, "warning", "chi turns about the beam"),
    ],
)
def test_a_geometry_that_can_hardly_be(config, table, changes, status, word):
    one(beamline.geometry(config.changed(**{table: changes})), status, word)


def test_a_package_that_is_missing(config, monkeypatch):
    one(beamline.packages(config), "ok", "processes of this machine")
    from live_bcdi import jobs
    from live_bcdi.transport import stream2

    monkeypatch.setattr(stream2, "_missing", ImportError("No module named 'cbor2'"))
    monkeypatch.setattr(jobs, "find_spec", lambda name: None)
    changed = config.changed(
        stream={"source": "stream2", "frames": "tcp://dcu:31001"}, jobs={"scheduler": "tcp://host:8786"}
    )
    found = beamline.packages(changed)
    assert [finding.status for finding in found] == ["problem", "problem"]
    assert "cbor2" in found[0].what
    assert "live_bcdi[dask]" in found[1].what


def test_files_that_are_not_there(config, tmp_path):
    one(beamline.named_files(config), "ok", "34-ID-C")
    one(beamline.named_files(config.changed(preprocess={"dark": tmp_path / "dark.npy"})), "problem", "dark.npy")
    path_map = {"/data": str(tmp_path / "nowhere")}
    one(beamline.named_files(config.changed(stream={"path_map": path_map})), "warning", "nowhere")


def test_a_port_that_is_given_twice(config):
    twice = config.stream.updates_in
    one(beamline.named_files(config.changed(stream={"documents_in": twice})), "problem", "more than once")
    port = config.page.port
    everywhere = config.changed(stream={"relay": f"tcp://0.0.0.0:{port}", "source": "documents"})
    one(beamline.named_files(everywhere), "problem", str(port))
    elsewhere = config.changed(stream={"frames": f"tcp://detector:{port}"})
    one(beamline.named_files(elsewhere), "ok")


@pytest.mark.parametrize("name", ["tiled/api_key", "page/key"])
def test_a_key_that_others_can_read(config, tmp_path, name):
    one(beamline.keys(config), "ok")
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text("0123456789abcdef" * 4)
    path.chmod(0o600)
    one(beamline.keys(config), "ok")
    path.chmod(0o644)
    found = beamline.keys(config)
    one(found, "problem", str(path), "644")
    assert "0123456789" not in str(found)


def test_keys_of_the_streams(config, tmp_path):
    with_keys = config.changed(stream={"keys": tmp_path / "keys"})
    one(beamline.keys(with_keys), "problem", "no such file")
    make_keys(tmp_path / "keys")
    one(beamline.keys(with_keys), "ok")
    (tmp_path / "keys" / "server.key_secret").chmod(0o640)
    one(beamline.keys(with_keys), "problem", "server.key_secret", "640")


def test_a_variable_without_the_pages_key(config, monkeypatch):
    asking = config.changed(page={"key_env": "A_PAGES_KEY"})
    monkeypatch.delenv("A_PAGES_KEY", raising=False)
    one(beamline.keys(asking), "problem", "$A_PAGES_KEY")
    monkeypatch.setenv("A_PAGES_KEY", "short secret")
    found = beamline.keys(asking)
    one(found, "problem", "16 characters")
    assert "short secret" not in str(found)
    monkeypatch.setenv("A_PAGES_KEY", "0123456789abcdef")
    one(beamline.keys(asking), "ok")
