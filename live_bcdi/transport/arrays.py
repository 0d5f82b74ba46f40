"""A centred pattern in numpy's own files: no geometry, so the result stays on the detector's conjugate grid."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray, ScanError

_SUFFIXES = (".npy", ".npz")


def is_array_file(path: Path) -> bool:
    """Whether the name says that numpy wrote it."""
    return path.suffix.lower() in _SUFFIXES


def read_pattern(path: Path) -> tuple[NDArray[np.float64], BoolArray | None]:
    """(intensity, mask) of a `.npy` array, or of a `.npz` with `intensity` (or one array) and maybe `mask`.

    Raises ScanError where the file is absent, truncated, of objects, or holds no (rocking, row, column) array.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"intensity": loaded}
        arrays = {name: np.asarray(array) for name, array in arrays.items()}  # a member may be no array, but bytes
    except FileNotFoundError:
        raise ScanError(f"no file {path}") from None
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise ScanError(f"{path} is not an array that numpy can read: {error}") from None
    mask = arrays.pop("mask", None)
    if "intensity" not in arrays and len(arrays) == 1:
        arrays = {"intensity": next(iter(arrays.values()))}
    intensity = arrays.get("intensity")
    if intensity is None or intensity.ndim != 3 or intensity.dtype.kind not in "uif":
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise ScanError(f"{path} needs real numbers (rocking, row, column) as 'intensity'; it has {found}")
    if mask is not None and mask.dtype.kind not in "buif":
        raise ScanError(f"{path} needs a 'mask' of booleans or numbers, True where free, not of {mask.dtype}")
    return intensity.astype(np.float64), None if mask is None else mask.astype(bool)
