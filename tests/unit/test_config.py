"""Every beamline file loads, and a wrong one is refused in words that name the key."""

import copy
import tomllib
from pathlib import Path

import pytest

from live_bcdi.config import direction, load_config, parse_config
from live_bcdi.phasing import Plan
from live_bcdi.types import ScanError

BEAMLINES = sorted((Path(__file__).resolve().parents[2] / "config").glob("*.toml"))


@pytest.fixture
def table() -> dict:
    path = next(path for path in BEAMLINES if path.name == "34idc.toml")
    return copy.deepcopy(tomllib.loads(path.read_text()))


def test_there_are_beamlines():
    assert BEAMLINES


@pytest.mark.parametrize("path", BEAMLINES, ids=lambda path: path.stem)
def test_every_beamline_gives_a_geometry(path):
    config = load_config(path)
    circles = [circle.motor for circle in (*config.diffractometer.sample, *config.diffractometer.arm)]
    geometry = config.geometry({motor: 1.0 for motor in circles}, energy_kev=9.0, distance_m=0.5)
    assert [circle.motor for circle in (*geometry.sample, *geometry.arm)] == circles
    if config.spec is not None:
        assert set(circles) <= set(config.spec.motors)


def test_34idc_is_what_its_file_says(table):
    config = parse_config(table)
    geometry = config.geometry(
        {"theta": 1.0, "chi": 2.0, "phi": 3.0, "delta": 4.0, "gamma": 5.0, "more": 6.0},
        energy_kev=9.0,
        distance_m=0.5,
    )
    assert [circle.angle_deg for circle in (*geometry.sample, *geometry.arm)] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert [circle.axis for circle in geometry.arm] == [(0, 1, 0), (-1, 0, 0)]
    assert geometry.sample[1].axis == (0, 0, -1)
    assert (geometry.row_direction, geometry.column_direction) == ((0, -1, 0), (1, 0, 0))
    assert geometry.rocking == "theta"


@pytest.mark.parametrize(
    "place", ["", "detector", "diffractometer", "spec", "stream", "page", "preprocess", "crystal", "live"]
)
def test_unknown_key(table, place):
    target = table.setdefault(place, {}) if place else table
    target["pixels_um"] = 1
    key = f"{place}.pixels_um" if place else "pixels_um"
    with pytest.raises(ScanError, match=f"unknown key '{key}'"):
        parse_config(table)


def test_all_problems_are_said_at_once(table):
    del table["detector"]["pixel_um"]
    table["detector"]["rows"] = "down"
    table["page"] = {"port": 70000}
    with pytest.raises(ScanError) as raised:
        parse_config(table, "my.toml")
    for part in ("my.toml", "missing key 'detector.pixel_um'", "'down' is not a direction", "page.port"):
        assert part in str(raised.value)


def test_the_light_is_polarised_across_the_beam(table):
    table["diffractometer"] |= {"beam": "z+", "polarisation": "z-"}
    with pytest.raises(ScanError, match=r"'z-' is along the beam, 'z\+'"):
        parse_config(table)


def test_rocking_motor_must_be_a_sample_circle(table):
    table["diffractometer"]["rocking"] = "delta"
    with pytest.raises(ScanError, match="'delta' is not one of the sample circles"):
        parse_config(table)


def test_missing_motor_is_named(table):
    with pytest.raises(ScanError, match=r"no position for motor chi, gamma of beamline 34-ID-C"):
        parse_config(table).geometry({"theta": 0, "phi": 0, "delta": 0}, energy_kev=9.0, distance_m=0.5)


def test_distance_from_the_configuration_or_the_scan(table):
    positions = dict.fromkeys(("theta", "chi", "phi", "delta", "gamma"), 0.0)
    with pytest.raises(ScanError, match="no detector distance"):
        parse_config(table).geometry(positions, energy_kev=9.0)
    table["detector"]["distance_m"] = 2.0
    config = parse_config(table)
    assert config.geometry(positions, energy_kev=9.0).distance_m == 2.0
    assert config.geometry(positions, energy_kev=9.0, distance_m=1.5).distance_m == 1.5


