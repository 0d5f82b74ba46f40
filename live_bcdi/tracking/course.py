"""Where the frames of an assembly are: series and chances in turn, on a grid of angles and rolls."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .band import Band, Floats, band_of
from .disorder import NEAR
from .expect import Expectation, expectation
from .fringes import Fringes
from .rolls import Turned
from .seriation import seriated
from .walk import Posterior, angle_step, forward_backward, roll_step

_POINTS = 400  # of the grid of angles, at most
_FINER = 4  # points a step, where a motor tells the step
_BEYOND = 2.0  # steps beyond the nominal angles
_NOMINAL = (2.0, 1e-4)  # steps that a crystal is off its motor, and the chance that a frame is anywhere
_SLIP = 0.05  # steps from frame to frame besides the motor: what is less than a step is left to `track_scan`
_NARROW = 0.15  # steps about an angle that is known
_WIDE = 0.025  # of the grid, about a first guess
_WALK = 0.05  # of the whole grid, at most, from frame to frame of a free crystal
_ROLL_WALK_PX = 3.0
_ROLL_OFF_PX = 1.5  # of the centre of mass, which strain moves as the crystal turns
_STRAY = 0.05  # counts: below it an expectation is no variance to divide by
_SHARES = (0.25, 0.4, 0.6, 0.75, 1, 1, 1, 1, 1, 1, 1)  # of the terms, one after the other
_PHOTONS = (50.0, 1000.0)  # of the brightest frame, first and last but one
_END = 0.02  # of the grid, beside a first guess
_TWICE = 3  # fits between changes of order and temperature


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """The grid of angles, the series on it, where the frames are asked to be, and orders and temperatures to run
    through; `nominal` is None for a free crystal."""

    grid: Floats
    band: Band
    start: Floats
    nominal: Floats | None
    orders: tuple[int, ...]
    heats: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Chances of all frames, and `evidence`, the logarithm of their likelihood less the cost of the volume's
    prior, by which courses are compared; `expected` counts (angles, pixels) are of the fitted volume."""

    posterior: Posterior
    evidence: float
    expected: NDArray[np.float32]
    course: Course


