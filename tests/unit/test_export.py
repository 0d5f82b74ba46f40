"""A result in other programs' forms: the same numbers in the same places, whole or not there."""

import struct
import xml.etree.ElementTree as ET
from dataclasses import replace

import h5py
import numpy as np
import pytest

from live_bcdi import open_run
from live_bcdi.export import _with_rim, export
from live_bcdi.transport.hdf5 import read_result, read_scan, write_result, write_scan
from live_bcdi.types import ScanError


@pytest.fixture
def folder(tmp_path, monkeypatch, scan, result):
    """A scan and a result of it."""
    monkeypatch.chdir(tmp_path)
    write_scan(tmp_path / "s.h5", scan)
    write_result(
        tmp_path / "r.cxi", result, scan_name="S 54", run="ab12cd34-5", links={"frames": str(tmp_path / "s.h5")}
    )
    return tmp_path


@pytest.fixture
def run(folder):
    return open_run(folder / "r.cxi")


def test_paraview_finds_each_voxel_at_its_place(folder, run, result):
    told = export(run, "vti", folder / "o.vti")
    head, _, tail = (folder / "o.vti").read_bytes().partition(b'<AppendedData encoding="raw">\n_')
    (image,) = ET.fromstring(head + b"</VTKFile>").iter("ImageData")
    origin, spacing = (np.array(image.attrib[key].split(), float) for key in ("Origin", "Spacing"))
    np.testing.assert_allclose(spacing, 5.1)
    np.testing.assert_allclose(origin + 3 * spacing, 0, atol=1e-12)  # voxel n//2 of 7
    names = {each.attrib["Name"]: int(each.attrib["offset"]) for each in image.iter("DataArray")}
    assert set(names) == {
        *("amplitude", "phase", "support", "displacement", "strain", "displacement_std", "strain_std"),
        *("d_spacing", "shear_1", "shear_2"),
    }
    assert told["arrays"] == list(names)
    place = (1, 2, 3)
    voxel = place[0] + 7 * (place[1] + 7 * place[2])  # x fastest
    for name, values in (
        ("strain", result.lab.strain),
        ("amplitude", np.abs(result.lab.density)),
        ("displacement_std", result.lab.displacement_std_angstrom),
    ):
        (found,) = struct.unpack_from("<f", tail, names[name] + 8 + 4 * voxel)
        np.testing.assert_equal(found, float(values[place]))
    texts = {each.attrib["Name"]: bytes(map(int, each.text.split()))[:-1].decode() for each in image.iter("Array")}
    assert texts["recipe"] == result.recipe
    assert texts["units of displacement"] == "angstrom"


def test_a_surface_has_the_strain_of_the_crystal(folder, run, result):
    """ParaView interpolates a surface between a voxel inside and its neighbour outside: what touches the crystal
    has the value of the nearest voxel of it, and what does not is NaN."""
    inside = np.zeros((7, 7, 7), bool)
    inside[2:5, 2:5, 2:5] = True
    strain = np.where(inside, np.arange(343.0).reshape(7, 7, 7), np.nan).astype(np.float32)
    found = _with_rim(strain, inside)
    np.testing.assert_array_equal(found[inside], strain[inside])
    assert found[1, 3, 3] == strain[2, 3, 3] and found[5, 5, 5] == strain[4, 4, 4]
    np.testing.assert_array_equal(np.isfinite(found), np.pad(np.ones((5, 5, 5), bool), 1))
    np.testing.assert_array_equal(_with_rim(inside, inside), inside)


def test_axes_of_every_plot_are_there(folder, run):
    """As readers of NXdata look for them: a field of the axis's length for each name in `axes`."""
    for form in ("cxi", "nxcxi"):
        export(run, form, folder / f"o_{form}.cxi")
        with h5py.File(folder / f"o_{form}.cxi") as file:
            entry = file["entry_1"]
            plots = [entry[name] for name in entry if entry[name].attrs.get("NX_class") == "NXdata"]
            assert len(plots) >= 5
            for plot in plots:
                shape = plot[plot.attrs["signal"]].shape
                names = list(np.atleast_1d(plot.attrs["axes"]))
                assert len(names) == len(shape), plot.name
                for name, length in zip(names, shape):
                    assert name == "." or plot[name].shape == (length,), f"{plot.name}/{name}"


def test_without_a_lab_image_there_is_nothing_to_show(folder, result):
    write_result(folder / "bare.cxi", replace(result, lab=None), scan_name="s", run="", links={})
    with pytest.raises(ScanError, match=r"bare\.cxi has no image in the lab frame"):
        export(open_run(folder / "bare.cxi"), "vti")
    assert not list(folder.glob("*.vti"))


