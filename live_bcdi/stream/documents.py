"""The form of bluesky's documents, as far as we use it (event-model's schemas say more): checked once, at the
wire, so that nobody after it need doubt a type."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

MAX_DEPTH = 32  # of tables in tables; bluesky's own go to about six
UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")  # uids become file names
_LEAVES = frozenset([type(None), bool, int, float, str])
_PLAIN = _LEAVES | {dict, list}

Check: TypeAlias = Callable[[Any], bool]


def check_document(name: str, doc: Any) -> None:
    """Raises ValueError, with what is wrong, for a document that is not of the documented form."""
    form = _FORMS.get(name)
    if form is None or not isinstance(doc, dict):
        raise ValueError(f"no {name!r} document: {type(doc).__name__}")
    check_plain(doc)
    for key, (required, good) in form.items():
        if key not in doc:
            if required:
                raise ValueError(f"{name} document without {key!r}")
        elif not good(doc[key]):
            raise ValueError(f"{name} document with {key} {_short(doc[key])}")


def check_plain(value: Any, depth: int = 0) -> None:
    """Raises ValueError for a table or list that holds what JSON does not, or holds others too deeply.

    Lists of numbers, as long as a picture, are checked without a look at each in Python.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"tables in tables, more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        if not set(map(type, value)) <= {str}:
            raise ValueError("a table whose keys are not all text")
        value = value.values()
    kinds = set(map(type, value))
    if not kinds <= _PLAIN:
        raise ValueError(f"a value that is {', '.join(sorted(kind.__name__ for kind in kinds - _PLAIN))}")
    if not kinds <= _LEAVES:
        for item in value:
            if isinstance(item, dict | list):
                check_plain(item, depth + 1)


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    return text if len(text) < 60 else f"{text[:60]}…"


def _uid(value: Any) -> bool:
    return isinstance(value, str) and UID.fullmatch(value) is not None


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _table(value: Any) -> bool:
    return isinstance(value, dict)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_count, value))


def _tables(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_table, value.values()))


def _lists(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, list) for item in value.values())


def _counts_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_count, value.values()))


def _form(required: Mapping[str, Check], **optional: Check) -> dict[str, tuple[bool, Check]]:
    return {key: (key in required, good) for key, good in {**required, **optional}.items()}


_FORMS = {
    "start": _form({"uid": _uid, "time": _number}),
    "stop": _form({"run_start": _uid}, uid=_text, time=_number, exit_status=_text, num_events=_counts_by_name),
    "descriptor": _form({"uid": _text, "run_start": _uid, "data_keys": _tables}, name=_text),
    "event": _form(
        {"descriptor": _text, "seq_num": _count, "data": _table, "timestamps": _table}, uid=_text, time=_number
    ),
    "event_page": _form({"descriptor": _text, "seq_num": _counts, "data": _lists, "timestamps": _lists}),
    "resource": _form({"uid": _text}, run_start=_uid),
    "stream_resource": _form({"uid": _text, "uri": _text}, run_start=_uid, parameters=_table),
    "datum": _form({"resource": _text}),
    "datum_page": _form({"resource": _text}),
    "stream_datum": _form({"descriptor": _text, "stream_resource": _text}, indices=_table, seq_nums=_table),
}
DOCUMENT_NAMES = frozenset(_FORMS)
