"""VTK ImageData, read by its published layout and not by our own code."""

import struct
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from live_bcdi.transport.vti import is_vti, write_vti
from live_bcdi.types import StorageError

TYPES = {"Float32": "<f4", "Float64": "<f8", "UInt8": "<u1", "Int64": "<i8"}


def parse(path):
    """(ImageData element, arrays (x, y, z) by name, texts by name): the appended bytes end what is XML."""
    head, _, tail = path.read_bytes().partition(b'<AppendedData encoding="raw">\n_')
    root = ET.fromstring(head + b"</VTKFile>")
    assert root.attrib == {
        **{"type": "ImageData", "version": "1.0"},
        **{"byte_order": "LittleEndian", "header_type": "UInt64"},
    }
    (image,) = root.iter("ImageData")
    ends = [int(end) for end in image.attrib["WholeExtent"].split()]
    shape = tuple(last - first + 1 for first, last in zip(ends[::2], ends[1::2]))
    arrays = {}
    for each in image.iter("DataArray"):
        start = int(each.attrib["offset"])
        (length,) = struct.unpack("<Q", tail[start : start + 8])
        values = np.frombuffer(tail[start + 8 : start + 8 + length], TYPES[each.attrib["type"]])
        arrays[each.attrib["Name"]] = np.array([values[k] for k in range(len(values))]).reshape(shape[::-1]).T
    texts = {each.attrib["Name"]: bytes(map(int, each.text.split()))[:-1].decode() for each in image.iter("Array")}
    assert tail.endswith(b"\n</AppendedData>\n</VTKFile>\n")
    return image, arrays, texts


@pytest.fixture
def volumes():
    random = np.random.default_rng(0)
    real = random.normal(size=(2, 3, 4)).astype(np.float32)
    real[0, 1] = np.nan
    return {"strain": real, "support": real > 0, 'a "quoted" <name> &': real.astype(np.float64)}


def write(path, volumes, **changes):
    about = {"recipe": "3*(20*ER) & <é>"}
    write_vti(path, volumes, **{"spacing_nm": 5.1, "origin_nm": (-1.0, -2.0, -3.5), "about": about, **changes})


def test_every_voxel_is_where_it_was(tmp_path, volumes):
    write(tmp_path / "v.vti", volumes)
    image, arrays, texts = parse(tmp_path / "v.vti")
    assert list(arrays) == list(volumes)
    for name, values in volumes.items():
        np.testing.assert_array_equal(arrays[name], values)
    assert arrays["support"].dtype == np.uint8
    assert image.attrib["WholeExtent"] == "0 1 0 2 0 3"
    assert [float(each) for each in image.attrib["Origin"].split()] == [-1.0, -2.0, -3.5]
    assert [float(each) for each in image.attrib["Spacing"].split()] == [5.1] * 3
    assert texts == {"recipe": "3*(20*ER) & <é>"}


def test_the_order_in_memory_does_not_matter(tmp_path, volumes):
    write(tmp_path / "c.vti", volumes)
    write(tmp_path / "f.vti", {name: np.asfortranarray(values) for name, values in volumes.items()})
    swapped = {name: values.astype(values.dtype.newbyteorder(">")) for name, values in volumes.items()}
    write(tmp_path / "b.vti", swapped)
    whole = (tmp_path / "c.vti").read_bytes()
    assert (tmp_path / "f.vti").read_bytes() == (tmp_path / "b.vti").read_bytes() == whole


def test_a_file_of_ours_is_known(tmp_path, volumes):
    write(tmp_path / "v.vti", volumes)
    (tmp_path / "other.vti").write_text("notes")
    assert is_vti(tmp_path / "v.vti")
    assert not is_vti(tmp_path / "other.vti")


def test_a_failure_leaves_what_was_there(tmp_path, volumes):
    with pytest.raises(StorageError, match="there is no such file or folder"):
        write(tmp_path / "nowhere" / "v.vti", volumes)
    write(tmp_path / "v.vti", volumes)
    before = (tmp_path / "v.vti").read_bytes()
    with pytest.raises(KeyError):
        write(tmp_path / "v.vti", {**volumes, "complex": volumes["strain"].astype(complex)})
    assert (tmp_path / "v.vti").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["v.vti"]
