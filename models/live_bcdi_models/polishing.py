"""Iterations from what a network sees and from random phases, which end is taken, and how far off it is expected
to be."""

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
from live_bcdi.phasing.support import autocorrelation_support
from live_bcdi.types import BoolArray, FloatArray, Outcome, ScanError

from .grid import mirrored, scaled
from .sight import Sight

RANDOM = 3  # starts from random phases beside the network's: they end elsewhere, and it may be wrong
STAY = parse("20*ER + ShrinkWrap(sigma=1, threshold=0.08) + 10*ER")  # RAAR leaves any place, a right one too

# Of the logarithm of the relative squared error inside the crystal, by `Found.features`; fitted to crystals of the
# held-out families by `live-bcdi bench preview --part fit`.
WEIGHTS = np.array([-0.127, 0.121, 0.732, 0.179, -0.204])
_NOTHING = 2.0  # of an object that has nothing to do with the crystal
_HOLD = 0.15  # of the network's largest |S|: its support
_FREEDOM = 3.0  # parameters a voxel of the support; 1 and 2 let loose supports win, 4 tight ones
_LEAST_ROOM = 0.002  # 65 voxels: a network may see one hot voxel
_BODY, _LOOSE = 0.3, 1.6  # of it: the crystal's own voxels, and how many more a support may have


def search(room: float) -> Recipe:
    """On the network's voxels, where an iteration is cheap; `room` is the share of them that the support has at
    most. Where strain is strong the amplitude is uneven before it is found, and a threshold alone lets the support
    grow over the noise, to ten times the crystal."""
    return parse(f"4*(2*(20*RAAR + ShrinkWrap(sigma=1, threshold=0.12, largest={room:.4f})) + 6*ER)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """On the network's grid: the best end, how it came there, all scores, how the best foretells free voxels,
    and what is expected of |error|^2 by voxel, |S| about 1: `network` of the network's own objects, `views` as far
    as the others differ from the best. `alarm` (2,) is the network's, the mean of its views."""

    best: Retrieval
    recipe: Recipe
    scores: tuple[float, ...]
    free_llk: float
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
    seen: Pattern, sights: Sequence[Sight], also: Sequence[Object], further: Sequence[Recipe] = ()
) -> Found:
    """The best end of iterations from the network's objects, from `also`, and from random phases. `further` are
    other ways from the first two, where there is time."""
    free = free_of(seen)
    shown = seen if free is None else Pattern(intensity=seen.intensity, mask=seen.mask | free)
    known = mirrored(shown)
    support = autocorrelation_support(known.intensity, known.mask)
    room = max(min(float(support.mean()), room_of(sights)), _LEAST_ROOM)
    given = [_start(density, shown) for density in (*(sight.density for sight in sights), *also)]
    others = [Start(seed=seed, support=support) for seed in range(RANDOM)]
    tried = ((search(room), given + others), *((recipe, given) for recipe in (STAY, *further)))
    ends = [(recipe, end) for recipe, starts in tried for end in retrieve_all(shown, recipe, starts)]
    scores = [_score(end, shown) for _, end in ends]
    order = np.argsort(scores, kind="stable")
    if not np.isfinite(scores[order[0]]):
        raise ScanError(Outcome.DIVERGED.value)
    recipe, best = ends[order[0]]
    return Found(
        best=best,
        recipe=recipe,
        scores=tuple(scores),
        free_llk=_foretold(best, seen, free),
        network=np.mean([sight.variance for sight in sights], axis=0),
        views=_spread(best, [ends[k][1].density for k in order[1:] if np.isfinite(scores[k])]),
        missing=float(seen.mask.mean()),
        counts=seen.total_counts,
        alarm=np.mean([sight.alarm for sight in sights], axis=0),
    )


def _score(end: Retrieval, shown: Pattern) -> float:
    """chi, times what freedom alone betters it by: a larger support fits more noise (generalised cross-validation,
    Golub, Heath & Wahba, Technometrics 21, 215 (1979)). It says more than few free voxels do."""
    known = np.count_nonzero(~shown.mask)
    left = 1 - _FREEDOM * np.count_nonzero(end.support) / known
    return float(end.chi / max(left, 0.01) ** 2)


def room_of(sights: Sequence[Sight]) -> float:
    """Share of the voxels that the crystal has at most, from what the network sees."""
    sizes = [np.abs(sight.density) for sight in sights]
    return _LOOSE * float(np.median([(size > _BODY * size.max()).mean() for size in sizes]))


def _start(density: Object, seen: Pattern) -> Start:
    amplitude = np.abs(density)
    support = ndimage.binary_dilation(amplitude > _HOLD * amplitude.max())
    return Start(initial=scaled(density, seen), support=np.asarray(support))


def free_of(seen: Pattern) -> BoolArray | None:
    """Voxels that no start is shown; None where the pattern has no room for them."""
    try:
        return held_out(seen, SHARE, 0)
    except ScanError:
        return None


def _foretold(end: Retrieval, seen: Pattern, free: BoolArray | None) -> float:
    """NaN where no voxel is free."""
    return float("nan") if free is None else free_llk(np.abs(centred_transform(end.density)), seen, free)


def _spread(best: Retrieval, others: Sequence[Object]) -> FloatArray:
    """Mean |difference|^2 of the others, aligned, in units of the crystal's mean |S|^2."""
    power = float(np.mean(np.abs(best.density[best.support]) ** 2))
    spread = np.zeros(best.density.shape, np.float32)
    for other in aligned_all(best.density, others):
        spread += np.abs(other - best.density) ** 2 / (power * len(others))
    return spread
