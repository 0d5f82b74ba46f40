"""When enough has been measured, in the user's words: "15 nm resolution or 5 minutes"."""

import math
import re
from dataclasses import dataclass

from ..types import ScanError
from .dose import CRITERION, ShellSignal, dose_for, resolved

_LENGTHS_NM = {"nm": 1.0, "å": 0.1, "a": 0.1, "angstrom": 0.1, "um": 1e3, "µm": 1e3}
_TIMES_S = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
_COUNTS = {"counts": 1.0, "count": 1.0, "photons": 1.0}
_TERM = re.compile(r"(?P<number>[0-9.]+(?:e[+-]?[0-9]+)?)\s*(?P<unit>[a-zåµ]+)(?:\s+(?:resolution|or better))?")
_HOW = 'write it like "15 nm or 5 minutes or 1e7 counts"'


@dataclass(frozen=True, kw_only=True, slots=True)
class StoppingRule:
    """Stop at whichever comes first: a full period of `resolution_nm` with its error bar on the safe side,
    `seconds`, `counts`; None for what was not said. `text` is what the user wrote."""

    text: str
    resolution_nm: float | None = None
    seconds: float | None = None
    counts: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether to `stop`, and `why` in a sentence. `resolution_nm` and `std_nm` are those now, NaN where nobody
    knows; `dose_ratio` is how many times the dose so far the asked resolution takes, and `seconds_left` how much
    longer that is at the pace so far; infinite where it is out of reach, NaN where no resolution was asked."""

    stop: bool
    why: str
    resolution_nm: float = math.nan
    std_nm: float = math.nan
    dose_ratio: float = math.nan
    seconds_left: float = math.nan


def parse_rule(text: str) -> StoppingRule:
    """From terms joined by "or", each a number and a unit: nm, Å or µm (of a full period, "resolution" may
    follow), s, min or h, counts. Raises ScanError that says what is not understood."""
    found: dict[str, float] = {}
    for term in re.split(r"\s+or\s+(?!better)|,", text.strip().lower()):
        name, value = _term(term.strip(), text)
        if name in found:
            raise ScanError(f"the stopping rule {text!r} says {name.split('_')[0]} twice; say it once")
        found[name] = value
    return StoppingRule(text=text, **found)


def _term(term: str, text: str) -> tuple[str, float]:
    match = _TERM.fullmatch(term)
    tables = {"resolution_nm": _LENGTHS_NM, "seconds": _TIMES_S, "counts": _COUNTS}
    for name, units in tables.items():
        if match is not None and match["unit"] in units:
            try:
                value = float(match["number"]) * units[match["unit"]]
            except ValueError:
                break
            if 0 < value < math.inf:
                return name, value
    raise ScanError(f"{term!r} in the stopping rule {text!r} is not understood; {_HOW}")


def decide(
    rule: StoppingRule,
    *,
    seconds: float,
    counts: float,
    signal: ShellSignal | None,
    criterion: float = CRITERION,
) -> Verdict:
    """Whether to go on after so many `seconds` and `counts`; `signal` is what they speak for, None where that is
    not known yet."""
    over = _over(rule, seconds, counts)
    if signal is None:
        return Verdict(stop=bool(over), why=over or "not enough counts yet to speak of a resolution")
    now = resolved(signal, criterion=criterion)
    known = f"the counts speak for {now.resolution_nm:.1f} ± {now.std_nm:.1f} nm"
    if rule.resolution_nm is None:
        return Verdict(
            stop=bool(over), why=f"{over or 'go on'}: {known}", resolution_nm=now.resolution_nm, std_nm=now.std_nm
        )
    reached = now.resolution_nm + now.std_nm <= rule.resolution_nm
    ratio = dose_for(signal, rule.resolution_nm, criterion=criterion)
    return Verdict(
        stop=bool(over) or reached,
        why=f"{over or _how_far(rule.resolution_nm, ratio, reached=reached)}: {known}",
        resolution_nm=now.resolution_nm,
        std_nm=now.std_nm,
        dose_ratio=ratio,
        seconds_left=max(0.0, (ratio - 1) * seconds),
    )


def _over(rule: StoppingRule, seconds: float, counts: float) -> str:
    if rule.seconds is not None and seconds >= rule.seconds:
        return f"{rule.seconds:.4g} s are over"
    if rule.counts is not None and counts >= rule.counts:
        return f"{rule.counts:.4g} counts are there"
    return ""


def _how_far(resolution_nm: float, ratio: float, *, reached: bool) -> str:
    if reached:
        return f"{resolution_nm:.4g} nm is reached"
    if math.isinf(ratio):
        return f"{resolution_nm:.4g} nm is beyond what is measured or known"
    return f"{resolution_nm:.4g} nm takes {max(ratio, 1.0):.2g} times the counts so far"
