"""What must be known of a scan besides its frames, as one JSON-plain table.

The same table travels in the bluesky start document, beside the frames on disk, and over the wire; it holds
only dict, list, str, int, float, bool and None. `docs/file-format.md` lists its keys.
"""

import base64
import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from .types import BoolArray, FloatArray, FrameArray, Geometry, RockingScan, ScanError, Vector

T = TypeVar("T")

MAX_PIXELS = 1 << 27  # of a mask or a flat field: a 100-megapixel detector
STEM_LENGTH = 64  # with a uid and a number after it far below the 255 bytes of a file name


@dataclass(frozen=True, kw_only=True, slots=True)
class _PackedMask:
    """A (row, column) mask: its bits, row by row, deflated, in base64."""

    shape: tuple[int, int]
    deflated_bits: str

    def __post_init__(self) -> None:
        _pixels(self.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class _PackedFlat:
    """A (row, column) flat field in steps of 1e-4: its uint16, row by row, deflated, in base64."""

    shape: tuple[int, int]
    deflated_1e4: str

    def __post_init__(self) -> None:
        _pixels(self.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class _ScanTable:
    """The table of `scan_metadata`; what has a default may be absent."""

    name: str
    geometry: Geometry
    sample: str = ""
    hkl: Vector | None = None
    exposure_s: float | None = None
    angular_blur_deg: float | None = None
    saturation_counts: float | None = None
    bad_pixels: _PackedMask | None = None
    flatfield: _PackedFlat | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def file_stem(name: str) -> str:
    """The beginning of a file name for what is called `name`: ASCII letters, digits, `_`, `-` and inner dots, from
    1 to 64 of them. Two names may give the same; what makes a file unique comes after it."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:STEM_LENGTH].strip("._-") or "scan"


def plain(value: Any) -> Any:
    """The value as JSON can write it: dataclasses as tables, numpy as numbers, NaN and infinities as None."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | bool | None) else str(value)


def geometry_to_dict(geometry: Geometry) -> dict[str, object]:
    """The geometry as a table; `geometry_from_dict` gives it back exactly."""
    return dict(_listed(asdict(geometry)))


def geometry_from_dict(table: Mapping[str, Any]) -> Geometry:
    """A checked `Geometry`. Raises one ScanError that lists every missing or wrong key."""
    return _checked(_GEOMETRY, table, "geometry")


def scan_metadata(scan: RockingScan) -> dict[str, object]:
    """Everything of a scan that is not one value a frame.

    Raises ScanError where `scan.metadata` holds what JSON cannot.
    """
    return {
        "name": scan.name,
        "geometry": geometry_to_dict(scan.geometry),
        "sample": scan.sample,
        "hkl": None if scan.hkl is None else [float(index) for index in scan.hkl],
        "exposure_s": _float_or_none(scan.exposure_s),
        "angular_blur_deg": _float_or_none(scan.angular_blur_deg),
        "saturation_counts": _float_or_none(scan.saturation_counts),
        "bad_pixels": None if scan.bad_pixels is None else _packed(scan.bad_pixels),
        "flatfield": None if scan.flatfield is None else _packed_flat(scan.flatfield),
        "metadata": _json_plain(scan.metadata, scan.name),
    }


def scan_from_metadata(
    table: Mapping[str, Any],
    *,
    intensity: FrameArray,
    angles_deg: FloatArray,
    monitor: FloatArray | None = None,
    timestamps_s: FloatArray | None = None,
    have: BoolArray | None = None,
) -> RockingScan:
    """The scan that `scan_metadata` described, with its frames (rocking, row, column) and the values a frame.

    Raises one ScanError that lists every missing or wrong key of `table`.
    """
    known = _checked(_SCAN, table, "scan metadata")
    return RockingScan(
        name=known.name,
        intensity=intensity,
        angles_deg=angles_deg,
        geometry=known.geometry,
        monitor=monitor,
        timestamps_s=timestamps_s,
        have=have,
        bad_pixels=None if known.bad_pixels is None else _unpacked(known.bad_pixels),
        flatfield=None if known.flatfield is None else _unpacked_flat(known.flatfield),
        saturation_counts=known.saturation_counts,
        exposure_s=known.exposure_s,
        angular_blur_deg=known.angular_blur_deg,
        hkl=known.hkl,
        sample=known.sample,
        metadata=known.metadata,
    )


def check_scan_metadata(table: Mapping[str, Any]) -> None:
    """Raise one ScanError that lists every missing or wrong key, before a scan starts."""
    _checked(_SCAN, table, "scan metadata")


_GEOMETRY = TypeAdapter(Geometry)
_SCAN = TypeAdapter(_ScanTable)


def _checked(adapter: TypeAdapter[T], table: Mapping[str, Any], what: str) -> T:
    try:
        return adapter.validate_python(dict(table) if isinstance(table, Mapping) else table)
    except ValidationError as error:
        raise ScanError(f"{what}: " + "; ".join(_problem(dict(item)) for item in error.errors())) from None


def _problem(error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"missing key {key!r}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _listed(value: Any) -> Any:
    """Tuples as lists and numpy scalars as plain ones, as JSON and msgpack give them back."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _json_plain(metadata: Mapping[str, Any], name: str) -> dict[str, object]:
    table = _listed(dict(metadata))
    try:
        same = json.loads(json.dumps(table)) == table
    except (TypeError, ValueError) as error:
        raise ScanError(f"{name}: scan.metadata must hold JSON values only: {error}") from None
    if not same:
        raise ScanError(f"{name}: scan.metadata must hold JSON values only: text as keys, and no NaN")
    return dict(table)


def _float_or_none(value: float | None) -> float | None:
    return None if value is None else float(value)


def _packed(mask: BoolArray) -> dict[str, object]:
    bits = zlib.compress(np.packbits(mask).tobytes())
    return {"shape": list(mask.shape), "deflated_bits": base64.b64encode(bits).decode("ascii")}


def _unpacked(packed: _PackedMask) -> BoolArray:
    count = _pixels(packed.shape)
    try:
        raw = _inflated(packed.deflated_bits, -(-count // 8))
        return np.unpackbits(np.frombuffer(raw, np.uint8))[:count].astype(bool).reshape(packed.shape)
    except (ValueError, zlib.error) as error:
        raise ScanError(f"scan metadata: bad_pixels cannot be unpacked: {error}") from None


def _pixels(shape: tuple[int, int]) -> int:
    if min(shape) < 0 or math.prod(shape) > MAX_PIXELS:
        raise ValueError(f"{shape} pixels; a detector has at most {MAX_PIXELS}")
    return math.prod(shape)


def _inflated(text: str, size: int) -> bytes:
    """Exactly `size` bytes, however many the text may claim to hold. Raises ValueError and zlib.error."""
    raw = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size + 1)
    if len(raw) != size:
        raise ValueError(f"{size} bytes were announced, it has {'more' if len(raw) > size else len(raw)}")
    return raw


def _packed_flat(flatfield: FloatArray) -> dict[str, object]:
    steps = np.rint(np.clip(np.asarray(flatfield, np.float64), 0, 6.5535) * 1e4).astype("<u2")
    text = base64.b64encode(zlib.compress(steps.tobytes())).decode("ascii")
    return {"shape": list(flatfield.shape), "deflated_1e4": text}


def _unpacked_flat(packed: _PackedFlat) -> FloatArray:
    try:
        raw = _inflated(packed.deflated_1e4, 2 * _pixels(packed.shape))
        steps = np.frombuffer(raw, "<u2").reshape(packed.shape)
    except (ValueError, zlib.error) as error:
        raise ScanError(f"scan metadata: flatfield cannot be unpacked: {error}") from None
    return np.asarray(steps / 1e4, np.float32)
