"""Which scans a query means: those of a folder, of a pattern of file names, or of a search in Tiled."""

import glob
import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tiled.client.container import Container
from tiled.queries import Key

from ..config import Config
from ..stream.run import KEY
from ..types import RockingScan, ScanError, Vector
from .hdf5 import read_scan
from .results import is_result
from .tiled import connect, read_raw_scan

IN_TILED = "tiled:"
ENDINGS = (".h5", ".hdf5", ".nxs", ".cxi")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A scan in a file, or, where `run` is its uid, in Tiled."""

    path: Path | None = None
    run: str = ""

    def __str__(self) -> str:
        return f"run {self.run[:8]}" if self.path is None else str(self.path)

    def read(self, config: Config) -> RockingScan:
        """The scan. Raises ScanError as `read_scan` and `read_raw_scan` do."""
        return read_raw_scan(connect(config), self.run) if self.path is None else read_scan(self.path)


def find_scans(query: str, config: Config) -> list[Source]:
    """The scans that `query` means, in order of names, or, in Tiled, of time; results of ours are left out.

    `query` is a folder, searched with all below it for the endings of HDF5 files, a pattern like
    `runs/frames/*gold*.h5`, or `tiled:` with terms (`search_terms`). Raises ScanError where there is nothing.
    """
    if query.startswith(IN_TILED):
        terms = search_terms(query.removeprefix(IN_TILED))
        found = [Source(run=run) for run in _runs(connect(config), terms)]
    else:  # an empty one, of a script whose variable is not set, would be the working folder
        files = _files(query) if query.strip() else []
        found = [Source(path=path.absolute()) for path in files if not is_result(path)]
    if not found:
        raise ScanError(f"{query!r} means no scan; give a folder, a pattern of file names, or tiled:sample=NAME")
    return found


def _files(query: str) -> list[Path]:
    folder = Path(query)
    if folder.is_dir():
        below = (path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
        return sorted(path for path in below if not path.name.startswith("."))
    return sorted(Path(name) for name in glob.glob(query, recursive=True) if Path(name).is_file())  # noqa: PTH207


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What runs must be like; what is None may be anything. `name` is a pattern, times are since the epoch."""

    sample: str | None = None
    name: str | None = None
    hkl: Vector | None = None
    since_s: float | None = None
    until_s: float | None = None

    def match(self, start: Mapping[str, Any]) -> bool:
        """Whether a run with this start document is one of them. A run of other plans than ours never is."""
        scan = (start.get(KEY) or {}).get("scan")
        if not isinstance(scan, Mapping):
            return False
        began_s = float(start.get("time", 0.0))
        hkl = scan.get("hkl")
        return (
            (self.sample is None or scan.get("sample") == self.sample)
            and (self.name is None or fnmatchcase(str(scan.get("name")), self.name))
            and (self.hkl is None or (hkl is not None and math.dist(hkl, self.hkl) < 1e-6))
            and (self.since_s is None or began_s >= self.since_s)
            and (self.until_s is None or began_s <= self.until_s)
        )


def search_terms(text: str) -> Terms:
    """Of `sample=gold name=S00* hkl=1,1,1 since=2026-11-01 until="2026-11-02 18:00"`, each of them optional.

    A date alone is its beginning in `since` and its end in `until`; times are local unless they say otherwise.
    Raises ScanError where it cannot be understood.
    """
    found: dict[str, Any] = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ScanError(f"the search {text!r} cannot be understood: {error}") from None
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in _READ:
            raise ScanError(f"{word!r} is no term of a search; write one of {', '.join(_READ)}, an = and a value")
        try:
            found |= {_FIELDS.get(key, key): _READ[key](value)}
        except ValueError:
            raise ScanError(f"{word!r} cannot be understood; write {_EXAMPLES[key]}") from None
    return Terms(**found)


def _hkl(text: str) -> Vector:
    h, k, l = (float(index) for index in text.split(","))  # noqa: E741  Miller's own letter
    return h, k, l


def _time(text: str, of_a_date: time) -> float:
    moment = datetime.fromisoformat(text)
    if "T" not in text and " " not in text.strip():
        moment = datetime.combine(moment.date(), of_a_date)
    return moment.timestamp()


_READ: Mapping[str, Callable[[str], Any]] = {
    "sample": str,
    "name": str,
    "hkl": _hkl,
    "since": lambda text: _time(text, time.min),
    "until": lambda text: _time(text, time.max),
}
_FIELDS = {"since": "since_s", "until": "until_s"}
_EXAMPLES = {"hkl": "hkl=1,1,1", "since": "since=2026-11-01", "until": 'until="2026-11-02 18:00"'}


def _runs(root: Container, terms: Terms) -> list[str]:
    """Uids under `raw/`, oldest first. The server narrows down what it can, `Terms.match` decides."""
    if "raw" not in root:
        return []
    found = root["raw"]
    if terms.since_s is not None:
        found = found.search(Key("start.time") >= terms.since_s)
    if terms.until_s is not None:
        found = found.search(Key("start.time") <= terms.until_s)
    if terms.sample is not None:
        found = found.search(Key(f"start.{KEY}.scan.sample") == terms.sample)
    starts = {uid: node.metadata.get("start") or {} for uid, node in found.items()}
    matching = [uid for uid, start in starts.items() if terms.match(start)]
    return sorted(matching, key=lambda uid: float(starts[uid].get("time", 0.0)))
