"""What the analysis tells a plan, and what a plan takes of it: nothing moves a motor beyond its limits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..types import ScanError

OLDEST_S = 60.0
SKEW_S = 2.0  # between the clocks of two hosts
MOST_VALUES, MOST_NUMBERS = 100, 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """`what` to do ("move", "sweep", "stop", ...) with which `values`, numbers or lists of them, their standard
    deviations where they are known (`uncertainty`, by the same names), and `why` in a sentence. It was made at
    `made_at_s` (seconds since 1970) of the first `frames` frames of `run`."""

    what: str
    values: Mapping[str, float | Sequence[float]] = field(default_factory=dict)
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    made_at_s: float
    run: str
    frames: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a plan takes: of `run`, one of `whats`, `values` within (low, high) of `ranges`, of no other names;
    made after `after_s`, which is that of the last advice taken, and no longer than `oldest_s` ago. Raises
    ScanError where a range is none."""

    ranges: Mapping[str, tuple[float, float]]
    run: str
    whats: tuple[str, ...]
    after_s: float = -math.inf
    oldest_s: float = OLDEST_S

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ScanError(f"the limits of {name!r} are two finite numbers that rise, not {low} and {high}")


def acceptable(advice: Advice, limits: Limits, now_s: float) -> str:
    """Why a plan must not follow an advice; empty where it may. Advice that came from elsewhere may hold anything:
    nothing of it is believed."""
    return _misdirected(advice, limits) or _untimely(advice, limits, now_s) or _beyond(advice, limits)


def _misdirected(advice: Advice, limits: Limits) -> str:
    if advice.run != limits.run:
        return f"it is for run {str(advice.run)[:8]!r}, not {limits.run[:8]!r}"
    if advice.what not in limits.whats:
        return f"it says {str(advice.what)[:40]!r}, where one of {', '.join(limits.whats)} was asked"
    return ""


def _untimely(advice: Advice, limits: Limits, now_s: float) -> str:
    if not is_number(advice.made_at_s):
        return "it does not say when it was made"
    if advice.made_at_s <= limits.after_s:
        return "it is one that was there before"
    if advice.made_at_s > now_s + SKEW_S:
        return f"it was made {advice.made_at_s - now_s:.3g} s from now: set the clocks of the two computers"
    if now_s - advice.made_at_s > limits.oldest_s:
        return f"it is {now_s - advice.made_at_s:.3g} s old, more than {limits.oldest_s:.4g}"
    return ""


def _beyond(advice: Advice, limits: Limits) -> str:
    if not isinstance(advice.values, Mapping) or not isinstance(advice.uncertainty, Mapping):
        return "its values are no table"
    if max(len(advice.values), len(advice.uncertainty)) > MOST_VALUES:
        return f"it has more than {MOST_VALUES} values"
    for name, value in advice.values.items():
        if name not in limits.ranges:
            return f"nothing says how far {str(name)[:40]!r} may go"
        if why := _outside(value, limits.ranges[name]):
            return f"its {name} is {why}"
    for name, spread in advice.uncertainty.items():
        if name not in advice.values or not is_number(spread) or spread < 0:
            return f"the uncertainty of {str(name)[:40]!r} is none"
    return ""


def _outside(value: Any, limits: tuple[float, float]) -> str:
    """What is wrong with a number, or one of a list of them."""
    numbers = value if isinstance(value, list | tuple) else [value]
    if len(numbers) > MOST_NUMBERS:
        return f"a list of more than {MOST_NUMBERS}"
    low, high = limits
    for number in numbers:
        if not is_number(number):
            return f"{str(number)[:40]}, not a finite number"
        if not low <= number <= high:
            return f"{number:.6g}, beyond the limits {low:.6g} to {high:.6g}"
    return ""


def is_number(value: object) -> bool:
    """Whether it is a finite number, and not a flag or an integer beyond all floats."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
