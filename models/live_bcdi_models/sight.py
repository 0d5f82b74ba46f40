"""A network at work: views of one pattern in one batch, objects with their variance out."""

from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from live_bcdi.phasing import Pattern
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.types import FloatArray, ScanError, Vector

from .layers import padded
from .networks import Network
from .simulator import EDGE
from .weights import Card, load_weights

Array = TypeVar("Array", bound=NDArray[Any])


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The same crystal as another pattern: axes turned about n//2 (`flips`), rows and columns exchanged. The
    frames stay frames: what fails in a scan fails frame by frame, and the network knows it along this axis
    only."""

    flips: tuple[int, ...] = ()
    exchanged: bool = False

    def of(self, array: Array) -> Array:
        """The array (rocking, row, column) in this view."""
        turned: Array = _turned(array.swapaxes(1, 2) if self.exchanged else array, self.flips)
        return turned

    def undone(self, array: Array) -> Array:
        """The array that has this view."""
        turned = _turned(array, self.flips)
        back: Array = turned.swapaxes(1, 2) if self.exchanged else turned
        return back

    def oversampling(self, values: Vector) -> Vector:
        return (values[0], values[2], values[1]) if self.exchanged else values


def _turned(array: Any, flips: tuple[int, ...]) -> Any:
    return np.roll(np.flip(array, flips), [1 - array.shape[axis] % 2 for axis in flips], flips)


VIEWS = (
    View(),
    View(flips=(0, 1, 2)),  # of one crystal and its twin the network may see the one better
    View(flips=(1,), exchanged=True),
    View(flips=(0,), exchanged=True),
    View(flips=(0, 1)),
    View(flips=(0, 2), exchanged=True),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """What the network sees in one view: `density` complex and `variance` of it, both `EDGE` voxels an axis, the
    crystal's |S| about 1; `alarm` (2,), log odds of a dislocation and of a twin or wall, before `alarm.SCALING`.
    """

    density: Object
    variance: FloatArray
    alarm: FloatArray = field(default_factory=lambda: np.zeros(2))


def shipped(device: str, weights: Path | None = None) -> tuple[Network, Card]:
    """The network of the package, or that of a file of `weights`, and its card, loaded once, and again where the
    file was replaced, and warmed up. Raises ScanError where there is none."""
    written_ns = weights.stat().st_mtime_ns if weights is not None and weights.exists() else 0
    return _loaded(device, weights, written_ns)


@lru_cache(maxsize=3)
def _loaded(device: str, weights: Path | None, written_ns: int) -> tuple[Network, Card]:
    network, card = load_weights(weights, device=device)
    nothing = Pattern(intensity=np.ones((EDGE,) * 3, np.float32), mask=np.zeros((EDGE,) * 3, bool))
    look(network, nothing, (3.0, 3.0, 3.0), VIEWS[:1])
    return network, card


def device_of(device: str) -> str:
    """ "auto" is a CUDA device where there is one. Raises ScanError for others than it, "cpu" and "cuda"."""
    if device not in ("auto", "cpu", "cuda"):
        raise ScanError(f"no device {device!r}; there are auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ScanError("torch sees no CUDA device; take device 'auto' or 'cpu'")
    return "cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device


@cache
def multiplies_halves(device: str) -> bool:
    """Whether a "cpu" or "cuda" device has instructions for bfloat16; without, it is slower than single
    precision."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.6 has no such list
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@torch.inference_mode()
def look(
    network: Network,
    pattern: Pattern,
    oversampling: Vector,
    views: tuple[View, ...],
    *,
    half: bool | None = None,
) -> list[Sight]:
    """The network's objects of a pattern of `EDGE` voxels, turned back from each view. `half`: convolutions in
    bfloat16, by default where the device has it; Fourier transforms are always in single precision."""
    device = next(network.parameters()).device
    half = multiplies_halves(device.type) if half is None else half
    intensity, measured = (
        torch.from_numpy(np.stack([view.of(array) for view in views])).to(device)
        for array in (np.asarray(pattern.intensity, np.float32), ~pattern.mask)
    )
    told = torch.tensor([view.oversampling(oversampling) for view in views], dtype=torch.float32, device=device)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        guess = network(intensity, measured, told)
    if guess.log_variance is None:
        raise ScanError("this network does not say how sure it is; train one that does (`live-bcdi train`)")
    densities = padded(guess.density).cpu().numpy()
    variances = padded(guess.log_variance.exp()).cpu().numpy()
    alarms = np.zeros((len(views), 2)) if guess.alarm is None else guess.alarm.cpu().numpy().astype(np.float64)
    return [
        Sight(density=view.undone(density), variance=view.undone(variance), alarm=alarm)
        for view, density, variance, alarm in zip(views, densities, variances, alarms)
    ]
