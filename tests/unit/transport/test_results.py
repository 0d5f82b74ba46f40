"""A reconstruction on disk: exact round trip, units and meaning in the file, CXI names, one message a fault."""

from dataclasses import fields, is_dataclass, replace

import h5py
import numpy as np
import pytest

from live_bcdi.lattice import d_spacing_angstrom, shear_axes, shear_gradients
from live_bcdi.transport.hdf5 import read_result, write_result, write_scan
from live_bcdi.types import Outcome, ScanError


def assert_same(left, right):
    """Every field equal, arrays in dtype and bits (NaN too), dataclasses within."""
    assert type(left) is type(right)
    for each in fields(left):
        a, b = getattr(left, each.name), getattr(right, each.name)
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), each.name
        elif is_dataclass(a):
            assert_same(a, b)
        elif isinstance(a, float):
            assert np.float64(a).tobytes() == np.float64(b).tobytes(), each.name
        else:
            assert a == b, each.name


def write(path, result, **where):
    write_result(path, result, **({"scan_name": "S0054", "run": "uid", "links": {}} | where))


def test_round_trip(tmp_path, result):
    write(tmp_path / "r.cxi", result)
    back = read_result(tmp_path / "r.cxi")
    nan_metric = back.metrics["not there"]
    assert np.isnan(nan_metric)
    metrics = {name: value for name, value in result.metrics.items() if name != "not there"}
    assert {name: back.metrics[name] for name in metrics} == metrics
    assert_same(replace(back, metrics={}), replace(result, metrics={}))


def test_round_trip_without_geometry(tmp_path, result):
    bare = replace(result, volume=None, lab=None, resolution=None, metrics={}, provenance={}, chi_starts=())
    bare = replace(bare, agreement=replace(result.agreement, correlation=None))
    write(tmp_path / "r.cxi", bare)
    assert_same(read_result(tmp_path / "r.cxi"), bare)


def test_round_trip_of_one_start(tmp_path, result):
    lab = replace(result.lab, displacement_std_angstrom=None, strain_std=None)
    bare = replace(result, lab=lab, agreement=None, metrics={})
    write(tmp_path / "r.cxi", bare)
    assert_same(read_result(tmp_path / "r.cxi"), bare)


def test_a_file_from_before_there_was_agreement(tmp_path, result):
    write(tmp_path / "r.cxi", result)
    with h5py.File(tmp_path / "r.cxi", "r+") as file:
        for name in ("agreement_1", "correlation_1", "resolution_1/resolution_half"):
            del file["entry_1"][name]
        for name in ("origin", "displacement_std", "strain_std", "d_spacing", "shear_1", "shear_2"):
            del file["entry_1/image_2"][name]
    back = read_result(tmp_path / "r.cxi")
    assert back.agreement is None
    assert back.lab.strain_std is None
    assert np.isnan(back.resolution.half_nm)
    assert back.lab.strain.tobytes() == result.lab.strain.tobytes()


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome(tmp_path, result, outcome):
    write(tmp_path / "r.cxi", replace(result, outcome=outcome))
    assert read_result(tmp_path / "r.cxi").outcome is outcome


def test_what_a_reader_of_the_file_needs_is_in_it(tmp_path, result):
    write(tmp_path / "r.cxi", result)
    with h5py.File(tmp_path / "r.cxi") as file:
        lab = file["entry_1/image_2"]
        assert lab["displacement"].attrs["units"] == "angstrom"
        assert "+h" in lab["displacement"].attrs["direction"]
        assert lab["strain"].attrs["definition"].startswith("d u_h / d x_h")
        for name in ("displacement", "strain"):
            assert lab[name].attrs["reference"] == "zero mean inside the support, NaN outside"
        assert (lab["voxel_size"][()], lab["voxel_size"].attrs["units"]) == (5.1, "nm")
        assert list(lab.attrs["axes"]) == ["x", "y", "z"]
        assert lab["x"][3] == 0.0  # n//2 is the origin
        assert np.array_equal(lab["amplitude"], np.abs(result.lab.density))
        assert np.array_equal(lab["phase"], np.angle(result.lab.density))