def test_frames_and_result_in_one_file(folder, run, scan, result):
    """Each of our readers takes its part, and so does whoever goes by NeXus classes or by CXI's names."""
    export(run, "nxcxi", folder / "o.cxi")
    (folder / "s.h5").unlink()
    back = read_result(folder / "o.cxi")
    np.testing.assert_array_equal(back.lab.strain, result.lab.strain)
    np.testing.assert_array_equal(back.volume.intensity, result.volume.intensity)
    frames = read_scan(folder / "o.cxi")
    np.testing.assert_array_equal(frames.intensity, scan.intensity)
    assert (frames.geometry, frames.name, frames.hkl) == (scan.geometry, scan.name, scan.hkl)
    again = open_run(folder / "o.cxi")
    assert again.uid == "ab12cd34-5"
    np.testing.assert_array_equal(again.scan().angles_deg, scan.angles_deg)
    with h5py.File(folder / "o.cxi") as file:
        entry = file["entry_1"]
        assert entry.attrs["NX_class"] == "NXentry"
        assert entry.attrs["default"] == "image_2"
        detector = entry["instrument_1/detector_1"]
        np.testing.assert_array_equal(detector["data"], scan.intensity)
        np.testing.assert_array_equal(entry["data_1/data"], scan.intensity)
        np.testing.assert_array_equal(entry["data_2/data"], result.volume.intensity)
        assert entry["instrument_1"].attrs["NX_class"] == "NXinstrument"
        assert entry["instrument_1/detector_2"].attrs["NX_class"] == "NXdetector"
        # 9.1 keV in joule, by the charge of the electron
        assert entry["instrument_1/beam_1/energy"][()] == pytest.approx(9.1e3 * 1.602176634e-19, rel=1e-12)
        assert entry["instrument_1/source_1/energy"][()] == entry["instrument_1/beam_1/energy"][()]
        assert entry["start_time"].asstr()[()] < entry["end_time"].asstr()[()]
        assert entry["start_time"].asstr()[()].startswith("2020-09-13T12:26:40")  # 1.6e9 s
        for name in ("image_1", "image_2"):
            assert entry[name].attrs["NX_class"] == "NXdata"
            assert entry[f"{name}/process_1/recipe"].asstr()[()] == result.recipe


def test_every_link_of_it_leads_somewhere(folder, run):
    export(run, "nxcxi", folder / "o.cxi")
    with h5py.File(folder / "o.cxi") as file:
        groups = [file]
        for group in groups:
            for name in group:
                link = group.get(name, getlink=True)
                assert not isinstance(link, h5py.ExternalLink), f"{group.name}/{name}"
                node = group[name]
                if isinstance(node, h5py.Group) and isinstance(link, h5py.HardLink):
                    groups.append(node)
                    assert "NX_class" in node.attrs or node.name.endswith(("metrics", "provenance")), node.name


def test_frames_that_are_not_there(folder, run):
    (folder / "s.h5").unlink()
    with pytest.raises(ScanError, match="are not here"):
        export(open_run(folder / "r.cxi"), "nxcxi", folder / "o.cxi")
    assert not (folder / "o.cxi").exists()


def test_as_it_is(folder, run, result):
    told = export(run, "cxi")
    assert told["file"] == "S_54_ab12cd34_1.cxi"
    np.testing.assert_array_equal(read_result(told["file"]).lab.strain, result.lab.strain)
    again = open_run(told["file"])
    assert (again.name, again.uid) == (run.name, run.uid)
    np.testing.assert_array_equal(again.scan().angles_deg, run.scan().angles_deg)


@pytest.mark.parametrize("form", ["vti", "nxcxi", "cxi"])
def test_what_exists_is_replaced_only_when_asked(folder, run, form):
    path = folder / "o.out"
    export(run, form, path)
    first = path.read_bytes()
    with pytest.raises(ScanError, match="--overwrite"):
        export(run, form, path)
    export(run, form, path, overwrite=True)
    assert path.stat().st_size == len(first)
    path.write_text("notes of a night")
    with pytest.raises(ScanError, match="is not replaced"):
        export(run, form, path, overwrite=True)
    assert path.read_text() == "notes of a night"
    with pytest.raises(ScanError, match="is the input itself"):
        export(run, form, folder / "r.cxi", overwrite=True)
    assert [each for each in folder.iterdir() if each.name.endswith(".partial")] == []