def test_an_empty_recipe_is_none(table):
    table["phasing"] = {"recipe": ""}
    assert Plan(**parse_config(table).phasing.model_dump()).recipe is None


def test_every_setting_of_phasing_is_one_of_a_plan(table):
    table["phasing"] = {"recipe": "3*ER", "starts": 2, "seed": 5, "threads": 1, "free": 0.03, "select": "free_llk"}
    plan = Plan(**parse_config(table).phasing.model_dump())
    assert (str(plan.recipe), plan.starts, plan.seed, plan.free) == ("3*ER", 2, 5, 0.03)
    table["phasing"] = {"select": "luck"}
    with pytest.raises(ScanError, match="select"):
        parse_config(table)


def test_preprocessing_is_read_and_checked(table):
    table["preprocess"] = {"centring": "mass", "shape": [64, 64, 64], "background": "corners", "dark": "dark.tif"}
    table["crystal"] = {"method": "fourier", "window": "hann", "voxel_nm": 5}
    config = parse_config(table)
    assert config.preprocess.shape == (64, 64, 64)
    assert (config.preprocess.dark, config.preprocess.background) == (Path("dark.tif"), "corners")
    assert (config.crystal.method, config.crystal.voxel_nm) == ("fourier", 5.0)
    table["preprocess"] = {"centring": "middle", "background": float("nan"), "binning": [0, 1, 1]}
    table["crystal"] = {"threshold": 1.5}
    with pytest.raises(ScanError) as raised:
        parse_config(table)
    for part in ("preprocess.centring", "'corners'", "preprocess.binning.0", "crystal.threshold"):
        assert part in str(raised.value)


def test_changes_leave_the_rest_and_are_checked(table):
    config = parse_config(table)
    changed = config.changed(preprocess={"aliens": True}, phasing={"starts": 7})
    assert (changed.preprocess.aliens, changed.phasing.starts) == (True, 7)
    assert changed.changed(preprocess={"aliens": False}, phasing={"starts": None}) == config
    with pytest.raises(ScanError, match=r"unknown key 'preprocess\.alien'"):
        config.changed(preprocess={"alien": True})


@pytest.mark.parametrize(
    ("text", "vector"), [("x+", (1, 0, 0)), ("y-", (0, -1, 0)), ("z+", (0, 0, 1)), ("z-", (0, 0, -1))]
)
def test_direction(text, vector):
    assert direction(text) == vector


@pytest.mark.parametrize("text", ["", "x", "w+", "x*", "+x", "x++"])
def test_not_a_direction(text):
    with pytest.raises(ValueError, match="is not a direction"):
        direction(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no configuration file"), (b"[detector", "is not TOML"), (b"\xff\xfe", "is not TOML")],
)
def test_unreadable_file(tmp_path, content, message):
    path = tmp_path / "b.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ScanError, match=message):
        load_config(path)


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(ScanError, match="cannot be read"):
        load_config(tmp_path)


def test_a_negative_seed_is_refused(table):
    with pytest.raises(ScanError, match=r"phasing\.seed"):
        parse_config({**table, "phasing": {"seed": -1}})


def test_nothing_adapts_without_a_network(table):
    with pytest.raises(ScanError, match="set network = true too"):
        parse_config({**table, "live": {"adapt": True}})


def test_limits_of_motors(table):
    for path in BEAMLINES:
        for axis in load_config(path).diffractometer.axes:
            assert axis.limits is not None and axis.limits[0] < 0 < axis.limits[1], f"{path}: {axis.motor}"
    table["diffractometer"]["sample"][0]["limits"] = [5.0, -5.0]
    with pytest.raises(ScanError, match="not limits"):
        parse_config(table)
    table["diffractometer"]["sample"][0]["limits"] = [float("nan"), 5.0]
    with pytest.raises(ScanError, match="limits"):
        parse_config(table)


def test_every_motor_has_a_name_of_its_own(table):
    table["diffractometer"]["arm"][0]["motor"] = "x"
    with pytest.raises(ScanError, match="two motors are called x"):
        parse_config(table)
