"""areaDetector's HDF5 plugin as it is seen on disk: one chunk a frame, attributes beside them, in SWMR mode."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

_EPICS_EPOCH_S = 631_152_000  # 1990-01-01
_ATTRIBUTES = {
    "NDArrayUniqueId": "i4",
    "NDArrayTimeStamp": "f8",
    "NDArrayEpicsTSSec": "u4",
    "NDArrayEpicsTSnSec": "u4",
}


class SimulatedHdfPlugin:
    """Writes frames of `shape` (rows, columns) as NDFileHDF5's default layout has them. A context closes the file.

    `flush_every` frames, as the plugin's NumFramesFlush.
    """

    def __init__(self, path: Path, shape: tuple[int, int], dtype: DTypeLike, *, flush_every: int = 1) -> None:
        self._file = h5py.File(path, "w", libver="latest")
        self._flush_every = flush_every
        self._frames = self._file.create_dataset(
            "entry/data/data", (0, *shape), dtype, maxshape=(None, *shape), chunks=(1, *shape)
        )
        group = self._file.create_group("entry/instrument/NDAttributes")
        self._attributes = {
            name: group.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(16,))
            for name, kind in _ATTRIBUTES.items()
        }
        self._file.swmr_mode = True

    def write(self, image: NDArray[Any], *, number: int, time_s: float) -> None:
        """One frame with the driver's count of it, at a time since 1970."""
        row = len(self._frames)
        since_epoch_s = time_s - _EPICS_EPOCH_S
        seconds = int(np.floor(since_epoch_s))
        values = (number, since_epoch_s, seconds, round((since_epoch_s - seconds) * 1e9))
        for dataset, value in zip(self._attributes.values(), values):
            dataset.resize(row + 1, axis=0)
            dataset[row] = value
        self._frames.resize(row + 1, axis=0)
        self._frames[row] = image
        if (row + 1) % self._flush_every == 0:
            self.flush()

    def flush(self) -> None:
        for dataset in (*self._attributes.values(), self._frames):
            dataset.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
