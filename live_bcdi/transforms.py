"""Forward and inverse transform of a whole array by every library there is: the yardstick of `live-bcdi bench`.

mkl_fft and torch are measured where they are installed and never needed, hence imported by name.
"""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyfftw
from scipy import fft
from threadpoolctl import ThreadpoolController

Shape = tuple[int, ...]
Step = Callable[[], object]


def pairs(shape: Shape, *, threads: int = 1) -> dict[str, Step]:
    """One call each: the transform and its inverse of a complex64 array, in place where the library can."""
    makers = {"FFTW measured": _measured, "FFTW estimated": _estimated, "scipy": _scipy}
    makers |= {name: maker for name, maker in (("mkl_fft", _mkl), ("torch", _torch)) if find_spec(name)}
    return {name: maker(shape, threads) for name, maker in makers.items()}


def _measured(shape: Shape, threads: int) -> Step:
    return _fftw(shape, "FFTW_MEASURE", threads)


def _estimated(shape: Shape, threads: int) -> Step:
    return _fftw(shape, "FFTW_ESTIMATE", threads)


def _fftw(shape: Shape, flag: str, threads: int) -> Step:
    """What one plan learns by measuring, every later plan of the process would use, ESTIMATE ones too: FFTW is
    made to forget it, so that nothing that is timed after has plans which it would not have by itself."""
    pyfftw.forget_wisdom()
    array = pyfftw.empty_aligned(shape, np.complex64)
    axes = tuple(range(len(shape)))
    forward = pyfftw.FFTW(array, array, axes, "FFTW_FORWARD", (flag,), threads)
    inverse = pyfftw.FFTW(array, array, axes, "FFTW_BACKWARD", (flag,), threads)
    pyfftw.forget_wisdom()
    array[...] = 0  # planning by measure writes into it

    def both() -> None:
        forward.execute()
        inverse.execute()

    return both


def _scipy(shape: Shape, threads: int) -> Step:
    array = np.zeros(shape, np.complex64)
    options: dict[str, Any] = {"workers": threads, "overwrite_x": True}
    return lambda: fft.ifftn(fft.fftn(array, **options), **options)


def _mkl(shape: Shape, threads: int) -> Step:
    library = importlib.import_module("mkl_fft")
    pools = ThreadpoolController()  # MKL's among them, now that it is loaded
    array = np.zeros(shape, np.complex64)

    def both() -> None:
        with pools.limit(limits=threads):
            library.fftn(array, out=array)
            library.ifftn(array, out=array)

    return both


def _torch(shape: Shape, threads: int) -> Step:
    torch = importlib.import_module("torch")
    array = torch.zeros(shape, dtype=torch.complex64)

    def both() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        torch.fft.ifftn(torch.fft.fftn(array))
        torch.set_num_threads(before)

    return both
