"""EPICS pvAccess: frames as areaDetector's NDPluginPva publishes them, NTNDArray.

Pixels come plain or by the codecs of NDPluginCodec: "lz4" and "bslz4" without a frame around them, "blosc" with
its own. Sizes are checked before anything is decompressed.
"""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..stream.sources import HELD_BYTES, LATE_S, Exposure, Labeller, Tell
from ..types import Frame, ScanError
from .zmq import MAX_ARRAY_BYTES, WireError

try:
    import lz4.block
    import numcodecs.blosc
    from dectris.compression import decompress
    from p4p.client.thread import Context
except ImportError as error:  # told of when it is wanted
    _missing: ImportError | None = error
else:
    _missing = None

# pvData's numbers of the types, which NDPluginCodec writes into codec.parameters
_SCALARS = {1: "i1", 2: "i2", 3: "i4", 4: "i8", 5: "u1", 6: "u2", 7: "u4", 8: "u8", 9: "f4", 10: "f8"}
_BITSHUFFLE_BLOCK_BYTES = 8192  # bitshuffle's default, which NDPluginCodec uses
_WAITING = 256  # frames between the network's thread and ours; then the oldest go, seen as a gap

logger = logging.getLogger(__name__)


def require_pvaccess() -> None:
    """Raises ScanError where the packages for pvAccess are not installed."""
    if _missing is not None:
        raise ScanError(f"pvAccess needs p4p and decompressors ({_missing}): pip install live_bcdi[pvaccess]")


def exposure(value: Any) -> Exposure:
    """An NTNDArray (a `p4p.Value`, not unwrapped) as a picture. Raises WireError."""
    try:
        shape = tuple(int(dimension.size) for dimension in reversed(value.dimension))
        image = _pixels(value, shape)
        time_s = _seconds(value.dataTimeStamp) or _seconds(value.timeStamp) or math.nan
        return Exposure(number=int(value.uniqueId), timestamp_s=time_s, image=image)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, WireError):
            raise
        raise WireError(f"not an NTNDArray: {error}") from None


def _pixels(value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    if len(shape) != 2 or min(shape) < 1:
        raise WireError(f"an image is (rows, columns), not {shape}; colours cannot be used")
    codec, data = str(value.codec.name), value.value
    if not isinstance(data, np.ndarray) or data.dtype.kind not in "iuf":
        raise WireError(f"pixels are {type(data).__name__}, not an array of numbers")
    if codec:
        data = _decompressed(codec, data.tobytes(), _dtype(value.codec.parameters), math.prod(shape))
    if data.size != math.prod(shape):
        raise WireError(f"an image of {shape} came with {data.size} pixels")
    return np.array(data).reshape(shape)  # ours: the network's memory goes with the message


def _dtype(parameters: Any) -> np.dtype[Any]:
    if parameters not in _SCALARS:
        raise WireError(f"codec.parameters {parameters!r} is not the type of the pixels")
    return np.dtype(_SCALARS[parameters])


def _decompressed(codec: str, packed: bytes, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    unpack = _CODECS.get(codec)
    size = count * dtype.itemsize
    if unpack is None or size > MAX_ARRAY_BYTES:
        raise WireError(f"codec {codec!r} with {size} bytes; known are {', '.join(_CODECS)}")
    try:
        plain = unpack(packed, size, dtype.itemsize)
    except (RuntimeError, ValueError, MemoryError, lz4.block.LZ4BlockError) as error:
        raise error if isinstance(error, WireError) else WireError(f"cannot decompress {codec}: {error}") from None
    if len(plain) != size:
        raise WireError(f"an image of {size} bytes decompressed to {len(plain)}")
    return np.frombuffer(plain, dtype)


def _lz4(packed: bytes, size: int, _itemsize: int) -> bytes:
    return bytes(lz4.block.decompress(packed, uncompressed_size=size))


def _bslz4(packed: bytes, size: int, itemsize: int) -> bytes:
    """The decompressor wants the head that HDF5's filter puts before the blocks."""
    head = size.to_bytes(8, "big") + _BITSHUFFLE_BLOCK_BYTES.to_bytes(4, "big")
    return bytes(decompress(head + packed, "bslz4", elem_size=itemsize))


def _blosc(packed: bytes, size: int, _itemsize: int) -> bytes:
    said = int.from_bytes(packed[4:8], "little")  # blosc's own head, bytes 4 to 7
    if len(packed) < 16 or said != size:
        raise WireError(f"{size} bytes were announced, their compressed form is of {said}")
    return bytes(numcodecs.blosc.decompress(packed))


_CODECS: Mapping[str, Callable[[bytes, int, int], bytes]] = {"lz4": _lz4, "bslz4": _bslz4, "blosc": _blosc}


def _seconds(stamp: Any) -> float:
    return float(stamp.secondsPastEpoch + stamp.nanoseconds * 1e-9)


class PvaSource:
    """A `FrameSource` of the NTNDArray `channel_name`. The EPICS_PVA_* variables say where to look for it.

    `uniqueId` counts the frames; a run begins with the first after its start. What a subscription begins with is
    an old frame, of no run. Several threads: the network's puts frames down, ours takes them.
    """

    socket = None
    rereads = False

    def __init__(self, channel_name: str, tell: Tell, monitor: str | None = None) -> None:
        require_pvaccess()
        self._name = channel_name
        self.labels = Labeller(tell, monitor=monitor)
        self._connected = False
        self._came: deque[Any] = deque(maxlen=_WAITING)
        self._news = threading.Event()
        self._context = Context("pva", nt=False)
        self._subscription = self._context.monitor(
            channel_name, self._put, request=f"record[queueSize={_WAITING}]field()", notify_disconnect=True
        )

    def _put(self, value: Any) -> None:
        """Called by the network's thread. Large frames wait in no more bytes than small ones."""
        self._came.append(value)
        pixels = getattr(value, "value", None)
        most = max(1, HELD_BYTES // max(1, getattr(pixels, "nbytes", 1)))
        with suppress(IndexError):  # the other thread may have taken them meanwhile
            while len(self._came) > most:
                self._came.popleft()
        self._news.set()

    def document(self, name: str, doc: Mapping[str, Any]) -> None:
        self.labels.document(name, doc)
        if name == "start" and not self._connected:
            self._say_away()

    def receive(self, timeout_s: float) -> Iterator[Frame]:
        yield from self.labels.ready()
        if not self._came:
            self._news.wait(timeout_s)
        self._news.clear()
        for _ in range(len(self._came)):
            self._take(self._came.popleft())
            yield from self.labels.ready()

    def late_s(self) -> float:
        return LATE_S

    def _take(self, value: Any) -> None:
        first, self._connected = not self._connected, not isinstance(value, Exception)
        if not self._connected:
            if not first:
                self._say_away()
            return
        try:
            picture = exposure(value)
            if first and not picture.timestamp_s >= self.labels.started_s:
                return  # what was there before we asked is older than the run
            self.labels.take(picture)
        except WireError as error:
            logger.debug("%s: %s", self._name, error)
            self.labels.complaints.say("a frame that cannot be used", f"{self._name}: left out a frame: {error}")

    def _say_away(self) -> None:
        self.labels.complaints.say("an interruption", f"{self._name} is not connected; it is waited for")

    def close(self) -> None:
        self._subscription.close()
        self._context.close()
