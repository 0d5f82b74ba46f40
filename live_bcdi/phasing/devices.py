"""Which machine retrieves: the CPU, or a CUDA device where there is one."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from ..types import ScanError
from . import kernels_cpu
from .engine import KernelFactory

DEVICES = ("auto", "cpu", "cuda")
_LOG = logging.getLogger(__name__)
_VOLUMES = 6  # complex64 volumes a start: object, projection, cuFFT's work area, and what shrinking and DM take


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """Its kernels, and how many starts of a (rocking, row, column) shape it takes abreast just now. Groups of them
    share its memory: a CUDA device takes one group after the other."""

    name: str
    kernels: KernelFactory
    abreast: Callable[[tuple[int, ...]], int]


CPU = Device(name="cpu", kernels=kernels_cpu.Kernels, abreast=lambda shape: 1)


def device_of(wanted: str) -> Device:
    """The device called "cpu" or "cuda"; for "auto" the CUDA device if it can be used, else the CPU.

    Raises ScanError for another name, and for "cuda" where it cannot be used.
    """
    if wanted not in DEVICES:
        raise ScanError(f"no phasing device {wanted!r}; there are {', '.join(DEVICES)}")
    if wanted == "cpu":
        return CPU
    try:
        return _cuda()
    except Exception as error:  # cupy's errors have no common base, and can be had from cupy only
        if wanted == "cuda":
            raise ScanError(
                f"no CUDA device can be used ({_one_line(error)}); install the driver and"
                " pip install 'live_bcdi[cuda]', or ask for the device cpu"
            ) from error
        _LOG.info("phasing on the CPU: no CUDA device can be used (%s)", _one_line(error))
        return CPU


def cuda_devices() -> tuple[str, ...]:
    """The CUDA devices of this process by their names in CUDA_VISIBLE_DEVICES; none where cupy or a driver is
    missing."""
    try:
        from . import kernels_cuda

        count = kernels_cuda.device_count()
    except Exception as error:  # noqa: BLE001  as in device_of
        _LOG.debug("no CUDA device can be used (%s)", _one_line(error))
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(str(number) for number in range(count)) if named is None else tuple(named.split(",")[:count])


def _cuda() -> Device:
    from . import kernels_cuda

    kernels_cuda.free_bytes()  # compiles: what cannot run fails here

    def abreast(shape: tuple[int, ...]) -> int:
        return max(1, kernels_cuda.free_bytes() // (_VOLUMES * 8 * prod(shape)))

    return Device(name="cuda", kernels=kernels_cuda.Kernels, abreast=abreast)


def _one_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
