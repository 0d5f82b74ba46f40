"""The march along the characteristics on a CUDA device: `march.cu`, for the arrays of `RowKernels`.

Tested on the host (tests/gpu/test_march.py); on a device it has not run yet, since none was lent. So each device
proves itself first: `mistrust` marches a small crystal on it and on the CPU. cupy is imported when something runs:
`fields.py` comes here where `phasing.devices` finds a device.
"""

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import loops
from .beams import along_diffracted
from .characteristics import Characteristics, RowKernels, Rows

_LOG = logging.getLogger(__name__)
SOURCE = Path(__file__).with_name("march.cu")
MOST_THREADS = 256  # of march.cu: more angles are marched one part after the other
_BLOCKS = MOST_THREADS // loops.WIDTH
_TOLERANCES = {"complex64": 1e-4, "complex128": 1e-11}  # of the largest value; ten times what rounding costs

Arrays = list[NDArray[Any]]
Launch = Callable[[str, tuple[int, int], Arrays, Arrays], None]


@cache
def _function(name: str, kind: str) -> Any:
    import cupy as cp

    return cp.RawModule(code=SOURCE.read_text(), options=(f"-DREAL={kind}",)).get_function(name)


def on_device(name: str, size: tuple[int, int], given: Arrays, fields: Arrays) -> None:
    """Runs a kernel of march.cu by `size` (blocks, threads), and brings `fields` back to the host, not `given`."""
    import cupy as cp

    there = [cp.asarray(array) for array in fields]
    kind = "float" if fields[0].real.dtype == np.float32 else "double"
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
            self._run("backward", rows, part, out, mine)
            by_density += out[0]
            by_s0 += out[1]
            by_turn[part] = turns.sum(axis=0, dtype=np.float64)
        return by_density, by_s0, by_turn

    def _run(self, name: str, rows: Rows, part: slice, fields: Arrays, used: Arrays | None = None) -> None:
        generator, times, shift = rows.setting
        _, slices, across = rows.density.shape
        turn = np.ascontiguousarray(rows.turn[part])
        shape = np.array([slices, across, (slices - 1) * shift, shift, times, loops.WIDTH], np.int32)
        given = [rows.density, rows.s0, rows.boxes, np.asarray(generator, rows.density.dtype), shape, turn]
        given += used or []
        self._launch(name, (len(rows.boxes), len(turn) * loops.WIDTH), given, fields)


def mistrust() -> str | None:
    """Why the march of the current device must not be used: what it fails with, or how far it is from the CPU's in
    fields and gradients of a small crystal, in both precisions. None where it may be. Once a device."""
    return _mistrust(_device(), on_device)


def _device() -> int:
    import cupy as cp

    return int(cp.cuda.Device().id)


@cache
def _mistrust(device: int, launch: Launch) -> str | None:
    try:
        errors = {kind: _error(launch, kind) for kind in _TOLERANCES}
    except Exception as error:  # noqa: BLE001  of the compiler, the driver or cupy, without a common base
        why = f"fails with {type(error).__name__} ({next(iter(str(error).strip().splitlines()), '')})"
    else:
        wrong = [f"{error:.1g}" for kind, error in errors.items() if not error <= _TOLERANCES[kind]]
        if not wrong:
            _LOG.info("the march of CUDA device %d equals the CPU's", device)
            return None
        why = f"is wrong by {' and '.join(wrong)} of what the CPU has"
    _LOG.warning("CUDA device %d is not used for dynamical diffraction: its march %s", device, why)
    return why


def _error(launch: Launch, kind: str) -> float:
    """The largest difference between device and CPU, relative to the largest value, of fields and gradients.
    A block goes across the crystal in two chunks, and there are more angles than one launch takes."""
    rng = np.random.default_rng(0)
    density, by = ((rng.normal(size=n) + 1j * rng.normal(size=n)).astype(kind) for n in ((70, 3, 5), (300, 70, 3)))
    density[:1] = density[:, :, 0] = 0
    s0 = np.where(density != 0, rng.random(density.shape), 0)
    beams = along_diffracted(1.5e-10, 0.8, chi_0=-5e-3 + 3e-4j, chi_h=5e-3 - 3e-4j, chi_hbar=4e-3 + 3e-4j)
    turns, edges = beams.turned(np.linspace(-1e-3, 1e-3, len(by))), np.array([2e-8, 2e-8, 2e-8 / np.tan(0.8)])
    kernels = RowKernels(), CudaRowKernels(launch)
    one, other = (Characteristics(beams, edges, each).march(density, s0, turns) for each in kernels)
    back, forth = (passage.pull_back(by, by) for passage in (one, other))
    pairs = [(one.e0, other.e0), (one.eh, other.eh)]
    pairs += [(getattr(back, name), getattr(forth, name)) for name in ("density", "s0", "delta_q")]
    return max(float(np.abs(found - wanted).max() / np.abs(wanted).max()) for wanted, found in pairs)


def _parts(rows: Rows) -> list[slice]:
    """The angles' blocks that one launch takes."""
    return [slice(first, first + _BLOCKS) for first in range(0, len(rows.turn), _BLOCKS)]
