"""The table of a scan survives JSON and msgpack, and one error lists all that is wrong with it."""

import json

import msgpack
import numpy as np
import pytest

from live_bcdi.metadata import (
    check_scan_metadata,
    file_stem,
    geometry_from_dict,
    geometry_to_dict,
    plain,
    scan_from_metadata,
    scan_metadata,
)
from live_bcdi.types import Geometry, RockingScan, Rotation, ScanError


@pytest.fixture
def scan() -> RockingScan:
    bad = np.zeros((5, 7), bool)
    bad[1, 2] = bad[4, 6] = True
    return RockingScan(
        name="crystal 3",
        intensity=np.ones((3, 5, 7), np.int32),
        angles_deg=np.array([0.1, 0.2, 0.3]),
        geometry=Geometry(
            energy_kev=0.1 + 0.2,  # 17 digits
            distance_m=1 / 3,
            pixel_um=(55.0, 75.0),
            arm_pixel=(2.5, 3.5),
            beam_direction=(0.0, 0.0, 1.0),
            row_direction=(0.0, -1.0, 0.0),
            column_direction=(1.0, 0.0, 0.0),
            sample=(Rotation(motor="theta", axis=(0.0, 1.0, 0.0), angle_deg=np.pi),),
            arm=(),
            rocking="theta",
        ),
        bad_pixels=bad,
        saturation_counts=1e5,
        exposure_s=0.7,
        hkl=(1.0, -1.0, 2.0),
        sample="gold",
        metadata={"frame_totals": [1.0, 2.0], "spec": {"scan": 54, "date": None, "ok": True}},
    )


@pytest.mark.parametrize(
    "carry",
    [
        lambda table: json.loads(json.dumps(table)),
        lambda table: msgpack.unpackb(msgpack.packb(table)),
    ],
    ids=["json", "msgpack"],
)
def test_round_trip_is_exact(scan, carry):
    table = scan_metadata(scan)
    carried = carry(table)
    assert carried == table
    back = scan_from_metadata(carried, intensity=scan.intensity, angles_deg=scan.angles_deg)
    assert back.geometry == scan.geometry
    assert np.array_equal(back.bad_pixels, scan.bad_pixels)
    for name in ("name", "saturation_counts", "exposure_s", "hkl", "sample", "metadata"):
        assert getattr(back, name) == getattr(scan, name)
    assert geometry_from_dict(carry(geometry_to_dict(scan.geometry))) == scan.geometry


def test_what_is_not_known_may_be_absent(scan):
    table = scan_metadata(scan)
    least = {key: table[key] for key in ("name", "geometry")}
    back = scan_from_metadata(least, intensity=scan.intensity, angles_deg=scan.angles_deg)
    assert (back.hkl, back.exposure_s, back.bad_pixels, back.sample) == (None, None, None, "")


def test_every_wrong_key_of_a_geometry_is_listed(scan):
    table = geometry_to_dict(scan.geometry)
    del table["energy_kev"], table["arm"]
    table["distance_m"] = "far"
    table["sample"][0]["axis"] = [0.0, 1.0]
    with pytest.raises(ScanError) as raised:
        geometry_from_dict(table)
    for part in ("missing key 'energy_kev'", "missing key 'arm'", "distance_m: ", "sample.0.axis"):
        assert part in str(raised.value)


def test_every_wrong_key_of_a_scan_is_listed(scan):
    table = scan_metadata(scan)
    del table["name"], table["geometry"]["energy_kev"]
    table["hkl"] = [1, 1]
    with pytest.raises(ScanError) as raised:
        check_scan_metadata(table)
    for part in ("missing key 'name'", "missing key 'geometry.energy_kev'", "hkl"):
        assert part in str(raised.value)


def test_the_geometry_refuses_through_the_table(scan):
    table = geometry_to_dict(scan.geometry) | {"energy_kev": -9.0}
    with pytest.raises(ScanError, match="energy_kev must be positive"):
        geometry_from_dict(table)


@pytest.mark.parametrize("table", [None, [], "geometry"])
def test_not_a_table(table):
    with pytest.raises(ScanError, match="geometry"):
        geometry_from_dict(table)


@pytest.mark.parametrize("value", [np.zeros(3), {1, 2}, float("nan"), {1: "a"}])
def test_metadata_must_be_json(scan, value):
    scan = RockingScan(
        name="odd",
        intensity=scan.intensity,
        angles_deg=scan.angles_deg,
        geometry=scan.geometry,
        metadata={"value": value},
    )
    with pytest.raises(ScanError, match="must hold JSON values only"):
        scan_metadata(scan)


@pytest.mark.parametrize(
    "packed",
    [
        {"shape": [5, 7], "deflated_bits": "!"},
        {"shape": [5, 7], "deflated_bits": "AAAA"},
        {"shape": [500, 7], "deflated_bits": None},
    ],
)
def test_damaged_mask(scan, packed):
    table = scan_metadata(scan)
    if packed["deflated_bits"] is None:  # sound bits, but too few for the shape
        packed = table["bad_pixels"] | {"shape": packed["shape"]}
    with pytest.raises(ScanError, match="bad_pixels cannot be unpacked"):
        scan_from_metadata(table | {"bad_pixels": packed}, intensity=scan.intensity, angles_deg=scan.angles_deg)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("S0054", "S0054"),
        ("gold/111", "gold_111"),
        ("../../etc/passwd", "etc_passwd"),
        ("crystal 3, Å\n", "crystal_3"),
        ("a.b-c_d", "a.b-c_d"),
        (".hidden", "hidden"),
        ("C:\\scan\x00", "C_scan"),
        ("", "scan"),
        ("..", "scan"),
        ("金", "scan"),
    ],
)
def test_a_name_as_the_beginning_of_a_file_name(name, stem):
    assert file_stem(name) == stem


@pytest.mark.parametrize("name", ["x" * 1000, "x" * 63 + "/y", "." * 70 + "x"])
def test_a_stem_is_short_and_never_empty(name):
    assert 1 <= len(file_stem(name)) <= 64
    assert file_stem(name)[-1] not in "._-"


def test_plain_knows_numpy_and_strangers():
    assert plain({"a": np.arange(3), "b": (True, None), "c": np.bool_(True)}) == {
        "a": [0, 1, 2],
        "b": [True, None],
        "c": True,
    }
    assert plain(1j) == "1j"
    assert plain([float("nan"), float("inf"), np.float32("nan"), 0.5]) == [None, None, None, 0.5]
    assert plain(Rotation(motor="a", axis=(0.0, 0.0, 1.0), angle_deg=np.nan))["angle_deg"] is None
