"""A few iterations on what a network sees, which end is taken, and how far off it is expected to be."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from live_bcdi.phasing import Pattern, Recipe, Start, parse
from live_bcdi.phasing.align import aligned_all
from live_bcdi.phasing.engine import Retrieval, retrieve_all
from live_bcdi.phasing.free import SHARE, free_llk, held_out
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.phasing.metrics import centred_transform
from live_bcdi.types import BoolArray, FloatArray, Outcome, ScanError

from .grid import scaled
from .sight import Sight

# On the network's voxels, where an iteration is cheap, each object goes both ways: ER keeps the basin it is
# in, RAAR leaves a wrong one, and a right one where counts are few. What foretells free voxels better is taken.
STAY = parse("20*ER + ShrinkWrap(sigma=1, threshold=0.08) + 10*ER")
SEEK = parse("4*(20*RAAR + ShrinkWrap(sigma=1, threshold=0.12)) + 15*ER")

# Of the logarithm of the relative squared error inside the crystal, by `Found.features`; fitted to crystals of the
# held-out families by `live-bcdi bench preview --part fit`.
WEIGHTS = np.array([-0.221, 0.294, 0.625, 0.409, -0.035])
_NOTHING = 2.0  # of an object that has nothing to do with the crystal
_HOLD = 0.15  # of the network's largest |S|: its support


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """On the network's grid: the best end, how it came there, all scores, and what is expected of |error|^2 by
    voxel, |S| about 1: `network` of the network's own object, `views` as far as the others differ from the
    best. `alarm` (2,) is the network's, the mean of its views."""

    best: Retrieval
    recipe: Recipe
    scores: tuple[float, ...]
    network: FloatArray
    views: FloatArray

    missing: float
    counts: float
    alarm: FloatArray

    @property
    def features(self) -> FloatArray:
        """What the relative error of the whole is foretold from, (5,)."""
        inside = self.best.support
        network, views = (max(float(each[inside].mean()), 1e-4) for each in (self.network, self.views))
        return np.array([1.0, np.log(network), np.log(views), self.missing, np.log10(self.counts) - 5])

    @property
    def variance(self) -> FloatArray:
        """|error|^2 by voxel: as large on the whole as the features say, and where the network and the views
        say."""
        shape = self.network + self.views
        whole = float(np.exp(WEIGHTS @ self.features))
        return np.asarray(shape * (min(whole, _NOTHING) / shape[self.best.support].mean()), np.float32)


def polished(
    seen: Pattern, sights: Sequence[Sight], also: Sequence[Object], recipes: Sequence[Recipe] = (STAY, SEEK)
) -> Found:
    """The end of all ways of all starts that foretells free voxels best, with what is expected of its error."""
    free = _free(seen)
    shown = seen if free is None else Pattern(intensity=seen.intensity, mask=seen.mask | free)
    starts = [_start(density, shown) for density in (*(sight.density for sight in sights), *also)]
    ends = [end for recipe in recipes for end in retrieve_all(shown, recipe, starts)]
    scores = [_score(end, seen, free) for end in ends]
    order = np.argsort(scores, kind="stable")
    best, origin = ends[order[0]], int(order[0]) % len(starts)
    if not np.isfinite(scores[order[0]]):
        raise ScanError(Outcome.DIVERGED.value)
    return Found(
        best=best,
        recipe=recipes[int(order[0]) // len(starts)],
        scores=tuple(scores),
        network=sights[origin if origin < len(sights) else 0].variance,
        views=_spread(best, [ends[k].density for k in order[1:] if np.isfinite(scores[k])]),
        missing=float(seen.mask.mean()),
        counts=seen.total_counts,
        alarm=np.mean([sight.alarm for sight in sights], axis=0),
    )


def _start(density: Object, seen: Pattern) -> Start:
    amplitude = np.abs(density)
    support = ndimage.binary_dilation(amplitude > _HOLD * amplitude.max())
    return Start(initial=scaled(density, seen), support=np.asarray(support))


def _free(seen: Pattern) -> BoolArray | None:
    """Voxels that judge the views; None where the pattern has no room for them."""
    try:
        return held_out(seen, SHARE, 0)
    except ScanError:
        return None


def _score(end: Retrieval, seen: Pattern, free: BoolArray | None) -> float:
    if not np.isfinite(end.chi):
        return float("inf")
    return end.chi if free is None else free_llk(np.abs(centred_transform(end.density)), seen, free)


def _spread(best: Retrieval, others: Sequence[Object]) -> FloatArray:
    """Mean |difference|^2 of the others, aligned, in units of the crystal's mean |S|^2."""
    power = float(np.mean(np.abs(best.density[best.support]) ** 2))
    spread = np.zeros(best.density.shape, np.float32)
    for other in aligned_all(best.density, others):
        spread += np.abs(other - best.density) ** 2 / (power * len(others))
    return spread
