"""Where one motor maximises the counts: a Gaussian through Poisson counts, and where to look next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..types import ScanError

Floats = NDArray[np.float64]

_FEWEST = 4  # looks: three numbers are fitted
_STEPS = 60
_CLOSE = 1e-6
_WIDTHS = 0.7  # standard deviation of the logarithm of the width that was expected: twice or half of it
_ANY_HEIGHT = 3.0  # the same of the height: 20 times more or less than the brightest look
_CANDIDATES = np.linspace(-2.5, 2.5, 21)  # widths from the centre
_AWAY = 2.0  # widths beyond the outermost look, while the top is there
_CLEARLY = 3.0  # standard deviations: a look that sees a peak
_FARTHEST = 8.0  # standard deviations of what was expected: there is no sense beyond
_FLANK = 0.5  # widths from the top: there it has fallen by an eighth
# Of the height: how far a rocking curve is from a Gaussian. Its first fringes have 4.7 % of it.
_UNLIKE = 0.04


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """`counts` of the peak with the motor at `position`, in `dose_s` seconds of full beam, over a background that
    is expected to have `background` counts in it."""

    position: float
    counts: float
    dose_s: float
    background: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Maximise:
    """To find the top within `limits`, to a standard deviation of `tolerance`, in `most` looks. It is expected
    about `start`; `width` is the standard deviation of the peak, known within a factor of two. Raises ScanError
    for numbers that are none."""

    start: float
    width: float
    limits: tuple[float, float]
    tolerance: float
    most: int = 20

    def __post_init__(self) -> None:
        low, high = self.limits
        if not (math.isfinite(low) and math.isfinite(high) and low <= self.start <= high):
            raise ScanError(f"a motor begins within its limits: not at {self.start} in {low} to {high}")
        if not (0 < self.width < math.inf and self.tolerance > 0 and self.most >= _FEWEST):
            raise ScanError(
                f"a peak has a width, its place a tolerance, and takes {_FEWEST} looks: not {self.width},"
                f" {self.tolerance}, {self.most}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Next:
    """Look at `position`; come to it from below, always: a motor's play is then the same for all looks."""

    position: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Top:
    """The top is at `position`, with standard deviation `std`; the peak's `width` and its `rate` at the top, in
    counts a second of full beam. `done` is False where the looks ran out before the tolerance was met, and `why`
    says so."""

    position: float
    std: float
    width: float
    rate: float
    done: bool
    why: str


def next_look(looks: Sequence[Look], wanted: Maximise) -> Next | Top:
    """The next place to look, or the top. After one look at the start and one on each side, each is where the
    error of the top will be the least; while the highest is the outermost, beyond it.

    Raises ScanError for looks that are no numbers.
    """
    for look in looks:
        numbers = (look.position, look.counts, look.dose_s, look.background)
        if not all(map(math.isfinite, numbers)) or look.dose_s <= 0 or look.counts < 0 or look.background < 0:
            raise ScanError(f"a look is a place, counts, a dose and a background that are numbers, not {look}")
    opening = _opening(looks, wanted)
    if opening is not None:
        return opening
    fit = _Fit(looks, wanted)
    over = len(looks) >= wanted.most
    top = Top(
        position=float(np.clip(fit.centre, *wanted.limits)),
        std=fit.std,
        width=fit.width,
        rate=fit.height,
        done=fit.is_enclosed(looks) and fit.std <= wanted.tolerance,
        why="",
    )
    if top.done:
        return top
    if over:
        return replace(top, why=_why(top, wanted, seen=fit.stands_out(looks)))
    beyond = _beyond(looks, fit, wanted)
    return Next(position=fit.best_next(wanted)) if beyond is None else beyond


def _why(top: Top, wanted: Maximise, *, seen: bool) -> str:
    if not seen:
        return f"no peak stands out of the background in {wanted.most} looks"
    return f"after {wanted.most} looks it is known to {top.std:.2g}, not to {wanted.tolerance:.2g}"


def _opening(looks: Sequence[Look], wanted: Maximise) -> Next | None:
    places = [wanted.start, wanted.start - wanted.width, wanted.start + wanted.width]
    if len(looks) >= len(places):
        return None
    return Next(position=float(np.clip(places[len(looks)], *wanted.limits)))


def _beyond(looks: Sequence[Look], fit: "_Fit", wanted: Maximise) -> Next | None:
    """Farther out, where the counts still rise there."""
    rates = [(look.counts - look.background) / look.dose_s for look in looks]
    places = [look.position for look in looks]
    top = places[int(np.argmax(rates))]
    low, high = wanted.limits
    step = _AWAY * max(wanted.width, fit.width)
    if fit.stands_out(looks) and not fit.is_enclosed(looks):
        if top == max(places) and top < high:
            return Next(position=min(top + step, high))
        if top == min(places) and top > low:
            return Next(position=max(top - step, low))
    if not fit.stands_out(looks):
        up, down = min(max(places) + step, high), max(min(places) - step, low)
        nearer_up = up - wanted.start <= wanted.start - down
        if up > max(places) and (nearer_up or down >= min(places)):
            return Next(position=up)
        if down < min(places):
            return Next(position=down)
    return None


