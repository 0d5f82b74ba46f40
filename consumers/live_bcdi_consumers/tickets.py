"""Work that is owed, as files: a JSON table each, whole or not there, oldest first (docs/adr/0004)."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


class Tickets:
    """The tickets of one folder. `OSError` where the disk is full goes to the caller."""

    def __init__(self, folder: Path, *, clean: bool = True) -> None:
        """`clean` unless another process may be writing tickets there."""
        self.folder = folder
        for cut_off in folder.glob("*.partial") if clean else ():  # of who was killed while it wrote
            cut_off.unlink(missing_ok=True)

    def put(self, name: str, table: Mapping[str, Any]) -> None:
        """Write or replace a ticket; it survives a power cut once this returns."""
        with suppress(FileNotFoundError):  # who begins meanwhile, and cleans, took it away half written
            self._put(name, table)
            return
        self._put(name, table)

    def _put(self, name: str, table: Mapping[str, Any]) -> None:
        partial = self.folder / f"{name}.{os.getpid()}.partial"
        with partial.open("w", encoding="utf-8") as file:
            json.dump(table, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.folder / f"{name}.json")

    def drop(self, name: str) -> None:
        """Take a ticket away; it may be gone already."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def move(self, name: str, to: "Tickets") -> None:
        """Put a ticket into another folder of the same disk: it is in one of them at any moment, also where that
        disk is full."""
        with suppress(FileNotFoundError):
            (self.folder / f"{name}.json").replace(to.folder / f"{name}.json")

    def age_s(self, name: str) -> float:
        """Seconds since a ticket was last written; 0 where it is gone."""
        try:
            return time.time() - (self.folder / f"{name}.json").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def names(self) -> list[str]:
        """Names in order, which is that of time where they begin with it."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(name, table) in order. What cannot be read is put aside as `.unreadable`, to be looked at."""
        yield from self.read(self.names())

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """(name, table) of those of `names` that are there; as iterating does."""
        for name in names:
            path = self.folder / f"{name}.json"
            try:
                table = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                continue
            except (ValueError, RecursionError):
                table = None
            if isinstance(table, dict):
                yield name, table
            else:
                path.replace(path.with_suffix(".unreadable"))
