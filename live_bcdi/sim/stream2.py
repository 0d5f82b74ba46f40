"""A DECTRIS detector as it is seen from the network: stream2 messages on a PUSH socket.

Written from DECTRIS's documentation and not from our decoder, with HDF5's own filters for the compression.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

import h5py
import hdf5plugin
import zmq
from numpy.typing import NDArray

from ..types import ScanError

try:
    import cbor2
except ImportError as error:  # told of when it is wanted
    _missing: ImportError | None = error
else:
    _missing = None

Compression = Literal["bslz4", "lz4", "none"]

_FILTERS = {"bslz4": hdf5plugin.Bitshuffle(cname="lz4"), "lz4": hdf5plugin.LZ4()}
_TYPED_ARRAY = {"u1": 64, "u2": 69, "u4": 70, "f4": 85}  # RFC 8746, little-endian
_CLOCK_HZ = 50_000_000  # of the times in image messages


def compress(array: NDArray[Any], compression: Compression) -> bytes:
    """The bytes of `array` as HDF5's bitshuffle/LZ4 or LZ4 filter leaves them, which is what stream2 carries."""
    if compression == "none":
        return array.tobytes()
    with h5py.File.in_memory() as file:
        options: dict[str, Any] = dict(_FILTERS[compression])
        dataset = file.create_dataset("data", data=array, chunks=array.shape, **options)
        return bytes(dataset.id.read_direct_chunk((0,) * array.ndim)[1])


def encode_array(array: NDArray[Any], compression: Compression) -> Any:
    """A multi-dimensional array (RFC 8746, tag 40), its bytes compressed (tag 56500) or not."""
    data: Any = compress(array, compression)
    if compression != "none":
        data = cbor2.CBORTag(56500, [compression, array.itemsize if compression == "bslz4" else 0, data])
    typed = cbor2.CBORTag(_TYPED_ARRAY[array.dtype.str[1:]], data)
    return cbor2.CBORTag(40, [list(array.shape), typed])


class SimulatedEiger:
    """Sends series of images of one or several `channels`, as the detector does: `series_id` counts the arms up,
    `image_id` the images of a series from 0.

    As a context it binds `address` and closes it. Raises ScanError where cbor2 is not installed.
    """

    def __init__(
        self, address: str, *, channels: Sequence[str] = ("threshold_1",), compression: Compression = "bslz4"
    ) -> None:
        if _missing is not None:
            raise ScanError(f"stream2 needs cbor2 ({_missing}): pip install live_bcdi[stream2]")
        self._channels, self._compression = tuple(channels), compression
        self.series, self._image = 0, 0
        self._armed = datetime.now(UTC)
        self._context = zmq.Context()  # its own: the address is free once it has ended
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.LINGER, 500)
        try:
            self._socket.bind(address)
        except zmq.ZMQError:
            self.close()
            raise

    def arm(self, images: int, shape: tuple[int, int]) -> int:
        """Begin a series of so many `images` of `shape` (rows, columns); its number."""
        self.series, self._image, self._armed = self.series + 1, 0, datetime.now(UTC)
        about = {
            "arm_date": self._date(),
            "channels": list(self._channels),
            "image_size_x": shape[1],
            "image_size_y": shape[0],
            "number_of_images": images,
        }
        self.send(self._message("start", about))
        return self.series

    def image_message(
        self, images: Mapping[str, NDArray[Any]], *, start_s: float = 0.0, stop_s: float = 0.0
    ) -> bytes:
        """The next image, one array (row, column) a channel, exposed between these seconds after the arm."""
        about = {
            "image_id": self._image,
            "series_date": self._date(),
            "start_time": [round(start_s * _CLOCK_HZ), _CLOCK_HZ],
            "stop_time": [round(stop_s * _CLOCK_HZ), _CLOCK_HZ],
            "real_time": [round((stop_s - start_s) * _CLOCK_HZ), _CLOCK_HZ],
            "data": {name: encode_array(image, self._compression) for name, image in images.items()},
        }
        self._image += 1
        return self._message("image", about)

    def disarm(self) -> None:
        """End the series."""
        self.send(self._message("end", {}))

    def send(self, message: bytes) -> None:
        """Any bytes, as one message."""
        self._socket.send(message)

    @property
    def armed_s(self) -> float:
        """When the series began, seconds since the epoch."""
        return self._armed.timestamp()

    def _date(self) -> Any:
        return cbor2.CBORTag(0, self._armed.isoformat())

    def _message(self, kind: str, about: Mapping[str, Any]) -> bytes:
        ids = {"series_id": self.series, "series_unique_id": f"sim{self.series:08d}"}
        return cbor2.dumps({"type": kind, **ids, **about})

    def close(self) -> None:
        """Give the address back."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