class _Fit:
    """counts = dose height exp(-(x - centre)^2 / 2 width^2) + background: the most likely of height, centre and
    width, with what was expected of width and height as a prior. The variance of a look is that of counting and
    that of a peak that is no Gaussian; the errors are by the Fisher information, and larger by as much as the
    counts are off the curve by more than that."""

    def __init__(self, looks: Sequence[Look], wanted: Maximise) -> None:
        self._x, counts, self._dose, background = np.array(
            [(look.position, look.counts, look.dose_s, look.background) for look in looks], np.float64
        ).T
        self._counts, self._background = counts, np.maximum(background, 1e-3)
        rates = np.maximum(counts - background, 1.0) / self._dose
        self._prior = np.array([math.log(rates.max()), wanted.start, math.log(wanted.width)])
        reach = max(wanted.limits[1] - wanted.limits[0], wanted.width)
        spreads = np.array([_ANY_HEIGHT, reach, _WIDTHS])
        self._precision, self._reach = np.diag(spreads**-2), _FARTHEST * spreads
        starts = {float(x) for x in self._x[np.argsort(rates)[-3:]]}
        best = min((self._climbed(start) for start in starts), key=lambda found: found[1])
        self._at, misfit = best
        self.height, self.centre, self.width = (
            float(math.exp(self._at[0])),
            float(self._at[1]),
            float(math.exp(self._at[2])),
        )
        self._known = self._information(self._at)
        self._excess = max(1.0, misfit / max(len(looks) - 3, 1)) if len(looks) > 3 else 1.0
        covariance = np.linalg.inv(self._known) * self._excess
        self.std = float(math.sqrt(covariance[1, 1]))

    def _model(self, at: Floats, x: Floats, dose: Floats) -> tuple[Floats, Floats]:
        """What is expected of the peak, and its slopes (looks, 3)."""
        away = np.clip((x - at[1]) / math.exp(at[2]), -30, 30)
        peak = dose * math.exp(at[0]) * np.exp(-(away**2) / 2)
        return peak, peak[:, None] * np.stack([np.ones_like(x), away / math.exp(at[2]), away**2], axis=1)

    def _information(self, at: Floats) -> Floats:
        peak, slopes = self._model(at, self._x, self._dose)
        mean = peak + self._background
        return np.asarray((slopes.T * (self._share(at, mean, self._dose) / mean)) @ slopes + self._precision)

    def _share(self, at: Floats, mean: Floats, dose: Floats) -> Floats:
        """That counting has in the variance."""
        return np.asarray(mean / (mean + (_UNLIKE * dose * math.exp(at[0])) ** 2))

    def _cost(self, at: Floats) -> float:
        mean = self._model(at, self._x, self._dose)[0] + self._background
        seen = np.where(self._counts > 1e-9, self._counts, 1.0)
        apart = mean - self._counts + self._counts * np.log(seen / mean)
        deviance = 2 * float((self._share(at, mean, self._dose) * apart).sum())
        off = at - self._prior
        return deviance + float(off @ self._precision @ off)

    def _climbed(self, start: float) -> tuple[Floats, float]:
        """Fisher scoring (Levenberg's): steps that do not lower the cost are made shorter."""
        at = np.array([self._prior[0], start, self._prior[2]])
        cost, damping = self._cost(at), 1e-3
        for _ in range(_STEPS):
            peak, slopes = self._model(at, self._x, self._dose)
            mean = peak + self._background
            uphill = slopes.T @ (
                self._share(at, mean, self._dose) * (self._counts / mean - 1)
            ) - self._precision @ (at - self._prior)
            known = self._information(at)
            step = np.linalg.solve(known + damping * np.diag(np.diag(known)), uphill)
            step[[0, 2]] = np.clip(step[[0, 2]], -1, 1)
            there = np.clip(at + step, self._prior - self._reach, self._prior + self._reach)
            new = self._cost(there)
            if new <= cost:
                small = cost - new < _CLOSE
                at, cost, damping = there, new, damping / 5
                if small:
                    break
            else:
                damping *= 5
        return at, cost

    def stands_out(self, looks: Sequence[Look]) -> bool:
        """Whether there is a peak at all, by the brightest look."""
        return any(
            look.counts - look.background > _CLEARLY * math.sqrt(look.background + max(look.counts, 1.0))
            for look in looks
        )

    def is_enclosed(self, looks: Sequence[Look]) -> bool:
        """Whether there were looks on both flanks of the top."""
        if len(looks) < _FEWEST or not self.stands_out(looks):
            return False
        flank = max(_FLANK * self.width, 2 * self.std)
        return float(self._x.min()) < self.centre - flank and self.centre + flank < float(self._x.max())

    def best_next(self, wanted: Maximise) -> float:
        """Within the limits, where the next look leaves the least error of the top."""
        dose = np.full(1, float(self._dose[-1]))
        background = float(self._background[-1])
        errors = []
        places = np.clip(self.centre + self.width * _CANDIDATES, *wanted.limits)
        for place in places:
            peak, slopes = self._model(self._at, np.array([place]), dose)
            share = self._share(self._at, peak + background, dose)
            known = self._known + (slopes.T * (share / (peak + background))) @ slopes
            errors.append(float(np.linalg.inv(known)[1, 1]))
        return float(places[int(np.argmin(errors))])
