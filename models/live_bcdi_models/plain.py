"""HIO and ER as well as they are done here, for so many seconds: what a network has to beat.

A start is found as the automatic recipe does it (`live_bcdi.phasing.automatic`): shrinkwrap goes from a loose and
smooth support to a tight one, on voxels twice as large where there are 64 an axis or more; then the object is
sharpened on all. Seconds are of the processor, one thread: what a clock shows where nobody else computes.
"""

from collections.abc import Callable, Sequence
from time import process_time

import numpy as np

from live_bcdi.phasing import Pattern, Retrieval, Start, parse
from live_bcdi.phasing.automatic import threshold, traits_of
from live_bcdi.phasing.coarse import retrieve_coarse
from live_bcdi.phasing.engine import retrieve_all
from live_bcdi.phasing.free import free_llk
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.phasing.metrics import centred_transform
from live_bcdi.types import BoolArray

# Rounds of HIO and a new support: more of them, and the support shrinks into the crystal.
_FIND, _SHARPEN = 6, 2
_ROUND = 20  # HIO iterations of a round
_COARSE_FROM = 64  # voxels an axis
_KEPT = 3  # of several starts, those that are sharpened


class Iterations:
    """HIO/ER of one pattern. Starts are judged by what they foretell of the `judged` voxels, which they are not
    shown; without such by chi."""

    def __init__(self, pattern: Pattern, judged: BoolArray | None) -> None:
        self._pattern, self._judged = pattern, judged
        hidden = pattern.mask if judged is None else pattern.mask | judged
        self._seen = Pattern(intensity=pattern.intensity, mask=hidden)
        traits = traits_of(self._seen)
        self._support, self._threshold = traits.support, threshold(traits)
        self._find_s = _costs(lambda length: self._found(length))
        found = self._found(_ROUND)
        self._sharpen_s = _costs(lambda length: self._sharpened(found, length))

    def single(self, seconds: float) -> Object:
        """One start: for half of the time it looks for the crystal, for half it sharpens what it found."""
        find, sharpen = (
            max(1, int((seconds / 2 - fixed_s) / each_s)) for fixed_s, each_s in (self._find_s, self._sharpen_s)
        )
        return self._sharpened(self._found(find), sharpen).density

    def several(self, seconds: Sequence[float]) -> list[Object]:
        """An object for each of these times, which rise: from as many starts as it allows the best, sharpened."""
        sharpen_s = self._sharpen_s[0] + _ROUND * self._sharpen_s[1]
        spent_s, starts, found = 0.0, list[tuple[float, Retrieval]](), list[Object]()
        for limit_s in seconds:
            kept = _KEPT if limit_s > 3 * _KEPT * sharpen_s else 1
            while not starts or spent_s < limit_s - kept * sharpen_s:
                began_s = process_time()
                end = self._found(_ROUND, seed=len(starts))
                starts.append((self._score(end), end))
                spent_s += process_time() - began_s
            best = sorted(starts, key=lambda each: each[0])[:kept]
            found.append(min((self._sharpened(end, _ROUND) for _, end in best), key=self._score).density)
        return found

    def _found(self, length: int, seed: int = 0) -> Retrieval:
        shrink = "ShrinkWrap(sigma=2, sigma_end=1, threshold=0.1, threshold_end=0.25)"
        recipe = parse(f"20*ER + {_FIND}*({length}*HIO + {shrink}) + 10*ER")
        starts = [Start(seed=seed, support=self._support, place=0.5)]
        if min(self._seen.intensity.shape) < _COARSE_FROM:
            return retrieve_all(self._seen, recipe, starts)[0]
        return retrieve_coarse(self._seen, 2, starts, lambda small, given: retrieve_all(small, recipe, given))[0]

    def _sharpened(self, end: Retrieval, length: int) -> Retrieval:
        shrink = f"ShrinkWrap(sigma=1, threshold={self._threshold})"
        recipe = parse(f"10*ER + {shrink} + {_SHARPEN}*({length}*HIO + 5*ER + {shrink}) + 20*ER")
        return retrieve_all(self._seen, recipe, [Start(initial=end.density)])[0]

    def _score(self, end: Retrieval) -> float:
        if not np.isfinite(end.chi) or self._judged is None:
            return end.chi
        return free_llk(np.abs(centred_transform(end.density)), self._pattern, self._judged)


def _costs(run: Callable[[int], object]) -> tuple[float, float]:
    """Seconds that no HIO iteration a round would take, and each, here and now, with the code loaded."""
    took = []
    for length in (1, 1, 21):
        began_s = process_time()
        run(length)
        took.append(process_time() - began_s)
    each = max((took[2] - took[1]) / 20, took[2] / 100)
    return max(took[1] - each, 0.0), each
