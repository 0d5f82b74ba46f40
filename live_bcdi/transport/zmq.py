"""0MQ sockets: updates and frames out and in, bluesky documents in.

One wire form for updates and frames: `[topic, msgpack header, buffer, ...]`, the header naming dtype and
shape of each buffer. Documents are bluesky's own `Publisher` form with msgpack in place of pickle. Nothing
that arrives is trusted: a message that is not of this form raises `WireError`, and the caller drops it.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import msgpack
import numpy as np
import zmq
from numpy.typing import NDArray

from ..stream.documents import check_document, check_plain
from ..stream.updates import TOPICS, Update
from ..types import Frame, ScanError
from .keys import LOCAL, Access, Socket

MAX_HEADER_BYTES = 1 << 20  # a header holds numbers and names; a megabyte is already absurd
MAX_ARRAY_BYTES = 1 << 28  # a 16-megapixel float64 frame twice over
MAX_DOCUMENT_BYTES = 1 << 26  # documents carry references, not frames
MAX_SUBSCRIPTION_BYTES = 1 << 12  # what a subscriber has to tell
MAX_TABLES = 200_000  # tables and lists in a message: an empty one is a byte on the wire, and 64 in memory
DOCUMENTS_WAITING = (
    20_000  # of about a kilobyte: minutes of the fastest scan, and no more than memory has room for
)
UPDATES_WAITING = 1000
FRAMES_WAITING = 256
FRAMES_TO_SEND, FRAMES_TO_SEND_BYTES = 1000, 1 << 29
_KINDS = "biuf"
FRAMES_HELD_BYTES = 1 << 28
BATCH = 64  # messages a turn: a few milliseconds of 1-megapixel frames
PROBE = "probe"  # a message on the document stream that only asks whether the broker passes it on

logger = logging.getLogger(__name__)


class WireError(ValueError):
    """A message that is not of the documented form."""


Part: TypeAlias = bytes | memoryview | zmq.Frame
Parts: TypeAlias = Sequence[Part]


def _buffer(array: NDArray[Any]) -> memoryview:
    return memoryview(np.ascontiguousarray(array).data).cast("B") if array.size else memoryview(b"")


def _pack(topic: str, body: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> list[bytes | memoryview]:
    layout = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    header = msgpack.packb({**body, "arrays": layout}, default=_plain)
    return [topic.encode(), header, *(_buffer(array) for array in arrays.values())]


def _plain(value: object) -> object:
    """numpy scalars and arrays as the plain values that msgpack knows."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"cannot send a {type(value).__name__}")


def _bytes(part: Part) -> bytes:
    return part.bytes if isinstance(part, zmq.Frame) else bytes(part)


def _unpack(parts: Parts) -> tuple[str, dict[str, Any], dict[str, NDArray[Any]]]:
    if len(parts) < 2:
        raise WireError(f"a message has a topic and a header, not {len(parts)} part(s)")
    raw = [_bytes(parts[0]), _bytes(parts[1])]
    if len(raw[1]) > MAX_HEADER_BYTES:
        raise WireError(f"header of {len(raw[1])} bytes")
    try:
        header = _loads(raw[1])
        topic = raw[0].decode()
        check_plain(header)
        layout = header.pop("arrays")
        arrays = {name: _array(dtype, shape, part) for (name, dtype, shape), part in zip(layout, parts[2:])}
    except WireError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, SyntaxError) as error:  # of numpy's for a dtype
        raise WireError(f"not a message: {type(error).__name__}: {error}") from None
    if len(layout) != len(parts) - 2:
        raise WireError(f"{len(layout)} arrays announced, {len(parts) - 2} buffers came")
    return topic, header, arrays


