"""What a browser is sent: `[u32 header length][JSON header][array bytes]`, little-endian.

The header is UTF-8 JSON padded with spaces so that the arrays begin on a multiple of 8 bytes; it holds `topic`,
`run`, `published_s`, `fields`, and `arrays`, a list of `{name, dtype, shape, offset}` with the offset counted
from the end of the header, a multiple of 8, so that JavaScript views the bytes where they lie. Numbers that JSON
cannot write (NaN, infinities) are null.
"""

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metadata import plain
from ..stream.updates import Update
from ..types import ScanError

ALIGNMENT = 8
_NATIVE = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")
# What JavaScript has no array for, or one of big integers that mix with nothing: the nearest that it has.
_NEAREST = {"bool": "uint8", "float16": "float32", "int64": "float64", "uint64": "float64"}


def encode(update: Update, *, published_s: float) -> bytes:
    """One binary websocket message. `published_s` is when it was published, in seconds since the epoch.

    Raises ScanError for an array that a browser cannot hold, complex ones among them.
    """
    arrays = {name: _browser_array(name, array) for name, array in update.arrays.items()}
    layout, blocks = [], []
    offset = 0
    for name, array in arrays.items():
        layout.append({"name": name, "dtype": array.dtype.name, "shape": array.shape, "offset": offset})
        block = array.tobytes()
        blocks.append(block + bytes(-len(block) % ALIGNMENT))
        offset += len(blocks[-1])
    header = {
        "topic": update.topic,
        "run": update.run,
        "published_s": published_s,
        "fields": plain(update.fields),
        "arrays": layout,
    }
    text = json.dumps(header, allow_nan=False).encode()
    text += b" " * (-(4 + len(text)) % ALIGNMENT)
    return b"".join((struct.pack("<I", len(text)), text, *blocks))


def _browser_array(name: str, array: NDArray[Any]) -> NDArray[Any]:
    kind = _NEAREST.get(array.dtype.name, array.dtype.name)
    if kind not in _NATIVE:
        raise ScanError(
            f"the page cannot show array {name!r} of dtype {array.dtype}; "
            "send a complex one as its amplitude and its phase"
        )
    return np.asarray(array, np.dtype(kind).newbyteorder("<"))
