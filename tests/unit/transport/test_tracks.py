"""A track comes back from its file as it was, and nothing else is taken for one."""

from dataclasses import fields, replace

import h5py
import numpy as np
import pytest

from live_bcdi.config import load_config, shipped_configs
from live_bcdi.sim.motion import simulate_moving
from live_bcdi.tracking import record_scan, track_scan
from live_bcdi.tracking.pairs import Compared
from live_bcdi.transport.tracks import Track, read_track, track_arrays, write_track
from live_bcdi.types import ScanError

ABOUT = {"run": "3f9c", "name": "gold 7", "series": "gold, hkl 1 1 1", "time_s": 1.79e9}


@pytest.fixture(scope="module")
def track():
    random = np.random.default_rng(1)
    config = load_config(shipped_configs()["34idc"])
    scan, _ = simulate_moving(config=config, offsets_steps=0.3 * random.normal(size=48), photons=1e5)
    return Track(about=ABOUT, record=record_scan(scan), within=track_scan(scan))


def same(first, second):
    """Field by field, whatever a field holds."""
    first, second = (each.item() if isinstance(each, np.generic) else each for each in (first, second))
    assert type(first) is type(second)
    if hasattr(first, "__dataclass_fields__"):
        for field in fields(first):
            same(getattr(first, field.name), getattr(second, field.name))
    elif isinstance(first, tuple):
        for each, other in zip(first, second, strict=True):
            same(each, other)
    else:
        np.testing.assert_array_equal(first, second)


def test_it_comes_back_as_it_was(track, tmp_path):
    write_track(tmp_path / "a.h5", track)
    found = read_track(tmp_path / "a.h5", around=True)
    assert found.about == ABOUT
    same(found.record, track.record)
    same(found.within, track.within)
    assert read_track(tmp_path / "a.h5").record.around is None


def test_a_comparison_comes_back_as_it_was(track, tmp_path):
    pair = Compared(first=track.record.peak, own=replace(track.record.peak, counts=3.0))
    record = replace(track.record, compared=pair, around=None)
    write_track(tmp_path / "a.h5", replace(track, record=record))
    same(read_track(tmp_path / "a.h5", around=True).record, record)


def test_what_could_not_be_found_is_said_in_its_place(tmp_path):
    for within in (None, "the steps are too coarse"):
        write_track(tmp_path / "a.h5", Track(about=ABOUT, record="no counts", within=within))
        found = read_track(tmp_path / "a.h5")
        assert (found.record, found.within) == ("no counts", within)


def test_another_file_is_none(tmp_path):
    with pytest.raises(ScanError, match="no such file"):
        read_track(tmp_path / "none.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = 1
    with pytest.raises(ScanError, match="not a track"):
        read_track(tmp_path / "other.h5")
    with h5py.File(tmp_path / "half.h5", "w") as file:
        file.attrs["kind"] = "live_bcdi track"
        file.create_group("record")["brightness"] = 1.0
    with pytest.raises(ScanError, match="holds no readable track"):
        read_track(tmp_path / "half.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ScanError, match="not an HDF5 file"):
        read_track(tmp_path / "text.h5")


def test_every_field_is_an_array_or_in_the_table(track):
    arrays, table = track_arrays(track.within)
    held = {field.name for field in fields(track.within) if getattr(track.within, field.name) is not None}
    assert set(arrays) | set(table) == held and not set(arrays) & set(table)
    assert arrays["found_steps"][1]["units"] == "rocking steps"
    assert arrays["column_std"][1]["units"] == "pixel"
    assert {len(values) for values, _ in arrays.values()} == {48}
