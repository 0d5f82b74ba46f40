"""VTK ImageData (.vti): volumes that ParaView opens, on the lab frame's grid in nm.

XML with the arrays appended as they are in memory (docs.vtk.org, XML file formats): after the underscore, for each
its length in bytes as UInt64 and its bytes, x fastest. VTK's own library does the same and weighs 100 MB.
"""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from ..storage import put_whole
from ..types import Vector

_TYPES = {"f4": "Float32", "f8": "Float64", "u1": "UInt8", "i8": "Int64"}
HEAD = b'<?xml version="1.0"?>\n<VTKFile type="ImageData"'


def write_vti(
    path: Path,
    volumes: Mapping[str, NDArray[Any]],
    *,
    spacing_nm: float,
    origin_nm: Vector,
    about: Mapping[str, str],
) -> None:
    """Write volumes (x, y, z) of one shape as point data; booleans become 0 and 1. `origin_nm` is the place of the
    first voxel, and `about` goes into the field data as text.

    The file is whole or not there. Raises StorageError where it cannot be written.
    """
    arrays = {name: _plain(values) for name, values in volumes.items()}
    put_whole(path, _parts(arrays, spacing_nm, origin_nm, about))


def is_vti(path: Path) -> bool:
    """Whether a file begins as those of `write_vti` do."""
    with path.open("rb") as file:
        return file.read(len(HEAD)) == HEAD


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    values = values.astype(np.uint8) if values.dtype == bool else values
    return values.astype(values.dtype.newbyteorder("<"), copy=False)


def _parts(
    arrays: Mapping[str, NDArray[Any]], spacing_nm: float, origin_nm: Vector, about: Mapping[str, str]
) -> Iterator[bytes]:
    shape = next(iter(arrays.values())).shape
    extent = " ".join(f"0 {count - 1}" for count in shape)
    origin, spacing = (" ".join(repr(float(value)) for value in each) for each in (origin_nm, (spacing_nm,) * 3))
    yield HEAD + b' version="1.0" byte_order="LittleEndian" header_type="UInt64">\n'
    yield f'<ImageData WholeExtent="{extent}" Origin="{origin}" Spacing="{spacing}">\n'.encode()
    yield b"<FieldData>\n" + b"".join(_text(name, value) for name, value in about.items()) + b"</FieldData>\n"
    yield f'<Piece Extent="{extent}">\n<PointData Scalars={quoteattr(next(iter(arrays)))}>\n'.encode()
    offset = 0
    for name, values in arrays.items():
        kind = _TYPES[values.dtype.str[1:]]
        yield f'<DataArray type="{kind}" Name={quoteattr(name)} format="appended" offset="{offset}"/>\n'.encode()
        offset += 8 + values.nbytes
    yield b'</PointData>\n</Piece>\n</ImageData>\n<AppendedData encoding="raw">\n_'
    for values in arrays.values():
        yield struct.pack("<Q", values.nbytes)
        yield values.tobytes(order="F")
    yield b"\n</AppendedData>\n</VTKFile>\n"


def _text(name: str, value: str) -> bytes:
    """A string of the field data: the codes of its bytes, and a zero."""
    codes = " ".join(str(code) for code in (*value.encode(), 0))
    return (
        f'<Array type="String" Name={quoteattr(name)} NumberOfTuples="1" format="ascii">{codes}</Array>\n'.encode()
    )
