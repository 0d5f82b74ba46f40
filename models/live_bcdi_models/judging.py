"""What the preview is worth on simulated crystals of families that no training saw: what `live-bcdi bench preview`
shows."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from scipy.optimize import lsq_linear
from scipy.stats import spearmanr

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
from .previewing import INSTEAD, NetworkGuess, look_at, preview_of
from .simulator import EDGE, HELD_OUT, STRAINS, TRAINED, Spread
from .strangers import STRANGERS

_FOUND = 0.9  # correlation with the truth
_SEED, _FIT_SEED = 7_000_003, 8_000_009  # no training has them
_WHOLE = Conditions(missing=(0, 0))
_CLEAR = replace(CLEAN, photons=(1e5, 1e7))
GUIDED = "20*ER + 2*(20*RAAR + 5*ER + ShrinkWrap(sigma=1, threshold=0.12)) + 20*ER"


def by_strain(count: int) -> dict[str, Any]:
    """Correlation with the truth and seconds by strain, of the preview and of plain iterations for as long; and
    how the expected error compares with the true one."""
    table: dict[str, Any] = {}
    sure: list[tuple[Reconstruction, FloatArray]] = []
    for strain, batch in by_strength(count):
        found, plain, seconds = [], [], []
        for pattern, truth in each_of(batch):
            began_s = perf_counter()
            try:
                result = preview_of(pattern)
            except Unlike:
                continue
            seconds.append(perf_counter() - began_s)
            found.append(likeness(result.density, truth))
            plain.append(likeness(_plain(pattern, seconds[-1]), truth))
            sure.append((result, squared_error(result, truth)))
        table[strain] = {
            "crystals": len(found),
            "preview": float(np.mean(found)),
            "iterations": float(np.mean(plain)),
            "seconds": float(np.median(seconds)),
        }
    return {**table, "uncertainty": _calibration(sure)}


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


def partial(count: int, shares: tuple[float, ...] = (0.34, 0.5, 0.67, 1.0)) -> dict[str, Any]:
    """Medium strain: correlation and expected error as the frames arrive."""
    crystals = list(each_of(crystals_of(count, "medium")))
    told = {}
    for share in shares:
        missing = np.arange(EDGE) >= round(share * EDGE)
        results = []
        for pattern, truth in crystals:
            mask = pattern.mask | missing[:, None, None]
            try:
                result = preview_of(Pattern(intensity=pattern.intensity, mask=mask))
            except Unlike:
                continue
            true = np.sqrt(squared_error(result, truth)[result.support].mean())
            results.append((likeness(result.density, truth), result.metrics["expected_error"], true))
        alike, expected, true = np.array(results).T
        told[f"{share:.2f}"] = {
            "crystals": len(results),
            "correlation": float(alike.mean()),
            "expected_error": float(np.median(expected)),
            "true_error": float(np.median(true)),
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


def crystals_of(count: int, strain: str, seed: int = _SEED, conditions: Conditions = _WHOLE) -> Batch:
    seed += list(STRAINS).index(strain)
    spread = Spread(strain_rad=STRAINS[strain])
    return make_batch(count, Chance(seed), families=HELD_OUT, spread=spread, conditions=conditions)


def by_strength(count: int, seed: int = _SEED) -> Iterator[tuple[str, Batch]]:
    for strain in STRAINS:
        yield strain, crystals_of(count, strain, seed)


def each_of(batch: Batch) -> Iterator[tuple[Pattern, Object]]:
    for counts, measured, truth in zip(batch.intensity, batch.measured, batch.target):
        yield Pattern(intensity=counts.numpy(), mask=~measured.numpy()), truth.numpy()


def _plain(pattern: Pattern, seconds: float) -> Object:
    """Iterations from random phases, start after start for as long, the one that foretells free voxels best."""
    until_s, best = perf_counter() + seconds, None
    for seed in range(1000):
        end, _ = phase_pattern(pattern, Plan(recipe=INSTEAD, starts=1, seed=seed, budget_s=seconds))
        score = end.metrics.get("free_llk", end.chi)
        if best is None or score < best[0]:
            best = (score, end.density)
        if perf_counter() > until_s:
            break
    assert best is not None
    return best[1]


def likeness(found: Object, truth: Object) -> float:
    return float(correlation(torch.from_numpy(found)[None], torch.from_numpy(truth)[None])[0])


def squared_error(result: Reconstruction | Retrieval, truth: Object) -> FloatArray:
    """|S - S0|^2 by voxel in units of the crystal's mean |S|^2, the truth at its best scale and place."""
    (aligned,) = aligned_all(result.density, [truth])
    scale = np.vdot(aligned, result.density) / np.vdot(aligned, aligned)
    power = np.mean(np.abs(result.density[result.support]) ** 2)
    error: FloatArray = np.abs(result.density - scale * aligned) ** 2 / power
    return error


def _calibration(sure: list[tuple[Reconstruction, FloatArray]]) -> Mapping[str, float]:
    """`ratio` of the true mean |e|^2 inside to the expected; `within_1`, `within_2` the share of the voxels inside
    whose phase and amplitude are off by less than one and two expected deviations (0.39 and 0.86 for a complex
    normal error); `rank` correlation over the crystals of expected and true error."""
    expected, true, within = [], [], []
    for result, error in sure:
        assert result.agreement is not None
        inside = result.support
        amplitude = np.abs(result.density)
        std = result.agreement.amplitude_std[inside] * amplitude.max()
        variance = 2 * std**2 / np.mean(amplitude[inside] ** 2)
        expected.append(float(variance.mean()))
        true.append(float(error[inside].mean()))
        within.append([float(np.mean(error[inside] < k**2 * variance / 2)) for k in (1, 2)])
    one, two = np.mean(within, axis=0)
    return {
        "ratio": float(np.mean(true) / np.mean(expected)),
        "within_1": float(one),
        "within_2": float(two),
        "rank": float(spearmanr(expected, true).statistic),
    }
