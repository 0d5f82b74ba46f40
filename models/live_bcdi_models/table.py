"""The table of `live-bcdi bench preview --part table`: what a network, iterations, and both together find of
crystals that no training saw, by family, strain and counts.

A crystal that is done is kept in the file at once, so that the table can be made in pieces; what a network had no
part in is not done again when there are other weights.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from time import monotonic, process_time
from typing import Any

import numpy as np
import torch

from live_bcdi.phasing import Pattern, Plan, Start, parse, phase_pattern, retrieve
from live_bcdi.phasing.free import free_llk
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.phasing.metrics import centred_transform
from live_bcdi.types import ScanError

from .chance import Chance
from .grid import Grid, scaled
from .judging import each_of, likeness
from .measuring import Conditions, make_batch
from .plain import Iterations
from .polishing import free_of
from .previewing import NetworkGuess, preview
from .sight import VIEWS, look, shipped
from .simulator import HELD_OUT, STRAINS, Families, Spread

PHOTONS = (1e4, 1e6, 1e8)
SECONDS = (1.0, 5.0, 20.0)
ALONE, WITH_ER, PREVIEW, WITH_RECIPE = "network", "network + 20 ER", "preview", "network + recipe"
RECIPE, AS_LONG = "recipe", "HIO/ER, preview's time"
_ER = parse("20*ER")
_SEED = 9_000_011  # no training, fit or other part has it
_CONDITIONS = Conditions(missing=(0, 0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One crystal: `number` of those of a family, strain and counts. The counts change nothing else of it."""

    family: str
    strain: str
    photons: float
    number: int

    def crystal(self, edge: int) -> tuple[Pattern, Object]:
        """Its pattern, and the object that this could show at best."""
        families = list(HELD_OUT.fields)
        place = families.index(self.family) + len(families) * list(STRAINS).index(self.strain)
        batch = make_batch(
            1,
            Chance(_SEED + place + 1000 * self.number),
            families=Families(shapes=HELD_OUT.shapes, fields={self.family: HELD_OUT.fields[self.family]}),
            spread=Spread(strain_rad=STRAINS[self.strain]),
            conditions=replace(_CONDITIONS, photons=(self.photons, self.photons)),
            edge=edge,
        )
        return next(each_of(batch))


def cases(crystals: int) -> Iterator[Case]:
    """All, one crystal of each kind before the second of any."""
    for number in range(crystals):
        for family in HELD_OUT.fields:
            for strain in STRAINS:
                for photons in PHOTONS:
                    yield Case(family=family, strain=strain, photons=photons, number=number)


