"""What a broken or malicious peer sends: malformed messages of every kind that was ever found, by name.

Tests and the fault run send these to every port and give them to every decoder. A new one is added here.
"""

import base64
import builtins
import functools
import math
import pickle
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import msgpack

RUN = "4f2d0c1e-hostile"
_DEEP = 10_000
_FRAME = {"run": RUN, "index": 0, "angle_deg": 0.1, "monitor": 1.0, "timestamp_s": 1.7e9}
_BOMB_MARK = "hostile_pickle_was_executed"


class _Bomb:
    """Unpickling it defines a name in `builtins`, by which a test sees that somebody did."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, (f"import builtins; builtins.{_BOMB_MARK} = True",)


def pickle_was_executed() -> bool:
    """Whether anything in this process has unpickled one of the pickles here."""
    return hasattr(builtins, _BOMB_MARK)


def _nested(depth: int) -> bytes:
    """msgpack: lists of one list, `depth` deep."""
    return b"\x91" * depth + b"\xc0"


def _nested_claims(depth: int, claim: int) -> bytes:
    """msgpack: lists in lists, each of which claims `claim` items, which nobody sent."""
    return (b"\xdd" + struct.pack(">I", claim)) * depth


PAYLOADS: Mapping[str, bytes] = {
    "nothing": b"",
    "text": b"hello",
    "a pickle": pickle.dumps(_Bomb()),
    "a number": msgpack.packb(5),
    "a list": msgpack.packb([1, 2]),
    "nested 10,000 deep": _nested(_DEEP),
    "nested 1,000 deep": b"\x81\xa1a" * 1000 + b"\xc0",
    "nested 100 deep": b"\x81\xa1a" * 100 + b"\xc0",
    "an array of 4 billion items, which did not come": b"\xdd\xff\xff\xff\xff",
    "a map of 4 billion items, which did not come": b"\xdf\xff\xff\xff\xff",
    "text of 4 GB, which did not come": b"\xdb\xff\xff\xff\xff",
    "lists that each claim half a million items": _nested_claims(1000, 500_000) + bytes(600_000),
    "a million empty tables": b"\xdd" + struct.pack(">I", 1_000_000) + b"\x80" * 1_000_000,
    "keys that are numbers": msgpack.packb({1: 2}),
    "keys that are bytes": msgpack.packb({b"uid": 2}),
    "an extension type": msgpack.packb({"uid": msgpack.ExtType(5, b"x")}),
    "a timestamp": msgpack.packb({"uid": msgpack.Timestamp(5)}),
    "text that is not UTF-8": b"\x81\xa1\xff\xc0",
    "something after the end": msgpack.packb({"uid": "u"}) + b"\xc0",
}


def _frame(topic: bytes = b"frame", image: bytes = bytes(140), *more: bytes, **changes: Any) -> list[bytes]:
    layout = changes.pop("arrays", [["image", "<i4", [5, 7]]])
    return [topic, msgpack.packb({**_FRAME, "arrays": layout, **changes}), image, *more]


def frames() -> dict[str, list[bytes]]:
    """Messages of the frame stream that hold no usable frame."""
    good = _frame()
    layouts: dict[str, Any] = {
        "huge shape": [["image", "<i4", [1 << 40, 1 << 40]]],
        "shape beyond 64 bits": [["image", "<i4", [1 << 62, 1 << 62]]],
        "negative shape": [["image", "<i4", [-5, -7]]],
        "shape of text": [["image", "<i4", "57"]],
        "shape is None": [["image", "<i4", None]],
        "fractional shape": [["image", "<i4", [5.0, 7.0]]],
        "65 axes": [["image", "<i4", [1] * 65]],
        "three axes": [["image", "<i4", [5, 7, 1]]],
        "one axis": [["image", "<i4", [35]]],
        "wrong dtype": [["image", "<f8", [5, 7]]],
        "dtype of objects": [["image", "|O", [5, 7]]],
        "dtype of text": [["image", "<U1", [5, 7]]],
        "complex dtype": [["image", "<c8", [5, 7]]],
        "dtype of records": [["image", "i4,i4", [5, 7]]],
        "dtype of a syntax error": [["image", "(((", [5, 7]]],
        "no such dtype": [["image", "<q99", [5, 7]]],
        "dtype is a table": [["image", {"names": ["a"], "formats": ["O"]}, [5, 7]]],
        "another array": [["picture", "<i4", [5, 7]]],
        "array without a name": [[[], "<i4", [5, 7]]],
        "two arrays announced": [["image", "<i4", [5, 7]], ["more", "<i4", [5, 7]]],
        "layout is a number": 5,
        "layout of numbers": [1, 2, 3],
    }
    values: dict[str, tuple[str, Any]] = {
        "negative index": ("index", -1),
        "index is text": ("index", "1"),
        "index is a fraction": ("index", 1.5),
        "NaN angle": ("angle_deg", math.nan),
        "infinite angle": ("angle_deg", math.inf),
        "angle is None": ("angle_deg", None),
        "angle is a table": ("angle_deg", {}),
        "run is a number": ("run", 5),
        "unknown key": ("surprise", 1),
        "key of Python": ("__class__", "x"),
    }
    return {
        "empty": [],
        "no header": good[:1],
        "no buffer": good[:2],
        "two buffers": [*good, b"x"],
        "a thousand buffers": [*good, *[b"x"] * 1000],
        "truncated buffer": [*good[:2], good[2][:-1]],
        "truncated header": [good[0], good[1][:-3], good[2]],
        "header is huge": [good[0], msgpack.packb("x" * (1 << 21)), good[2]],
        "topic is not text": _frame(b"\xff"),
        "another topic": _frame(b"live"),
        "no pixels": _frame(image=b"", arrays=[["image", "<i4", [0, 7]]]),
        "logical pixels": _frame(image=bytes(35), arrays=[["image", "|b1", [5, 7]]]),
        **{f"header: {name}": [good[0], payload, good[2]] for name, payload in PAYLOADS.items()},
        **{name: _frame(arrays=layout) for name, layout in layouts.items()},
        **{name: _frame(**{key: value}) for name, (key, value) in values.items()},
    }


def updates() -> dict[str, list[bytes]]:
    """Messages of the update stream that hold no update."""

    def update(topic: bytes = b"live", **changes: Any) -> list[bytes]:
        return [topic, msgpack.packb({"run": RUN, "fields": {}, "arrays": [], **changes})]

    return {
        "empty": [],
        "topic that nobody knows": update(b"rumour"),
        "topic is not text": update(b"\xff"),
        "fields are a list": update(fields=[]),
        "fields are absent": [b"live", msgpack.packb({"run": RUN, "arrays": []})],
        "run is a number": update(run=5),
        "run is bytes": update(run=b"x"),
        "a field of bytes": update(fields={"count": b"x"}),
        "an array that did not come": update(arrays=[["image", "<i4", [5, 7]]]),
        **{f"header: {name}": [b"live", payload] for name, payload in PAYLOADS.items()},
    }


def _table(**changes: Any) -> dict[str, Any]:
    return {"uid": RUN, "time": 1.7e9, **changes}


def _event(**changes: Any) -> dict[str, Any]:
    form = {"descriptor": "d", "seq_num": 1, "data": {"theta": 0.1}, "timestamps": {"theta": 1.7e9}}
    return _table(**{**form, **changes})


def documents() -> dict[str, bytes]:
    """Messages of the document stream that hold no document of the documented form."""
    paths = {"../../etc/x": "path", "/etc/passwd": "absolute path", "a/b": "folder", ".": "dot", "..": "two dots"}
    odd_uids: dict[Any, str] = {
        **paths,
        "": "nothing",
        "a\x00b": "zero byte",
        "x" * 200: "too long",
        5: "a number",
    }
    tables: dict[str, tuple[str, Any]] = {
        "start without uid": ("start", {"time": 1.0}),
        "start at NaN": ("start", _table(time=math.nan)),
        "start at a text": ("start", _table(time="now")),
        "start at True": ("start", _table(time=True)),
        "stop of nothing": ("stop", {}),
        "stop that counts text": ("stop", {"run_start": RUN, "num_events": {"primary": "many"}}),
        "stop that counts a list": ("stop", {"run_start": RUN, "num_events": [1]}),
        "descriptor without keys": ("descriptor", {"uid": "d", "run_start": RUN}),
        "descriptor whose keys are numbers": ("descriptor", {"uid": "d", "run_start": RUN, "data_keys": {"x": 1}}),
        "descriptor with a list for a uid": ("descriptor", {"uid": [], "run_start": RUN, "data_keys": {}}),
        "event without data": ("event", {"descriptor": "d", "seq_num": 1}),
        "event of a list": ("event", _event(data=[1])),
        "event with a text for a number": ("event", _event(seq_num="1")),
        "event of a list of descriptors": ("event", _event(descriptor=["d"])),
        "event number -1": ("event", _event(seq_num=-1)),
        "event with bytes": ("event", _event(data={"theta": b"x"})),
        "page of numbers": ("event_page", _event(seq_num=[1], data={"theta": 0.1})),
        "resource without uri": ("stream_resource", {"uid": "r", "run_start": RUN}),
        "resource whose uri is a number": ("stream_resource", {"uid": "r", "run_start": RUN, "uri": 5}),
        "resource with a list of parameters": (
            "stream_resource",
            {"uid": "r", "run_start": RUN, "uri": "file:///x", "parameters": []},
        ),
        "stream datum of nothing": ("stream_datum", {}),
        "a document nobody knows": ("begin", _table()),
        **{f"start with {what} for a uid": ("start", _table(uid=uid)) for uid, what in odd_uids.items()},
        **{
            f"descriptor of a run named as {what}": ("descriptor", {"uid": "d", "run_start": uid, "data_keys": {}})
            for uid, what in paths.items()
        },
    }
    return {
        "nothing": b"",
        "no name": b"  ",
        "no payload": b" start ",
        "name is not text": b" \xff " + msgpack.packb(_table()),
        "truncated": b" start " + msgpack.packb(_table())[:-4],
        "a start that is a pickle": b" start " + pickle.dumps(_Bomb()),
        **{f"payload: {name}": b" start " + payload for name, payload in PAYLOADS.items()},
        **{name: b" " + kind.encode() + b" " + msgpack.packb(doc) for name, (kind, doc) in tables.items()},
    }


def nonsense(scan: Mapping[str, Any]) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Documents of the right form that mean nothing, as runs; `scan` is a good table of `scan_metadata`.

    Such pass the wire, and whoever uses a value of theirs must doubt it.
    """
    planned = {"num": 5, "start_deg": 0.0, "stop_deg": 1.0}

    def of(what: str, table: Any) -> list[tuple[str, dict[str, Any]]]:
        uid = f"nonsense-{what.replace(' ', '-')}"
        resource = {"uid": f"r-{uid}", "run_start": uid, "uri": "file://localhost/nowhere/x.h5"}
        parameters = {"dataset": "/entry/data/data"}
        return [
            ("start", {"uid": uid, "time": 1.7e9, "live_bcdi": table}),
            ("stream_resource", {**resource, "parameters": parameters}),
            ("stop", {"uid": f"s-{uid}", "run_start": uid, "time": 1.7e9, "exit_status": "success"}),
        ]

    geometry = dict(scan["geometry"])
    tables = {
        "nothing": {},
        "a number": 5,
        "None": None,
        "scan is a text": {"scan": "x", "planned": planned},
        "no plan": {"scan": scan},
        "plan is a list": {"scan": scan, "planned": [5]},
        "NaN frames": {"scan": scan, "planned": {**planned, "num": math.nan}},
        "negative frames": {"scan": scan, "planned": {**planned, "num": -5}},
        "a billion frames": {"scan": scan, "planned": {**planned, "num": 1_000_000_000}},
        "infinite angle": {"scan": scan, "planned": {**planned, "stop_deg": math.inf}},
        "NaN energy": {"scan": {**scan, "geometry": {**geometry, "energy_kev": math.nan}}, "planned": planned},
        "geometry is a list": {"scan": {**scan, "geometry": []}, "planned": planned},
        "name is a path": {"scan": {**scan, "name": "../../../tmp/x"}, "planned": planned},
        "name is a megabyte": {"scan": {**scan, "name": "x" * (1 << 20)}, "planned": planned},
        "mask that is none": {"scan": {**scan, "bad_pixels": _packed([5, 7], b"x")}, "planned": planned},
        "mask of a huge shape": {
            "scan": {**scan, "bad_pixels": _packed([1 << 40, 1 << 40], b"")},
            "planned": planned,
        },
        "mask of a negative shape": {"scan": {**scan, "bad_pixels": _packed([-5, -7], b"")}, "planned": planned},
        "mask that is a bomb": {"scan": {**scan, "bad_pixels": _packed([5, 7], _zeros())}, "planned": planned},
        "flat field that is a bomb": {
            "scan": {
                **scan,
                "flatfield": {"shape": [5, 7], "deflated_1e4": _packed([], _zeros())["deflated_bits"]},
            },
            "planned": planned,
        },
    }
    runs = {what: of(what, table) for what, table in tables.items()}
    good = {"scan": scan, "planned": planned}
    for what, uri in {
        "uri with a zero byte": "file://localhost/tmp/%00x.h5",
        "uri of an odd host": "file://[/x",
        "uri of a device": "file://localhost/dev/zero",
        "uri of a folder": "file://localhost/tmp",
        "uri of a long path": "file://localhost/" + "x" * 300,
    }.items():
        start, (name, resource), stop = of(what, good)
        runs[what] = [start, (name, {**resource, "uri": uri}), stop]
    return runs


def _packed(shape: list[int], bits: bytes) -> dict[str, Any]:
    return {"shape": shape, "deflated_bits": _text(bits)}


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


@functools.cache
def _zeros() -> bytes:
    """half a GB of zeros, deflated, never held whole."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 24)
    return b"".join(packer.compress(block) for _ in range(32)) + packer.flush()
