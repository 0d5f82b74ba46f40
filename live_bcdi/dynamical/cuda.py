"""The march along the characteristics on a CUDA device: `march.cu`, for the arrays of `RowKernels`.

Tested on the host (tests/gpu/test_march.py); on a device it has not run yet, since none was lent. It imports cupy
when it is made: `fields.py` makes it where `phasing.devices` finds a device.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import loops
from .characteristics import RowKernels, Rows

SOURCE = Path(__file__).with_name("march.cu")
MOST_THREADS = 256  # of march.cu: more angles are marched one part after the other
_BLOCKS = MOST_THREADS // loops.WIDTH

Arrays = list[NDArray[Any]]
Launch = Callable[[str, tuple[int, int], Arrays, Arrays], None]


@cache
def _function(name: str, kind: str) -> Any:
    import cupy as cp

    return cp.RawModule(code=SOURCE.read_text(), options=(f"-DREAL={kind}",)).get_function(name)


def on_device(name: str, size: tuple[int, int], given: Arrays, fields: Arrays) -> None:
    """Runs a kernel of march.cu by `size` (blocks, threads), and brings `fields` back to the host."""
    import cupy as cp

    there = [cp.asarray(array) for array in fields]
    kind = "float" if fields[0].dtype == np.float32 else "double"
    _function(name, kind)((size[0],), (size[1],), (*map(cp.asarray, given), *there))
    for array, moved in zip(fields, there):
        array[...] = cp.asnumpy(moved)


class CudaRowKernels(RowKernels):
    """`RowKernels` by a kernel, on whatever `launch` runs it."""

    def __init__(self, launch: Launch = on_device) -> None:
        super().__init__()
        self._launch = launch

    def forward(self, rows: Rows, fields: Arrays) -> None:
        for part in _parts(rows):
            mine = [np.ascontiguousarray(field[:, :, part]) for field in fields]
            self._run("forward", rows, part, mine)
            for field, found in zip(fields, mine):
                field[:, :, part] = found

    def backward(self, rows: Rows, fields: Arrays) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        by_density, by_s0 = np.zeros_like(rows.density), np.zeros_like(rows.s0)
        by_turn = np.zeros_like(rows.turn, dtype=np.float64)
        for part in _parts(rows):
            mine = [np.ascontiguousarray(field[:, :, part]) for field in fields]
            turns = np.zeros((len(rows.boxes), *rows.turn[part].shape), rows.turn.dtype)
            out = [np.zeros_like(by_density), np.zeros_like(by_s0), turns]
            self._run("backward", rows, part, [*mine, *out])
            by_density += out[0]
            by_s0 += out[1]
            by_turn[part] = turns.sum(axis=0, dtype=np.float64)
        return by_density, by_s0, by_turn

    def _run(self, name: str, rows: Rows, part: slice, fields: Arrays) -> None:
        generator, times, shift = rows.setting
        _, slices, across = rows.density.shape
        turn = np.ascontiguousarray(rows.turn[part])
        shape = np.array([slices, across, (slices - 1) * shift, shift, times, loops.WIDTH], np.int32)
        given = [rows.density, rows.s0, rows.boxes, np.asarray(generator, rows.density.dtype), shape, turn]
        self._launch(name, (len(rows.boxes), len(turn) * loops.WIDTH), given, fields)


def _parts(rows: Rows) -> list[slice]:
    """The angles' blocks that one launch takes."""
    return [slice(first, first + _BLOCKS) for first in range(0, len(rows.turn), _BLOCKS)]