class Judge:
    """Methods on one crystal; what each finds is judged by the truth and by free voxels that none is shown."""

    def __init__(self, case: Case, edge: int) -> None:
        self.pattern, self.truth = case.crystal(edge)
        self._free = free_of(self.pattern)
        hidden = self.pattern.mask if self._free is None else self.pattern.mask | self._free
        self.shown = Pattern(intensity=self.pattern.intensity, mask=hidden)
        self._iterations = Iterations(self.shown, free_of(self.shown))

    def with_network(self) -> dict[str, Any]:
        """The network alone, polished in three ways, and iterations for as long as the preview takes."""
        seen, seen_s = _timed(self._seen)
        more, more_s = _timed(lambda: retrieve(self.shown, _ER, start=Start(initial=seen)).density)
        told = {ALONE: self._told(seen, seen_s), WITH_ER: self._told(more, seen_s + more_s)}
        result, took_s = _timed(lambda: preview(self.shown.intensity, mask=self.shown.mask, device="cpu"))
        told[PREVIEW] = self._told(result.density, took_s) | {"refused": "unlike" in result.provenance}
        told |= self._iterated([took_s], [AS_LONG])
        told[WITH_RECIPE] = self._timed(lambda: self._recipe(NetworkGuess(device="cpu")))
        return told

    def without(self) -> dict[str, Any]:
        """The automatic recipe, and iterations for one, five and twenty seconds."""
        names = [f"HIO/ER, {seconds:g} s" for seconds in SECONDS]
        return {RECIPE: self._timed(lambda: self._recipe(None)), **self._iterated(SECONDS, names)}

    def _iterated(self, seconds: Sequence[float], names: Sequence[str]) -> dict[str, Any]:
        told = {}
        for limit_s, name in zip(seconds, names):
            told[f"{name}, one start"] = self._timed(partial(self._iterations.single, limit_s))
        for limit_s, name, found in zip(seconds, names, self._iterations.several(seconds)):
            told[f"{name}, best of starts"] = self._told(found, limit_s)
        return told

    def _recipe(self, guess: NetworkGuess | None) -> Object:
        return phase_pattern(self.shown, Plan(guess=guess))[0].density

    def _seen(self) -> Object:
        """What the network says in one view, whether or not it should be asked."""
        grid = Grid.of(self.shown)
        (sight,) = look(shipped("cpu")[0], grid.seen(self.shown), grid.oversampling, VIEWS[:1])
        return scaled(grid.measured_object(sight.density), self.shown)

    def _timed(self, run: Callable[[], Object]) -> dict[str, Any]:
        return self._told(*_timed(run))

    def _told(self, found: Object, seconds: float) -> dict[str, Any]:
        density = scaled(found, self.shown)
        modulus = np.abs(centred_transform(density))
        score = None if self._free is None else free_llk(modulus, self.pattern, self._free)
        return {"correlation": likeness(density, self.truth), "free_llk": score, "seconds": seconds}


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the seconds of the processor that it took."""
    began_s = process_time()
    found = run()
    return found, process_time() - began_s


def measure(crystals: int, *, output: Path, edge: int = 64, seconds: float | None = None) -> dict[str, Any]:
    """Goes on with `output`/table-`edge`.json until `crystals` of each kind are done, or no more are begun after
    `seconds`; writes the table beside it as .md, and gives the means. Raises ScanError for a file that is none."""
    torch.set_num_threads(1)
    network = shipped("cpu")[1].sha256[:12]
    path = output / f"table-{edge}.json"
    output.mkdir(parents=True, exist_ok=True)
    kept = _read(path)
    began_s = monotonic()
    wanted = list(cases(crystals))
    for case in wanted:
        done = kept.get(str(asdict(case)), {})
        if done.get("network") == network:
            continue
        judge = Judge(case, edge)
        plain = done.get("plain") or judge.without()
        kept[str(asdict(case))] = {
            **asdict(case),
            "network": network,
            "plain": plain,
            "methods": judge.with_network(),
        }
        _write(path, json.dumps(list(kept.values()), indent=1))
        if seconds is not None and monotonic() - began_s >= seconds:
            break
    rows = [row for case in wanted if (row := kept.get(str(asdict(case)))) and row["network"] == network]
    _write(path.with_suffix(".md"), _markdown(rows, edge, len(wanted)))
    return {
        f"correlation with the truth, {len(rows)} of {len(wanted)} crystals": {
            name: _by_group(rows, name)["all"] for name in _names(rows)
        },
        "": {"all of it": str(path.with_suffix(".md"))},
    }


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        rows = json.loads(path.read_text())
        return {str({key: row[key] for key in Case.__slots__}): row for row in rows}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ScanError(f"{path} is no table of the preview's ({error}); give another --output") from None


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(f"{path.suffix}.partial")
    partial.write_text(text)
    partial.replace(path)


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [*rows[0]["methods"], *rows[0]["plain"]] if rows else []


def _of(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = {**row["plain"], **row["methods"]}[name]
    return found


def _groups() -> dict[str, Mapping[str, Any]]:
    """What crystals are counted together: all, and those of a family, a strain, so many counts."""
    return {
        "all": {},
        **{name: {"family": name} for name in HELD_OUT.fields},
        **{name: {"strain": name} for name in STRAINS},
        **{f"{photons:.0e}": {"photons": photons} for photons in PHOTONS},
    }


def _by_group(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    """Mean correlation by group, the median of free_llk and of the seconds."""
    found = {}
    for group, alike in _groups().items():
        if members := [_of(row, name)["correlation"] for row in rows if alike.items() <= row.items()]:
            found[group] = fmean(members)
    scores = [score for row in rows if (score := _of(row, name)["free_llk"]) is not None]
    found |= {"free_llk": median(scores)} if scores else {}
    return found | {"seconds": median(_of(row, name)["seconds"] for row in rows)}


def _markdown(rows: Sequence[Mapping[str, Any]], edge: int, wanted: int) -> str:
    if not rows:
        return "nothing is measured yet\n"
    refused = sum(row["methods"][PREVIEW]["refused"] for row in rows)
    lines = [
        f"{len(rows)} of {wanted} crystals of {edge}^3 voxels, network {rows[0]['network']};"
        f" the guard refused {refused}. Mean complex correlation with the truth; free_llk is the median,"
        " the smaller the better; seconds of one thread.",
        "",
        *_by_method(rows),
        "",
        "Correlation and, in brackets, free_llk by kind of crystal:",
        "",
        *_by_kind(rows),
    ]
    return "\n".join(lines) + "\n"


def _by_method(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = [*_groups(), "free_llk", "seconds"]
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in _names(rows):
        values = _by_group(rows, name)
        shown = (f"{values[column]:.3g}" if column in values else "" for column in columns)
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return lines


def _by_kind(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = _names(rows)
    lines = [f"| family | strain | photons | {' | '.join(names)} |", "|---" * (len(names) + 3) + "|"]
    for kind in dict.fromkeys((row["family"], row["strain"], row["photons"]) for row in rows):
        members = [row for row in rows if (row["family"], row["strain"], row["photons"]) == kind]
        cells = []
        for name in names:
            alike = fmean(_of(row, name)["correlation"] for row in members)
            scores = [score for row in members if (score := _of(row, name)["free_llk"]) is not None]
            cells.append(f"{alike:.3f}" + (f" ({median(scores):.3g})" if scores else ""))
        lines.append(f"| {kind[0]} | {kind[1]} | {kind[2]:.0e} | {' | '.join(cells)} |")
    return lines
