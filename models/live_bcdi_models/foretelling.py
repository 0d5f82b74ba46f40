"""Whether one network foretells free voxels of measured patterns better than another, by more than noise.

The free voxels of a pattern are masked for the network and for the polish, and no network learns from them. What a
network sees is scaled to the counts of the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy import ndimage
from scipy.stats import wilcoxon

from live_bcdi.estimate import Unlike
from live_bcdi.phasing import Pattern
from live_bcdi.phasing.free import SHARE, held_out
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.phasing.metrics import centred_transform, chi_operando, deviance
from live_bcdi.types import BoolArray, FloatArray, Vector

from .grid import Grid, scaled
from .guard import unlike
from .networks import Network
from .polishing import polished
from .sight import VIEWS, look

_VIEWS = VIEWS[:3]  # as `preview` looks at a pattern
# That what is called worse, or better, is noise: one standard error for what is better, as some fifty patches tell
# two networks apart that differ by 0.05 in likeness with the truth only now and then.
SURE, _BETTER = 0.05, 0.16
_LEAST = 0.02  # of a deviance, 1 of counting noise: patches without a count tell nothing by their logarithm
_CUBE = np.ones((3, 3, 3), bool)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A pattern of `EDGE` voxels that a network adapts to; `free` (rocking, row, column) is True where it must not
    look. `target` is the object that it is to see, of `EDGE` voxels, its power as in `measuring.Batch`."""

    seen: Pattern
    oversampling: Vector
    free: BoolArray
    target: Object | None = None

    @classmethod
    def of(cls, pattern: Pattern) -> Self:
        """What the network sees of a pattern of any shape. Raises Unlike where it is not to be asked, ScanError
        where there is no room for free voxels."""
        grid = Grid.of(pattern)
        if reason := unlike(pattern, grid):
            raise Unlike(reason)
        return cls.on_grid(grid.seen(pattern), grid.oversampling)

    @classmethod
    def on_grid(cls, seen: Pattern, oversampling: Vector, target: Object | None = None) -> Self:
        """The same pattern has the same free voxels, which `preview` hides from its polish too."""
        return cls(seen=seen, oversampling=oversampling, free=held_out(seen, SHARE, 0), target=target)

    @property
    def shown(self) -> Pattern:
        """The pattern without its free voxels."""
        hidden = self.seen.mask | self.free
        return Pattern(intensity=np.where(hidden, 0, self.seen.intensity).astype(np.float32), mask=hidden)

    def aimed(self, target: Object) -> Self:
        return replace(self, target=target)


@dataclass(frozen=True, kw_only=True, slots=True)
class Foretold:
    """How far off free voxels are foretold: mean deviance of each patch (patches,), of what the network sees,
    `bare`, in the mean of its views, and of what `polished` makes of it.

    `chi` and `chi_polished` are Eq. 1 of Serban et al. (2024) over all measured voxels of both, in the mean of the
    patterns.
    """

    bare: FloatArray
    polished: FloatArray
    chi: float
    chi_polished: float


def foretold(network: Network, patterns: Sequence[Measured]) -> Foretold:
    """What a network foretells of patterns whose free voxels it does not see."""
    bare, ends, chi, chi_ends = [], [], [], []
    for each in patterns:
        shown = each.shown
        sights = look(network, shown, each.oversampling, _VIEWS)
        moduli = [_modulus(sight.density, shown) for sight in sights]
        end = _modulus(polished(shown, sights, []).best.density, shown)
        bare.append(np.mean([_by_patch(modulus, each) for modulus in moduli], axis=0))
        ends.append(_by_patch(end, each))
        chi.append(np.mean([chi_operando(modulus, each.seen.intensity, each.seen.mask) for modulus in moduli]))
        chi_ends.append(chi_operando(end, each.seen.intensity, each.seen.mask))
    return Foretold(
        bare=np.concatenate(bare),
        polished=np.concatenate(ends),
        chi=float(np.mean(chi)),
        chi_polished=float(np.mean(chi_ends)),
    )


def verdict(before: Foretold, after: Foretold) -> tuple[bool, str]:
    """Whether `after` is to be kept, and why: what its network sees, or what the polish makes of it, foretells the
    free voxels better, and neither foretells them worse, each by more than noise."""
    pairs = {"as seen": (before.bare, after.bare), "polished": (before.polished, after.polished)}
    told = "; ".join(
        f"{name}: {np.median(was):.3g}, then {np.median(now):.3g}" for name, (was, now) in pairs.items()
    )
    told = f"median deviance of free patches {told}"
    if any(is_better(was, now, chance=SURE) for was, now in pairs.values()):
        return False, f"free voxels are foretold worse: {told}"
    if not any(is_better(now, was) for was, now in pairs.values()):
        return False, f"free voxels are not foretold better by more than noise: {told}"
    return True, f"free voxels are foretold better: {told}"


def is_better(one: FloatArray, other: FloatArray, *, chance: float = _BETTER) -> bool:
    """Whether `one` is smaller patch by patch, by more than noise: Wilcoxon's signed ranks of the logarithms, as
    most of a deviance is in a few bright patches."""
    ratio = np.log(np.asarray(one) + _LEAST) - np.log(np.asarray(other) + _LEAST)
    return bool(ratio.any() and wilcoxon(ratio, alternative="less").pvalue < chance)


def _modulus(density: Object, shown: Pattern) -> FloatArray:
    modulus: FloatArray = np.abs(centred_transform(scaled(density, shown)))
    return modulus


def _by_patch(modulus: FloatArray, pattern: Measured) -> FloatArray:
    patches, count = ndimage.label(pattern.free, _CUBE)
    found = ndimage.mean(deviance(modulus, pattern.seen.intensity), patches, range(1, count + 1))
    return np.asarray(found, np.float64)
