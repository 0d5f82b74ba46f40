"""DECTRIS stream2: frames of an EIGER2 or PILATUS4 as CBOR messages over 0MQ.

The form is DECTRIS's own (github.com/dectris/documentation: stream_v2/README.md, cbor/dectris-compression-tag.md).
Each message is one map; an image's channels are RFC 8746 arrays (tag 40 around a typed array), whose bytes may be
compressed (tag 56500). Nothing that arrives is trusted: sizes are checked before anything is decompressed.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from ..stream.sources import LATE_S, Exposure, Labeller, Tell
from ..types import Frame, ScanError
from .keys import Socket
from .zmq import MAX_ARRAY_BYTES, WireError, drain

try:
    import cbor2
    from dectris.compression import decompress
except ImportError as error:  # told of when it is wanted
    _missing: ImportError | None = error
else:
    _missing = None

MULTI_DIM_ARRAY = 40
COMPRESSED = 56500
TYPED_ARRAYS = {  # RFC 8746, table 1
    64: "u1",
    65: ">u2",
    66: ">u4",
    67: ">u8",
    69: "<u2",
    70: "<u4",
    71: "<u8",
    72: "i1",
    73: ">i2",
    74: ">i4",
    75: ">i8",
    77: "<i2",
    78: "<i4",
    79: "<i8",
    81: ">f4",
    82: ">f8",
    85: "<f4",
    86: "<f8",
}
_WAITING = 256  # images on the socket; then the detector keeps them, as long as it has room
_SIZE_BYTES = 8  # both algorithms say the size first, big-endian

logger = logging.getLogger(__name__)


def require_stream2() -> None:
    """Raises ScanError where the packages for stream2 are not installed."""
    if _missing is not None:
        raise ScanError(
            f"stream2 needs cbor2 and dectris-compression ({_missing}): pip install live_bcdi[stream2]"
        )


def decode_message(message: bytes) -> dict[str, Any]:
    """A message as its map, arrays left as they came (see `pixels`). Raises WireError."""
    try:
        table = cbor2.loads(message)
    except (cbor2.CBORDecodeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise WireError(f"not CBOR: {error}") from None
    if not isinstance(table, dict) or table.get("type") not in ("start", "image", "end"):
        raise WireError("not a start, image or end message of stream2; set the detector's stream format to cbor")
    _count(table, "series_id")
    if table["type"] == "image":
        _count(table, "image_id")
    return table


def _count(table: Mapping[str, Any], key: str) -> int:
    value = table.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise WireError(f"{table['type']} message with {key} {value!r}")
    return value


def pixels(item: Any) -> NDArray[Any]:
    """A channel's data as (row, column) in the machine's byte order. Raises WireError."""
    if not isinstance(item, cbor2.CBORTag) or item.tag != MULTI_DIM_ARRAY or not _is_pair(item.value):
        raise WireError("an image's data is not a multi-dimensional array")
    shape, typed = item.value
    if not isinstance(typed, cbor2.CBORTag) or typed.tag not in TYPED_ARRAYS:
        raise WireError(f"pixels are of no type that is known: {getattr(typed, 'tag', type(typed).__name__)}")
    dtype = np.dtype(TYPED_ARRAYS[typed.tag])
    edges = list(shape) if isinstance(shape, list | tuple) else []
    if len(edges) != 2 or not all(isinstance(edge, int) and edge > 0 for edge in edges):
        raise WireError(f"an image is (rows, columns), not {shape!r}")
    size = math.prod(edges) * dtype.itemsize
    if size > MAX_ARRAY_BYTES:
        raise WireError(f"an image of {edges} {dtype} is more than is taken")
    image = np.frombuffer(_plain(typed.value, size), dtype).reshape(edges)
    return image if image.dtype.isnative else image.astype(image.dtype.newbyteorder("="))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def _plain(data: Any, size: int) -> bytes:
    """`size` bytes, decompressed where they came compressed."""
    if isinstance(data, cbor2.CBORTag) and data.tag == COMPRESSED:
        data = _decompressed(data.value, size)
    if not isinstance(data, bytes) or len(data) != size:
        came = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise WireError(f"an image of {size} bytes came with {came}")
    return data


def _decompressed(value: Any, size: int) -> bytes:
    try:
        algorithm, elem_size, packed = value
        said = int.from_bytes(packed[:_SIZE_BYTES], "big")
        if said != size:
            raise WireError(f"{size} bytes were announced, their compressed form is of {said}")
        return bytes(decompress(packed, algorithm, elem_size=elem_size or 1))
    except (ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise error if isinstance(error, WireError) else WireError(f"cannot decompress: {error}") from None


def middle_s(table: Mapping[str, Any]) -> float:
    """The middle of an image's exposure (seconds since the epoch); NaN where the message does not say it."""
    date = table.get("series_date")
    if not isinstance(date, datetime):
        return math.nan
    try:
        seconds = [float(table[key][0]) / float(table[key][1]) for key in ("start_time", "stop_time")]
        return date.timestamp() + sum(seconds) / 2
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError):
        return math.nan


class Stream2Source:
    """A `FrameSource` of one `channel` (threshold) of a DECTRIS detector at `address`; the first by default.

    A PULL socket: the detector deals its images out to all who ask, so that this must be the only one.
    """

    rereads = False

    def __init__(self, address: str, tell: Tell, channel: str | None = None, monitor: str | None = None) -> None:
        require_stream2()
        self.labels = Labeller(tell, series=True, monitor=monitor)
        self._channel = channel
        self.socket: Socket = zmq.Context.instance().socket(zmq.PULL)
        self.socket.setsockopt(zmq.RCVHWM, _WAITING)
        try:
            self.socket.connect(address)
        except zmq.ZMQError as error:
            self.socket.close()
            text = (
                f"[stream] frames {address!r} is no address of stream2 ({error.strerror}); write tcp://host:31001"
            )
            raise ScanError(text) from None

    def document(self, name: str, doc: Mapping[str, Any]) -> None:
        self.labels.document(name, doc)

    def receive(self, timeout_s: float) -> Iterator[Frame]:
        yield from self.labels.ready()
        for parts in drain(self.socket, timeout_s):
            self._message(parts[0])
            yield from self.labels.ready()

    def late_s(self) -> float:
        return LATE_S

    def _message(self, message: bytes) -> None:
        kind = "a message that cannot be read"
        try:
            table = decode_message(message)
            kind = f"one {table['type']} message that cannot be used"
            self._take(table)
        except WireError as error:
            logger.debug("stream2: %s: %s", kind, error)
            self.labels.complaints.say(kind, f"stream2: {kind} was left out: {error}")

    def _take(self, table: Mapping[str, Any]) -> None:
        series = int(table["series_id"])
        if table["type"] == "start":
            self.labels.armed(series, max(_count(table, "number_of_images"), 1))
        elif table["type"] == "end":
            self.labels.ended(series)
        else:
            self.labels.take(self._exposure(table, series))

    def _exposure(self, table: Mapping[str, Any], series: int) -> Exposure:
        data = table.get("data")
        channels = list(data) if isinstance(data, Mapping) else []
        channel = self._channel or (channels[0] if channels else None)
        if channel not in channels:
            raise WireError(f"no channel {channel!r}; there are {channels}: set [stream] channel")
        if len(channels) > 1 and self._channel is None:
            text = f"channel {channel!r} is taken of {channels}; [stream] channel chooses another"
            self.labels.complaints.say("several channels", text)
        image = pixels(table["data"][channel])
        return Exposure(series=series, number=int(table["image_id"]), timestamp_s=middle_s(table), image=image)

    def close(self) -> None:
        self.socket.close(linger=0)
