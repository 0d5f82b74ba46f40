"""Memory that the system hands out before it is written to: a frame must not wait for it.

A virtual machine may have to ask its host for each page, which can take several times as long as all else that a
frame costs (docs/reliability.md).
"""

import ctypes
import mmap
import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_MADV_POPULATE_WRITE = 23  # of Linux 5.14; keeps what is there. Where it fails, pages come as they are written
_STEP_BYTES = 1 << 22  # nothing else of this process is mapped meanwhile
_LEAST_BYTES = 1 << 26


def zeros_ahead(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """numpy.zeros, whose pages are asked for from now on, in order, by a thread of its own."""
    array: NDArray[Any] = np.zeros(shape, dtype)
    if array.nbytes >= _LEAST_BYTES:
        threading.Thread(target=_populate, args=(weakref.ref(array),), daemon=True).start()
    return array


def _populate(wanted: "weakref.ref[NDArray[Any]]") -> None:
    """Until all is there, the array is gone, or the system cannot."""
    start = 0
    while (array := wanted()) is not None and start < array.nbytes:
        address = (array.ctypes.data + start) & -mmap.PAGESIZE
        if _madvise(address, min(_STEP_BYTES, array.nbytes - start), _MADV_POPULATE_WRITE) != 0:
            return
        start += _STEP_BYTES
        del array


def _madvise(address: int, size: int, advice: int) -> int:
    call = ctypes.CDLL(None).madvise  # other threads run meanwhile, as with mmap.madvise they do not
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return int(call(address, size, advice))
