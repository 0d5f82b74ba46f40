"""Patterns that are no single crystal's, to see that they are recognised: each of a seed, counts (rocking, row,
column).

What a peak is made of is that of the simulator's crystals.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from live_bcdi.types import FloatArray

from .chance import Chance
from .measuring import CLEAN, make_batch
from .simulator import EDGE, Spread

Make = Callable[[int], FloatArray]


def two_peaks(seed: int) -> FloatArray:
    """Two crystals whose peaks stand 3 to 5 fringes apart, the second 0.3 to 1 times as bright."""
    rng = np.random.default_rng(seed)
    first, second = _patterns(seed, 2, Spread(oversampling=(2.0, 3.0)))
    away = rng.normal(size=3)
    away = np.rint(away / np.linalg.norm(away) * rng.uniform(8.5, 13)).astype(int)
    found: FloatArray = rng.poisson(first + rng.uniform(0.3, 1) * np.roll(second, away, (0, 1, 2)))
    return found.astype(np.float32)


def ring(seed: int) -> FloatArray:
    """A powder ring: an arc of a large circle on every frame alike, on a little background."""
    rng = np.random.default_rng(seed)
    row, column = np.indices((EDGE, EDGE)) - EDGE // 2
    turn, radius, width = rng.uniform(0, 2 * np.pi), rng.uniform(40, 200), rng.uniform(1, 2.5)
    far = np.hypot(row + radius * np.sin(turn), column + radius * np.cos(turn)) - radius
    arc = np.exp(-0.5 * (far / width) ** 2) + 0.02
    level = 10 ** rng.uniform(0.5, 3)
    return rng.poisson(level * np.broadcast_to(arc, (EDGE,) * 3)).astype(np.float32)


def saturated(seed: int) -> FloatArray:
    """A detector that counts no further than a third to a twentieth of the peak."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(_patterns(seed, 1)[0] * 10).astype(np.float32)
    found: FloatArray = np.minimum(counts, np.ceil(counts.max() / rng.uniform(3, 20)))
    return found


def empty(seed: int) -> FloatArray:
    """A few counts that belong to nothing."""
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.uniform(1, 200) / EDGE**3, (EDGE,) * 3).astype(np.float32) + _one_count(rng)


def noise(seed: int) -> FloatArray:
    """Counts of the same mean everywhere."""
    rng = np.random.default_rng(seed)
    return rng.poisson(10 ** rng.uniform(-1, 3), (EDGE,) * 3).astype(np.float32)


STRANGERS: Mapping[str, Make] = {
    "two peaks": two_peaks,
    "powder ring": ring,
    "saturated": saturated,
    "empty": empty,
    "noise": noise,
}


def _patterns(seed: int, count: int, spread: Spread | None = None) -> FloatArray:
    """Of as many crystals, with counting noise, 1e5 to 1e7 counts."""
    rng = np.random.default_rng(seed)
    photons = 10 ** rng.uniform(5, 7)
    conditions = replace(CLEAN, photons=(photons, photons))
    batch = make_batch(count, Chance(seed), spread=spread, conditions=conditions)
    found: FloatArray = batch.intensity.numpy()
    return found


def _one_count(rng: np.random.Generator) -> FloatArray:
    """A pattern of nothing at all is refused before anybody looks at it."""
    found = np.zeros((EDGE,) * 3, np.float32)
    found[tuple(rng.integers(0, EDGE, 3))] = 1
    return found