def infer(turned: Turned, course: Course, fringes: Fringes) -> Found:
    """Chances of each frame's roll and angle: series and chances in turn (expectation maximisation), from few
    terms and a high temperature to all terms and none. Where a motor tells the angles, frames less than a step off
    are fitted where it says, as a first series, wrong by the frames that are far off, would make them wander."""
    frames, rolls = turned.rolls_deg.shape
    width = _NARROW if course.nominal is not None else _WIDE * float(np.ptp(course.grid))
    middle = np.tile(np.arange(rolls) == rolls // 2, (frames, 1)).astype(np.float64)
    chance = _about(course, course.start, middle, width)
    prior = _prior(course)[:, None] + _roll_prior(turned.rolls_deg)[:, None]
    roll_steps, slip = list(_roll_steps(turned.rolls_deg)), _slip(course)
    model: Expectation | None = None
    for order, heat in zip(course.orders, course.heats, strict=True):
        band = replace(course.band, order=order)
        for _ in range(_TWICE):
            model = expectation(_filled(turned, chance, model), chance, course.grid, band, fringes)
            trust = heat if course.nominal is None else 1 / _misfit(turned, chance, model)
            seen = trust * model.log_likelihood(turned.counts, turned.used) + prior
            found = forward_backward(seen, roll_steps, list(_angle_steps(course, slip)))
            chance = found.chance
            if course.nominal is not None:
                chance = _about(course, near(found, course)[0], chance.sum(axis=2), width)
        slip = _slip(course, found.chance.sum(axis=1) @ course.grid)
    assert model is not None
    evidence = found.log_likelihood - model.cost
    return Found(posterior=found, evidence=evidence, expected=model.counts, course=course)


def _misfit(turned: Turned, chance: Floats, model: Expectation) -> float:
    """Chi squared of a block, not below 1: frames that jitter fit worse than by counting noise, and say less."""
    expected = model.counts[chance.sum(axis=1).argmax(axis=1)]
    roll = turned.counts.shape[1] // 2
    apart = turned.used[:, roll] * (turned.counts[:, roll] - expected) ** 2 / (expected + _STRAY)
    return max(1.0, float(apart.sum() / turned.used[:, roll].sum()))


def _about(course: Course, angles: Floats, rolls: Floats, width: float) -> Floats:
    """Chances (frames, rolls, angles) normal about `angles`."""
    made = np.exp(-0.5 * ((course.grid - angles[:, None]) / width) ** 2)
    return np.asarray(rolls[:, :, None] * (made / made.sum(axis=1, keepdims=True))[:, None])


def near(found: Posterior, course: Course) -> tuple[Floats, Floats]:
    """Each frame's angle and standard deviation; the motor's angle where it is less than a step away."""
    chance = found.chance.sum(axis=1)
    angles, std = peak(chance, np.broadcast_to(course.grid, chance.shape))
    if course.nominal is None:
        return angles, std
    return np.where(np.abs(angles - course.nominal) < NEAR, course.nominal, angles), std


def _filled(turned: Turned, chance: Floats, model: Expectation | None) -> Turned:
    """With holes as the model fills them; before there is one, as the frame's mean."""
    if turned.used.all():
        return turned
    if model is None:
        seen = turned.counts.sum(axis=(0, 1)) / np.maximum(turned.used.sum(axis=(0, 1)), 1)
    else:
        seen = model.counts[chance.sum(axis=1).argmax(axis=1)][:, None]
    return replace(turned, counts=np.where(turned.used > 0, turned.counts, seen).astype(np.float32))


def free(turned: Turned, terms: int, fringes: Fringes) -> list[Course]:
    """Courses of a crystal that no motor turns, of which the likeliest is right: from one end to the other at an
    even pace, or as the frames are alike, which finds ways back, once with few terms at first and once with all.

    The temperature is such that of the brightest frame so many photons count: while they do not tell its angle
    sharply, the whole scan can be warped.
    """
    frames = len(turned.counts)
    grid = np.linspace(0, frames - 1, min(2 * frames, _POINTS))
    order = (terms - 1) // 2
    few = tuple(max(1, round(order * share)) for share in _SHARES)
    bright = float(turned.middle().sum(axis=(1, 2)).max())
    heats = (*np.minimum(1, np.geomspace(*_PHOTONS, len(few) - 1) / bright).tolist(), 1.0)
    band = replace(band_of(grid, 1.0), order=order)
    starts = [(np.linspace(0, 1, frames), few)]
    line = seriated(turned.middle(), fringes)
    if line is not None:
        starts += [(line, few), (line, (order,) * len(few))]
    return [
        Course(
            grid=grid,
            band=band,
            start=_along(grid, start),
            nominal=None,
            orders=orders,
            heats=heats,
        )
        for start, orders in starts
    ]


def anew(found: Found, first: Course, shape: tuple[int, int]) -> list[Course]:
    """As `first`, of `free`, but begun on the line of the frames that `found` expects, which have no noise: where
    that is warped its volume varies too fast or too slowly, and how alike frames are undoes some of it."""
    images = (found.posterior.chance.sum(axis=1) @ found.expected).reshape(-1, *shape)
    line = seriated(images, None)
    return [] if line is None else [replace(first, start=_along(first.grid, line))]


def _along(grid: Floats, places: Floats) -> Floats:
    """Places from 0 to 1 on the grid, but for its ends."""
    return np.asarray(grid[-1] * (_END + (1 - 2 * _END) * places))


def driven(nominal: Floats, cutoff: float) -> Course:
    """The course of a crystal that a motor turns, with steps between nominal angles of 1 on the whole."""
    low, high = nominal.min() - _BEYOND, nominal.max() + _BEYOND
    grid = np.linspace(low, high, min(_POINTS, int(np.ceil((high - low) * _FINER)) + 1))
    band = band_of(grid, cutoff)
    heats = (0.3, 1.0, 1.0, 1.0)
    return Course(
        grid=grid, band=band, start=nominal, nominal=nominal, orders=(band.order,) * len(heats), heats=heats
    )


def _prior(course: Course) -> Floats:
    """Logarithm of the chance (frames, angles) that the motor gives an angle."""
    if course.nominal is None:
        return np.zeros((len(course.start), course.grid.size))
    width, anywhere = _NOMINAL
    near = np.exp(-0.5 * ((course.grid - course.nominal[:, None]) / width) ** 2)
    close = near / near.sum(axis=1, keepdims=True)
    return np.asarray(np.log((1 - anywhere) * close + anywhere / course.grid.size))


def _slip(course: Course, angles: Floats | None = None) -> float:
    """From frame to frame, besides what the motor does; of a free crystal, what it was last seen to do."""
    most = _WALK * float(np.ptp(course.grid))
    if course.nominal is not None:
        return _SLIP
    if angles is None:
        return most
    return float(np.clip(1.2 * np.sqrt(np.mean(np.diff(angles) ** 2)), course.grid[1] - course.grid[0], most))


def _angle_steps(course: Course, slip: float) -> Iterator[Floats]:
    moves = np.zeros(len(course.start) - 1) if course.nominal is None else np.diff(course.nominal)
    made: dict[float, Floats] = {}
    for move in np.round(moves, 3).tolist():
        if move not in made:
            made[move] = angle_step(course.grid, move, slip)
        yield made[move]


def _roll_prior(rolls_deg: Floats) -> Floats:
    """Logarithm of the chance of each roll, by the centre of mass where that tells one: all frames rolled in
    proportion to their angles show a sheared crystal, which is one as well."""
    middle = rolls_deg.shape[1] // 2
    if not rolls_deg[:, middle].any():
        return np.zeros(rolls_deg.shape[1])
    return np.asarray(-0.5 * ((np.arange(rolls_deg.shape[1]) - middle) / _ROLL_OFF_PX) ** 2)


def _roll_steps(rolls_deg: Floats) -> Iterator[Floats]:
    if rolls_deg.shape[1] == 1:
        yield from (np.ones((1, 1)) for _ in rolls_deg[1:])
        return
    width = _ROLL_WALK_PX * float(rolls_deg[0, 1] - rolls_deg[0, 0])
    yield from (roll_step(before, after, width) for before, after in pairwise(rolls_deg))


def peak(chance: Floats, places: Floats) -> tuple[Floats, Floats]:
    """The most likely place of each row, between the points of the grid, and the standard deviation about it."""
    index = np.arange(len(chance))
    if chance.shape[1] < 3:
        return places[:, 0].copy(), np.zeros(len(chance))
    top = np.clip(chance.argmax(axis=1), 1, chance.shape[1] - 2)
    left, middle, right = (np.log(np.maximum(chance[index, top + n], 1e-300)) for n in (-1, 0, 1))
    bend = np.maximum(2 * middle - left - right, 1e-9)
    spacing = places[index, top + 1] - places[index, top]
    place = places[index, top] + spacing * np.clip((right - left) / (2 * bend), -0.5, 0.5)
    mean = (chance * places).sum(axis=1)
    wide = (chance * (places - mean[:, None]) ** 2).sum(axis=1)
    return place, np.sqrt(np.maximum(wide, spacing**2 * np.minimum(1 / bend, 1 / 12)))
