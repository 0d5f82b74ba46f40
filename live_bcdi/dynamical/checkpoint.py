"""A refinement that was stopped goes on where it was: its state in one file, whole at every moment."""

import io
import zipfile
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..storage import put_whole, reason
from ..types import ScanError

_SHARE = 0.05  # of the time may go into writing
_KEY = "key"

Arrays = dict[str, NDArray[Any]]


class CheckpointRefused(ScanError):
    """The file is none, or of other data or settings."""


class Checkpoint:
    """Named arrays in the file `path` (npz). `key` says what they belong to: a file of other data or settings is
    refused. `part` has the arrays of one step of several."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._arrays = self._read() if path.exists() else {}
        self._began_s, self._spent_s = monotonic(), 0.0

    def part(self, name: str) -> "Part":
        return Part(self, f"{name}/")

    def load(self, prefix: str) -> Arrays:
        return {name[len(prefix) :]: each for name, each in self._arrays.items() if name.startswith(prefix)}

    def save(self, prefix: str, arrays: Arrays, *, now: bool) -> None:
        """Keeps them; writes the file `now`, or while a twentieth of the time does. Raises StorageError."""
        others = {name: each for name, each in self._arrays.items() if not name.startswith(prefix)}
        self._arrays = {**others, **{prefix + name: each for name, each in arrays.items()}}
        began_s = monotonic()
        if now or self._spent_s <= _SHARE * (began_s - self._began_s):
            written = io.BytesIO()
            everything: Any = {_KEY: np.array(self._key), **self._arrays}
            np.savez(written, **everything)
            put_whole(self._path, [written.getvalue()])
            self._spent_s += monotonic() - began_s

    def _read(self) -> Arrays:
        try:
            with zipfile.ZipFile(self._path), np.load(self._path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise CheckpointRefused(
                f"{self._path} is no checkpoint of a refinement ({reason(error)}): remove it, or give another name"
            ) from None
        if str(arrays.pop(_KEY, "")) != self._key:
            raise CheckpointRefused(
                f"{self._path} belongs to a refinement of other data or settings: remove it, or give another name"
            )
        return arrays


class Part:
    """The arrays of one step."""

    def __init__(self, whole: Checkpoint, prefix: str) -> None:
        self._whole, self._prefix = whole, prefix

    def load(self) -> Arrays:
        """Empty where there are none."""
        return self._whole.load(self._prefix)

    def save(self, arrays: Arrays, *, now: bool) -> None:
        self._whole.save(self._prefix, arrays, now=now)