def test_every_number_has_its_unit_and_every_image_its_axes(tmp_path, result):
    """In all that is science; names, counters and switches have none."""
    write(tmp_path / "r.cxi", result)
    bare = []

    def visit(name, node):
        if isinstance(node, h5py.Dataset) and node.dtype.kind in "fc" and "units" not in node.attrs:
            bare.append(name)
        if isinstance(node, h5py.Group) and node.attrs.get("NX_class") == "NXdata" and "image" in name:
            assert len(node.attrs["axes"]) == 3, name

    with h5py.File(tmp_path / "r.cxi") as file:
        file.visititems(visit)
        for name in ("image_1", "image_2"):
            assert "phi = -h.u" in file["entry_1"][name]["phase"].attrs["convention"]
        assert file["entry_1/image_2/voxel_size"].attrs["units"] == "nm"
        for name in ("displacement_std", "strain_std"):
            assert "lower limit" in file["entry_1/image_2"][name].attrs["meaning"]
    assert bare == []


def test_spacing_and_shear_are_those_of_the_lattice(tmp_path, result):
    write(tmp_path / "r.cxi", result)
    with h5py.File(tmp_path / "r.cxi") as file:
        lab = file["entry_1/image_2"]
        spacing = 2 * np.pi / np.linalg.norm(result.lab.q_centre_invA)
        assert lab["strain"].attrs["reference_spacing_angstrom"] == pytest.approx(spacing, rel=1e-12)
        assert f"{spacing:.6g} angstrom" in lab["d_spacing"].attrs["reference"]
        np.testing.assert_array_equal(lab["d_spacing"], d_spacing_angstrom(result.lab).astype(np.float32))
        for number, axis, values in zip((1, 2), shear_axes(result.lab), shear_gradients(result.lab)):
            np.testing.assert_array_equal(lab[f"shear_{number}"], values)
            np.testing.assert_array_equal(lab[f"shear_{number}"].attrs["direction"], axis)


def test_cxi_names_and_voxels(tmp_path, result):
    """b_j . g_k = 2 pi delta_jk / N_j, by brute force from the file's own numbers."""
    write(tmp_path / "r.cxi", result)
    with h5py.File(tmp_path / "r.cxi") as file:
        assert file["cxi_version"][()] == 160
        image = file["entry_1/image_1"]
        assert np.array_equal(image["data"], result.density)
        assert np.array_equal(image["support"], image["mask"])
        assert np.array_equal(file["entry_1/data_1/data"], result.volume.intensity)
        assert image["process_1/recipe"].asstr()[()] == result.recipe
        basis = image["voxel_basis"][()]
        products = 10 * basis.T @ file["entry_1/instrument_1/detector_1/q_steps"][()]
        assert products == pytest.approx(np.diag(2 * np.pi / np.array([4, 5, 6])), abs=1e-12)
        lengths = np.linalg.norm(basis, axis=0) * [4, 5, 6] * 1e-9
        assert image["image_size"][()] == pytest.approx(lengths, rel=1e-12)


def test_the_raw_frames_are_linked(tmp_path, result, scan):
    (tmp_path / "raw").mkdir()
    (tmp_path / "results").mkdir()
    write_scan(tmp_path / "raw" / "s.h5", scan)
    write(tmp_path / "results" / "r.cxi", result, links={"frames": str(tmp_path / "raw" / "s.h5")})
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for folder in ("raw", "results"):
        (tmp_path / folder).rename(moved / folder)
    with h5py.File(moved / "results" / "r.cxi") as file:
        assert file["entry_1/raw/run"].asstr()[()] == "uid"
        assert np.array_equal(file["entry_1/raw/data"], scan.intensity)


def test_absent(tmp_path):
    with pytest.raises(ScanError, match="there is no such file"):
        read_result(tmp_path / "r.cxi")


def test_a_scan_is_not_a_result(tmp_path, scan):
    write_scan(tmp_path / "s.h5", scan)
    with pytest.raises(ScanError, match=r"s\.h5 is not a result of live_bcdi"):
        read_result(tmp_path / "s.h5")


def test_incomplete(tmp_path, result):
    write(tmp_path / "r.cxi", result)
    with h5py.File(tmp_path / "r.cxi", "r+") as file:
        del file["entry_1/image_2/strain"]
    with pytest.raises(ScanError, match=r"r\.cxi holds no readable reconstruction.*strain"):
        read_result(tmp_path / "r.cxi")


def test_truncated(tmp_path, result):
    path = tmp_path / "r.cxi"
    write(path, result)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ScanError, match="it is truncated"):
        read_result(path)


def test_failure_leaves_nothing(tmp_path, result):
    with pytest.raises(TypeError):
        write(tmp_path / "r.cxi", replace(result, recipe=object()))
    assert list(tmp_path.iterdir()) == []