def _loads(packed: bytes) -> Any:
    """What msgpack holds, of plain values and no more tables than memory has room for. Raises WireError."""
    left = iter(range(MAX_TABLES))

    def counted(value: Any) -> Any:
        if next(left, None) is None:
            raise WireError(f"more than {MAX_TABLES} tables and lists")
        return value

    try:
        return msgpack.unpackb(packed, object_hook=counted, list_hook=counted, ext_hook=_refuse_extension)
    except WireError:
        raise
    except (ValueError, TypeError, MemoryError, msgpack.UnpackException) as error:
        raise WireError(f"not msgpack: {type(error).__name__}: {error}") from None


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise WireError(f"an extension type, {code}")


def _array(dtype_text: str, shape: Sequence[int], part: Part) -> NDArray[Any]:
    dtype = np.dtype(str(dtype_text))
    if dtype.kind not in _KINDS or any(not isinstance(edge, int) or edge < 0 for edge in shape):
        raise WireError(f"array of dtype {dtype_text!r} and shape {shape}")
    size = math.prod(shape) * dtype.itemsize
    buffer = part.buffer if isinstance(part, zmq.Frame) else memoryview(part)
    if size > MAX_ARRAY_BYTES or size != buffer.nbytes:
        raise WireError(f"array {shape} of {dtype} needs {size} bytes, {buffer.nbytes} came")
    return np.frombuffer(buffer, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def encode_update(update: Update) -> list[bytes | memoryview]:
    """An `Update` as message parts."""
    return _pack(update.topic, {"run": update.run, "fields": dict(update.fields)}, update.arrays)


def decode_update(parts: Parts) -> Update:
    """Message parts as an `Update`. Raises WireError."""
    topic, header, arrays = _unpack(parts)
    fields, run = header.get("fields"), header.get("run")
    if topic not in TOPICS or not isinstance(fields, dict) or not isinstance(run, str):
        raise WireError(f"not an update: topic {topic!r}")
    return Update(topic=topic, run=run, fields=fields, arrays=arrays)


def encode_frame(frame: Frame) -> list[bytes | memoryview]:
    """A `Frame` as message parts; the image travels as it lies in memory."""
    body = {key: value for key, value in asdict(_without_image(frame)).items() if key != "image"}
    return _pack("frame", body, {"image": frame.image})


def _without_image(frame: Frame) -> Frame:
    """asdict copies what it meets; a frame's megapixels need not be copied to be named."""
    return Frame(
        run=frame.run,
        index=frame.index,
        angle_deg=frame.angle_deg,
        monitor=frame.monitor,
        timestamp_s=frame.timestamp_s,
        image=np.empty((0, 0)),
    )


def decode_frame(parts: Parts) -> Frame:
    """Message parts as a `Frame`. Raises WireError, also for a negative index or a non-finite angle."""
    topic, header, arrays = _unpack(parts)
    image = arrays.get("image")
    if topic != "frame" or image is None or image.ndim != 2 or not image.size or image.dtype.kind == "b":
        raise WireError(f"not a frame of counts (row, column): topic {topic!r}")
    try:
        frame = Frame(image=image, **header)
    except TypeError as error:
        raise WireError(f"frame header: {error}") from None
    numbers = (frame.angle_deg, frame.monitor, frame.timestamp_s)
    if not isinstance(frame.index, int) or frame.index < 0 or not isinstance(frame.run, str):
        raise WireError(f"frame index {frame.index!r} of run {frame.run!r}")
    if not all(isinstance(number, int | float) for number in numbers) or not math.isfinite(frame.angle_deg):
        raise WireError(f"frame {frame.index}: angle, monitor and time {numbers}")
    return frame


def encode_document(doc: Mapping[str, Any]) -> bytes:
    """The serialiser for bluesky's `Publisher`: msgpack, numpy scalars as plain numbers.

    Raises ValueError for a document so large that the broker would hang up on its sender.
    """
    packed = bytes(msgpack.packb(doc, default=_plain))
    if len(packed) > MAX_DOCUMENT_BYTES - 100:  # less its name
        raise ValueError(f"a document of {len(packed)} bytes; at most {MAX_DOCUMENT_BYTES} are taken")
    return packed


def decode_document(message: bytes, *more: bytes) -> tuple[str, dict[str, Any]]:
    """(name, document) of a message from bluesky's `Publisher` with an empty prefix. Raises WireError, also for a
    document that lacks what we use of it (`check_document`)."""
    if more or len(message) > MAX_DOCUMENT_BYTES:
        raise WireError(f"document of {len(message)} bytes in {1 + len(more)} parts")
    try:
        _, name, payload = message.split(b" ", 2)
        kind, doc = name.decode(), _loads(payload)
        if kind != PROBE:
            check_document(kind, doc)
    except ValueError as error:
        raise error if isinstance(error, WireError) else WireError(f"not a document: {error}") from None
    return kind, doc


def check_free(address: str, what: str, access: Access = LOCAL) -> None:
    """Raises ScanError when a tcp `address` cannot be bound, or may not be, saying which setting to change."""
    access.check(address)
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            raise ScanError(
                f"{what} {address} cannot be opened ({error.strerror}); another live-bcdi may be running: "
                f"stop it, or set another {what} in the configuration"
            ) from None


def new_socket(kind: int, *, largest_bytes: int, waiting: int, linger_ms: int = 0) -> Socket:
    """A socket that hangs up on who sends a part of more than `largest_bytes`; `waiting` messages a peer wait."""
    socket: Socket = zmq.Context.instance().socket(kind)
    socket.maxmsgsize = largest_bytes
    socket.rcvhwm = socket.sndhwm = waiting
    socket.linger = linger_ms
    return socket


class _Dropped:
    """Tells of dropped messages once a second at most: whoever floods a socket must not fill the log's disk."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._untold = 0
        self._next_s = 0.0

    def say(self, error: WireError) -> None:
        now_s = time.monotonic()
        self._untold += 1
        if now_s >= self._next_s:
            more = f" ({self._untold - 1} before it since the last such line)" if self._untold > 1 else ""
            logger.warning("dropped a message on the %s stream: %s%s", self._stream, error, more)
            self._untold, self._next_s = 0, now_s + 1.0


class UpdatePublisher:
    """An `UpdateSink` on the broker. Never blocks: what the broker cannot take is dropped."""

    def __init__(self, address: str, access: Access = LOCAL) -> None:
        self._socket = new_socket(
            zmq.PUB, largest_bytes=MAX_SUBSCRIPTION_BYTES, waiting=UPDATES_WAITING, linger_ms=500
        )
        access.connect(self._socket, address)

    def send(self, update: Update) -> None:
        self._socket.send_multipart(encode_update(update), copy=False)

    def close(self) -> None:
        self._socket.close()


class DocumentSubscriber:
    """bluesky documents from the broker; many may wait, for a lost one is a lost scan (RemoteDispatcher starves
    its callbacks and drops bursts; DESIGN.md)."""

    def __init__(self, address: str, access: Access = LOCAL) -> None:
        self._dropped = _Dropped("document")
        self.socket = new_socket(zmq.SUB, largest_bytes=MAX_DOCUMENT_BYTES, waiting=DOCUMENTS_WAITING)
        self.socket.subscribe(b"")
        access.connect(self.socket, address)

    def receive(self, timeout_s: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """(name, document) of some that are there within `timeout_s`; skips what is malformed."""
        for message in drain(self.socket, timeout_s):
            try:
                name, doc = decode_document(*message)
            except WireError as error:
                self._dropped.say(error)
                continue
            if name != PROBE:
                yield name, doc

    def close(self) -> None:
        self.socket.close(linger=0)


def drain(socket: Socket, timeout_s: float) -> Iterator[list[bytes]]:
    """At most `BATCH` messages: a loop with other things to do gets back to them however fast they come."""
    wait_ms = int(timeout_s * 1000)
    for _ in range(BATCH):
        if not socket.poll(wait_ms):
            return
        wait_ms = 0
        yield socket.recv_multipart()


class UpdateSubscriber:
    """Updates from the broker, those of `topics` only (all by default)."""

    def __init__(self, address: str, topics: Sequence[str] = TOPICS, access: Access = LOCAL) -> None:
        self._dropped = _Dropped("update")
        self._socket = new_socket(zmq.SUB, largest_bytes=MAX_ARRAY_BYTES, waiting=UPDATES_WAITING)
        for topic in topics:
            self._socket.subscribe(topic)
        access.connect(self._socket, address)

    def receive(self, timeout_s: float) -> Iterator[Update]:
        """Some of what is there within `timeout_s`; malformed messages are skipped."""
        for message in drain(self._socket, timeout_s):
            try:
                yield decode_update(message)
            except WireError as error:
                self._dropped.say(error)

    def close(self) -> None:
        self._socket.close(linger=0)


class FramePublisher:
    """The detector's side of the frame stream: PUB, so that a slow consumer loses frames and not the scan."""

    def __init__(self, address: str, access: Access = LOCAL) -> None:
        self._socket = new_socket(
            zmq.XPUB, largest_bytes=MAX_SUBSCRIPTION_BYTES, waiting=FRAMES_TO_SEND, linger_ms=500
        )
        self._bounded = False
        try:
            access.bind(self._socket, address)
        except zmq.ZMQError as error:
            self._socket.close()
            raise ScanError(f"frame stream {address}: {error.strerror}; is another scan running?") from None

    def wait_for_subscriber(self, timeout_s: float) -> bool:
        """True as soon as someone listens; a scan goes on all the same after `timeout_s`."""
        if not self._socket.poll(int(timeout_s * 1000)):
            return False
        self._socket.recv()
        return True

    def send(self, frame: Frame) -> None:
        """Never blocks. For a subscriber that does not read, `FRAMES_TO_SEND_BYTES` are kept and no more."""
        if not self._bounded:  # 0MQ counts messages; the first says how large they are
            self._socket.sndhwm = min(FRAMES_TO_SEND, max(8, FRAMES_TO_SEND_BYTES // frame.image.nbytes))
            self._bounded = True
        for _ in range(BATCH):  # who comes and goes is told here, and kept in memory until it is heard
            if not self._socket.poll(0):
                break
            self._socket.recv()
        self._socket.send_multipart(encode_frame(frame), copy=False)

    def close(self) -> None:
        self._socket.close()


class FrameSubscriber:
    """Frames from a detector. At most `waiting` of them wait on the socket, and here those that were received and
    not yet taken, in `FRAMES_HELD_BYTES`; what is lost is refilled from the file."""

    def __init__(self, address: str, waiting: int = FRAMES_WAITING, access: Access = LOCAL) -> None:
        self._dropped = _Dropped("frame")
        self.socket = new_socket(zmq.SUB, largest_bytes=MAX_ARRAY_BYTES, waiting=waiting)
        self.socket.subscribe(b"frame")
        access.connect(self.socket, address)
        self._held: deque[list[zmq.Frame]] = deque()
        self._held_bytes = 0

    def receive(self, timeout_s: float) -> Iterator[Frame]:
        """Some frames that are there within `timeout_s`; skips what is malformed."""
        self._pull(0.0 if self._held else timeout_s)
        for _ in range(min(len(self._held), BATCH)):
            message = self._held.popleft()
            self._held_bytes -= sum(map(len, message))
            try:
                yield decode_frame(message)
            except WireError as error:
                self._dropped.say(error)

    @property
    def waiting(self) -> int:
        """Frames that were received and not yet taken."""
        return len(self._held)

    def _pull(self, timeout_s: float) -> None:
        """Take from the socket before looking at any: its own queue is short, and what it cannot hold is lost."""
        wait_ms = int(timeout_s * 1000)
        for _ in range(2 * BATCH):
            if self._held_bytes > FRAMES_HELD_BYTES or not self.socket.poll(wait_ms):
                return
            wait_ms = 0
            message = self.socket.recv_multipart(copy=False)
            self._held.append(message)
            self._held_bytes += sum(map(len, message))

    def close(self) -> None:
        self.socket.close(linger=0)
