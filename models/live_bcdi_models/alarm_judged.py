"""How good the defect alarm is: ROC curves and their area, on crystals that no training had, by strain and counts;
and `alarm.SCALING`, fitted to others than it is judged by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.stats import rankdata

from live_bcdi.estimate import Unlike
from live_bcdi.panels import STYLE, new_sheet
from live_bcdi.types import BoolArray, FloatArray

from .alarm import KINDS, SCALING, evidence
from .chance import Chance
from .judging import each_of
from .measuring import Conditions, make_batch
from .previewing import look_at
from .simulator import HELD_OUT, STRAINS, TRAINED, Families, Spread

_FIT_SEED, _SEED = 11_000_003, 12_000_017  # no training has them
_WHOLE = Conditions(missing=(0, 0))
_COUNTS = {"below 5e4 counts": (0.0, 5e4), "5e4 to 2e6": (5e4, 2e6), "above 2e6": (2e6, np.inf)}
_COLOURS = {"network": "#1b6ca8", "singularities": "#c4501b", "both": "k"}
_RIDGE = 0.003  # of the scaling's weights, for each crystal


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Of crystals: `evidence` (crystals, kinds, 3), `truth` (crystals, kinds) what they have, their counts and
    strains."""

    evidence: FloatArray
    truth: BoolArray
    counts: FloatArray
    strains: Sequence[str]

    def of(self, kind: int) -> dict[str, FloatArray]:
        """The scores of one kind: the network's, the singularities', and both as they are scaled."""
        seen = self.evidence[:, kind]
        return {"network": seen[:, 1], "singularities": seen[:, 2], "both": seen @ SCALING[kind]}


def measure(count: int, *, output: Path) -> dict[str, Any]:
    """Of `count` crystals of each strain; ROC curves in `output`/alarm.png."""
    fresh, dipoles = evidence_of(count, TRAINED, _SEED), evidence_of(count, HELD_OUT, _SEED)
    told = {
        "dislocations, trained families": _areas(fresh, 0),
        "dislocations, held out: dipoles, which the alarm never saw": _areas(dipoles, 0),
        "twins and walls, trained families": _areas(fresh, 1),
        "probabilities": _reliability(fresh),
        "scaling": {"SCALING": str([scaling(evidence_of(count, TRAINED, _FIT_SEED), kind) for kind in (0, 1)])},
    }
    output.mkdir(parents=True, exist_ok=True)
    panels = {
        "dislocations, trained families": (fresh, 0),
        "dipoles, never seen": (dipoles, 0),
        "twins and walls, trained families": (fresh, 1),
    }
    return {**told, "": {"figure": _draw(panels, output / "alarm.png")}}


def evidence_of(count: int, families: Families, seed: int) -> Evidence:
    """Of `count` crystals of each strain, whole scans, 1e3 to 1e8 counts."""
    found, truth, counts, strains = [], [], [], []
    for number, (strain, limits) in enumerate(STRAINS.items()):
        spread = Spread(strain_rad=limits)
        batch = make_batch(count, Chance(seed + number), families=families, spread=spread, conditions=_WHOLE)
        has = np.stack([batch.crystals.dislocated.numpy(), batch.crystals.twinned.numpy()], axis=1)
        for each, (pattern, _) in zip(has, each_of(batch)):
            try:
                found.append(evidence(look_at(pattern, views=3, device="cpu")[1]))
            except Unlike:
                continue
            truth.append(each)
            counts.append(pattern.total_counts)
            strains.append(strain)
    return Evidence(evidence=np.array(found), truth=np.array(truth), counts=np.array(counts), strains=strains)


def area(scores: FloatArray, truth: BoolArray) -> float:
    """Under the ROC curve: how often one that has the defect scores above one that has not, ties counting half
    (Mann and Whitney); NaN where there are not both."""
    have, lack = int(truth.sum()), int((~truth).sum())
    if not have or not lack:
        return float("nan")
    return float((rankdata(scores)[truth].sum() - have * (have + 1) / 2) / (have * lack))


def scaling(seen: Evidence, kind: int) -> list[float]:
    """Logistic regression of what crystals have by their evidence, with a small ridge."""
    table, truth = seen.evidence[:, kind], seen.truth[:, kind]
    sign = np.where(truth, 1.0, -1.0)

    def unlikely(weights: FloatArray) -> float:
        return float(np.mean(np.logaddexp(0, -sign * (table @ weights))) + _RIDGE * np.sum(weights[1:] ** 2))

    found = minimize(unlikely, np.array([0.0, 1.0, 0.0]), method="BFGS")
    return [round(float(weight), 3) for weight in found.x]


def _areas(seen: Evidence, kind: int) -> dict[str, Any]:
    """The area by what is judged, and of both by strain and counts."""
    truth, scores = seen.truth[:, kind], seen.of(kind)
    told: dict[str, Any] = {"crystals": f"{len(truth)}, {truth.sum()} have it"}
    told |= {f"area, {name}": area(each, truth) for name, each in scores.items()}
    for strain in STRAINS:
        which = np.array([name == strain for name in seen.strains])
        told[f"area, both, {strain}"] = area(scores["both"][which], truth[which])
    for name, (low, high) in _COUNTS.items():
        which = (seen.counts >= low) & (seen.counts < high)
        told[f"area, both, {name}"] = area(scores["both"][which], truth[which])
    return told


def _reliability(seen: Evidence) -> dict[str, str]:
    """How many of the crystals have what is said to be so likely."""
    told = {}
    for kind, name in enumerate(KINDS):
        said = 1 / (1 + np.exp(-seen.of(kind)["both"]))
        for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)):
            which = (said >= low) & (said < high)
            if which.any():
                true = seen.truth[which, kind].mean()
                told[f"{name}, said {low:g} to {min(high, 1):g}"] = (
                    f"{100 * said[which].mean():.0f} % said, {100 * true:.0f} % true of {which.sum()}"
                )
    return told


def curve(scores: FloatArray, truth: BoolArray) -> tuple[FloatArray, FloatArray]:
    """False and true alarms, as shares, at every threshold from the highest; equal scores fall together."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    true, false = np.cumsum(truth[order])[last], np.cumsum(~truth[order])[last]
    return np.append(0, false / max(false[-1], 1)), np.append(0, true / max(true[-1], 1))


def _draw(panels: Mapping[str, tuple[Evidence, int]], path: Path) -> str:
    import matplotlib

    with matplotlib.rc_context(STYLE):
        sheet = new_sheet(6.9, 2.6)
        for place, (title, (seen, kind)) in enumerate(panels.items()):
            panel = sheet.axes(0.45 + 2.25 * place, 0.42, 1.85, 1.85)
            truth = seen.truth[:, kind]
            for name, scores in seen.of(kind).items():
                label = f"{name}, area {area(scores, truth):.2f}"
                panel.plot(*curve(scores, truth), color=_COLOURS[name], label=label)
            panel.plot([0, 1], [0, 1], color="0.45", lw=0.7, ls="--")
            panel.set(xlim=(0, 1), ylim=(0, 1), title=f"{title}: {truth.sum()} of {len(truth)}")
            panel.set(xlabel="false alarms", ylabel="true alarms")
            panel.legend(loc="lower right", edgecolor="none", fontsize=5.5)
        sheet.figure.savefig(path, dpi=200)
    return str(path)
