"""What the preview is worth on simulated crystals of families that no training saw: what `live-bcdi bench preview`
shows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import process_time
from typing import Any

import numpy as np
import torch
from scipy.optimize import lsq_linear

from live_bcdi.estimate import Unlike
from live_bcdi.phasing import Pattern, Plan, phase_pattern
from live_bcdi.phasing.align import aligned_all
from live_bcdi.phasing.engine import Retrieval
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.types import FloatArray, Reconstruction

from .chance import Chance
from .grid import Grid
from .guard import unlike
from .losses import correlation
from .measuring import CLEAN, Batch, Conditions, make_batch
from .plain import Iterations
from .polishing import free_of
from .previewing import NetworkGuess, look_at, preview_of
from .simulator import EDGE, HELD_OUT, STRAINS, TRAINED, Spread
from .strangers import STRANGERS

_FOUND = 0.9  # correlation with the truth
_SEED, _FIT_SEED = 7_000_003, 8_000_009  # no training has them
_WHOLE = Conditions(missing=(0, 0))
_CLEAR = replace(CLEAN, photons=(1e5, 1e7))
GUIDED = "20*ER + 2*(20*RAAR + 5*ER + ShrinkWrap(sigma=1, threshold=0.12)) + 20*ER"


def by_strain(count: int) -> dict[str, Any]:
    """Correlation with the truth and seconds by strain, of the preview and of plain iterations for as long."""
    table: dict[str, Any] = {}
    for strain, batch in by_strength(count):
        found, plain, seconds = [], [], []
        for pattern, truth in each_of(batch):
            began_s = process_time()
            try:
                result = preview_of(pattern)
            except Unlike:
                continue
            seconds.append(process_time() - began_s)
            found.append(likeness(result.density, truth))
            (as_long,) = Iterations(pattern, free_of(pattern)).several(seconds[-1:])
            plain.append(likeness(as_long, truth))
        table[strain] = {
            "crystals": len(found),
            "preview": float(np.mean(found)),
            "iterations": float(np.mean(plain)),
            "seconds": float(np.median(seconds)),
        }
    return table


def guided(count: int, recipe: str = GUIDED) -> dict[str, Any]:
    """Of strongly strained crystals, well measured, how many one start and three of `recipe` find, from random
    phases and from what the network sees."""
    crystals = list(each_of(crystals_of(count, "strong", conditions=_CLEAR)))
    told = {}
    for name, guess in (("random", None), ("guided", NetworkGuess())):
        for plan_name, plan in (
            ("one start", Plan(recipe=recipe, starts=1, guess=guess)),
            ("three starts", Plan(recipe=recipe, starts=3, guess=guess)),
        ):
            ends = [(phase_pattern(pattern, plan)[0], truth) for pattern, truth in crystals]
            alike = np.array([likeness(end.density, truth) for end, truth in ends])
            told[f"{plan_name}, {name}"] = {
                "found": int(np.count_nonzero(alike > _FOUND)),
                "of": count,
                "correlation": float(alike.mean()),
                "chi": float(np.median([end.chi for end, _ in ends])),
            }
    return told


def fit(count: int) -> dict[str, Any]:
    """`polishing.WEIGHTS` for the network that there is: least squares of the logarithm of the true relative
    error, of whole scans and parts of them, strains and counts of every kind."""
    features, errors = [], []
    for number, (_, batch) in enumerate(by_strength(count, _FIT_SEED)):
        for index, (pattern, truth) in enumerate(each_of(batch)):
            share = (0.34, 0.5, 0.7, 1.0)[(index + number) % 4]
            mask = pattern.mask | (np.arange(EDGE) >= round(share * EDGE))[:, None, None]
            try:
                _, found = look_at(Pattern(intensity=pattern.intensity, mask=mask), views=3)
            except Unlike:
                continue
            features.append(found.features)
            errors.append(np.log(squared_error(found.best, truth)[found.best.support].mean()))
    return {"weights": {"WEIGHTS": str(_weights(np.array(features), np.array(errors)))}}


def _weights(features: FloatArray, wanted: FloatArray) -> list[float]:
    """None below nothing where more of a feature cannot mean less of an error; small where crystals are few."""
    ridge = np.sqrt(0.02 * len(features)) * np.eye(5)[1:]
    least = [-np.inf, 0.0, 0.0, 0.0, -np.inf]
    found = lsq_linear(np.vstack([features, ridge]), np.append(wanted, np.zeros(4)), (least, np.inf))
    return [round(float(value), 3) for value in found.x]


def guard(count: int) -> dict[str, Any]:
    """How many patterns of crystals are refused, and how many strangers of each kind."""
    told = {}
    for name, families in (("crystals as trained", TRAINED), ("crystals held out", HELD_OUT)):
        batch = make_batch(count, Chance(_SEED), families=families)
        told[name] = _refused([pattern for pattern, _ in each_of(batch)])
    for name, make in STRANGERS.items():
        counts = map(make, range(count))
        told[name] = _refused([Pattern(intensity=x, mask=np.zeros(x.shape, bool)) for x in counts])
    return told


def _refused(patterns: Sequence[Pattern]) -> dict[str, Any]:
    said = [unlike(pattern, Grid.of(pattern)) for pattern in patterns]
    why = Counter(each.partition(":")[0] for each in said if each)
    return {"refused": why.total(), "of": len(said), **{f"  {reason}": number for reason, number in why.items()}}


def crystals_of(
    count: int, strain: str, seed: int = _SEED, conditions: Conditions = _WHOLE, edge: int = EDGE
) -> Batch:
    seed += list(STRAINS).index(strain)
    spread = Spread(strain_rad=STRAINS[strain])
    return make_batch(count, Chance(seed), families=HELD_OUT, spread=spread, conditions=conditions, edge=edge)


def by_strength(count: int, seed: int = _SEED) -> Iterator[tuple[str, Batch]]:
    for strain in STRAINS:
        yield strain, crystals_of(count, strain, seed)


def each_of(batch: Batch) -> Iterator[tuple[Pattern, Object]]:
    for counts, measured, truth in zip(batch.intensity, batch.measured, batch.target):
        yield Pattern(intensity=counts.numpy(), mask=~measured.numpy()), truth.numpy()


def likeness(found: Object, truth: Object) -> float:
    return float(correlation(torch.from_numpy(found)[None], torch.from_numpy(truth)[None])[0])


def squared_error(result: Reconstruction | Retrieval, truth: Object) -> FloatArray:
    """|S - S0|^2 by voxel in units of the crystal's mean |S|^2."""
    power = np.mean(np.abs(result.density[result.support]) ** 2)
    error: FloatArray = np.abs(result.density - placed(truth, result)) ** 2 / power
    return error


def placed(truth: Object, result: Reconstruction | Retrieval) -> Object:
    """The truth, or its twin, at its best scale and place."""
    (aligned,) = aligned_all(result.density, [truth])
    return np.asarray(aligned * (np.vdot(aligned, result.density) / np.vdot(aligned, aligned)), np.complex64)
