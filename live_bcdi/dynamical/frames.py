"""What was measured, and how a refinement is to go about it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..geometry import Floats
from ..types import BoolArray, FloatArray, ScanError
from .loss import LossName


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """What was measured: `counts` (n, pixels...), where the crystal stood, `delta_q` (n, 3) in 1/m, and how that
    changes with the rocking angle, `turning` (n, 3) in 1/m a radian. `used` (n, pixels...) is False for pixels
    that must not be used, whatever they hold. `response` is what a photon counts (beam and flat field),
    `background` the counts that are not the crystal's where that is one: elsewhere they are as much more or less.
    Both are numbers or arrays that go with `counts`."""

    counts: FloatArray
    delta_q: Floats
    turning: Floats
    used: BoolArray
    response: FloatArray | float = 1.0
    background: FloatArray | float = 0.0

    def __post_init__(self) -> None:
        if self.used.shape != self.counts.shape or self.delta_q.shape != (len(self.counts), 3):
            raise ScanError(
                f"frames {self.counts.shape} need a mask like them, not {self.used.shape}, and a departure each,"
                f" not {self.delta_q.shape}"
            )
        if self.turning.shape != self.delta_q.shape:
            raise ScanError(f"give the change of each departure by the angle, not an array {self.turning.shape}")
        known = self.counts[self.used]
        if not (np.isfinite(known).all() and (known >= 0).all() and known.any()):
            raise ScanError("the counts of used pixels must be finite, not negative, and not all zero")
        for name in ("response", "background"):
            self._check_level(name, np.asarray(getattr(self, name), float))
        for name, harmless in (("counts", 0), ("response", 1), ("background", 0)):
            self._fill(name, harmless)

    def _fill(self, name: str, harmless: float) -> None:
        """A NaN that no loss counts would still be one in its gradient."""
        values = np.asarray(getattr(self, name))
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            object.__setattr__(self, name, np.where(bad, values.dtype.type(harmless), values))

    def _check_level(self, name: str, values: FloatArray) -> None:
        try:
            values = np.broadcast_to(values, self.counts.shape)
        except ValueError:
            raise ScanError(f"a {name} {values.shape} does not go with frames {self.counts.shape}") from None
        known = values[self.used]
        if not (np.isfinite(known).all() and (known >= 0).all()):
            raise ScanError(f"the {name} of used pixels must be finite and not negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How to refine.

    An epoch is a pass over the frames. `method` "lbfgs" is quasi-Newton (scipy's L-BFGS) over all frames, begun
    anew every `history` epochs; "adam" is minibatches of angles, `batches` an epoch, its `step` (of an |S| of one)
    halved after `patience` epochs without a better misfit.

    `smoothing` weighs the total variation of S, summed over the voxels, beside the misfit, summed over the pixels.
    `electrons` says what s0 is: "amplitude", min(|S|, 1) at every moment, or "given", that of the start. The
    support is drawn anew every `shrink_every` epochs (0: never) of the first three quarters: where |S|, smoothed
    by `shrink_sigma` voxels, is above `shrink_threshold` of its median inside. `angle_prior_rad` is how far the
    rocking angles may be off (one standard deviation, and at most two); None leaves them. They come down with the
    voxels, and take twice the epochs. `background` "constant" fits one level
    besides what is given. `free_share` of the pixels judge and are not fitted.
    """

    epochs: int = 30
    method: Literal["lbfgs", "adam"] = "lbfgs"
    history: int = 20
    batches: int = 5
    step: float = 0.05
    patience: int = 10
    loss: LossName = "amplitude"
    smoothing: float = 2.0
    electrons: Literal["amplitude", "given"] = "amplitude"
    shrink_every: int = 20
    shrink_sigma: float = 0.7
    shrink_threshold: float = 0.2
    angle_prior_rad: float | None = None
    background: Literal["given", "constant"] = "given"
    free_share: float = 0.04
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "shrink_every", "shrink_sigma", "seed"):
            if not getattr(self, name) >= 0:
                raise ScanError(f"{name} cannot be negative: {getattr(self, name)}")
        for name in ("history", "batches", "patience"):
            if getattr(self, name) < 1:
                raise ScanError(f"{name} must be at least one, not {getattr(self, name)}")
        for name, least in (("step", 0), ("smoothing", -1e-300), ("angle_prior_rad", 0)):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > least):
                raise ScanError(f"{name} must be positive, not {value}")
        for name, known in (
            ("method", ("lbfgs", "adam")),
            ("electrons", ("amplitude", "given")),
            ("background", ("given", "constant")),
        ):
            if getattr(self, name) not in known:
                raise ScanError(f"no {name} {getattr(self, name)!r}; there are {', '.join(known)}")
