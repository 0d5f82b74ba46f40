"""Where the frames of an assembly are: series and chances in turn, on a grid of angles and rolls."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .band import Band, Floats, band_of
from .crystal import CrystalFit, waves_of
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
_PHOTONS = (300.0, 5000.0)  # of the brightest frame that count, first and last but one; with more, frames hold
_HEATS = 20
_SHRUNK = 0.85  # of a first guess: a bright middle that is stretched is harder to press together than to draw out
_ROUNDS = 12  # of fit and chances, where a motor tells the angles
_GAIN = 0.1  # nats a parameter: a wrong even pace gained 0.03, one where the line was folded 0.4
_END = 0.02  # of the grid, beside a first guess

Fit = Callable[[Turned, Floats], Expectation]  # of frames without holes and their chances


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """The grid of angles, the series on it, where the frames are asked to be, and temperatures to run through;
    `nominal` is None for a free crystal."""

    grid: Floats
    band: Band
    start: Floats
    nominal: Floats | None
    heats: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Chances of all frames, the counts (angles, pixels) that the model expects, and its number of parameters."""

    posterior: Posterior
    course: Course
    expected: NDArray[np.float32]
    parameters: int


def infer(turned: Turned, course: Course, fringes: Fringes) -> Found:
    """Chances of each frame's roll and angle: model and chances in turn (expectation maximisation), from a high
    temperature to none. Where a motor tells the angles the model is a series, and frames less than a step off are
    fitted where the motor says, as a first series, wrong by the frames that are far off, would make them wander.
    Where none does it is one crystal."""
    frames, rolls = turned.rolls_deg.shape
    width = _NARROW if course.nominal is not None else _WIDE * float(np.ptp(course.grid))
    middle = np.tile(np.arange(rolls) == rolls // 2, (frames, 1)).astype(np.float64)
    chance = _about(course, course.start, middle, width)
    prior = _prior(course)[:, None] + _roll_prior(turned.rolls_deg)[:, None]
    roll_steps, slip = list(_roll_steps(turned.rolls_deg)), _slip(course)
    (fit, parameters), model = _fit(turned, course, fringes), None
    shared = np.broadcast_to(turned.used.min(axis=1, keepdims=True), turned.used.shape)
    shown = turned.counts * shared  # at all rolls, or a roll would win by what it hides
    for heat in course.heats:
        model = fit(_filled(turned, chance, model), chance)
        trust = heat if course.nominal is None else 1 / _misfit(turned, chance, model)
        seen = trust * model.log_likelihood(shown, shared) + prior
        found = forward_backward(seen, roll_steps, list(_angle_steps(course, slip)))
        chance = found.chance
        if course.nominal is not None:
            chance = _about(course, near(found, course)[0], chance.sum(axis=2), width)
        slip = _slip(course, found.chance.sum(axis=1) @ course.grid)
    assert model is not None
    return Found(posterior=found, course=course, expected=model.counts, parameters=parameters)


def _fit(turned: Turned, course: Course, fringes: Fringes) -> tuple[Fit, int]:
    if course.nominal is not None:
        made = partial(expectation, angles=course.grid, band=course.band, fringes=fringes)
        return made, course.band.terms * turned.counts.shape[2]
    waves = waves_of(course.grid, course.band, turned.shape, fringes)
    return CrystalFit(waves, turned.shape), 2 * int(np.prod(waves.box()))


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
    """Courses of a crystal that no motor turns: one begins as the frames are alike, which finds ways back but
    needs bright ones, and one goes from one end to the other at an even pace.

    The temperature is such that of the brightest frame so many photons count: while they do not tell its angle
    sharply, the whole scan can be warped.
    """
    frames = len(turned.counts)
    grid = np.linspace(0, frames - 1, min(2 * frames, _POINTS))
    light = turned.middle().sum(axis=(1, 2)) + _STRAY
    heats = np.minimum(1, np.geomspace(*_PHOTONS, _HEATS) / light.max()).tolist()
    band = replace(band_of(grid, 1.0), order=(terms - 1) // 2)
    lines = (seriated(turned.middle(), fringes), np.linspace(0, 1, frames))
    starts = [_along(grid, line, light) for line in lines if line is not None]
    return [Course(grid=grid, band=band, start=each, nominal=None, heats=(*heats, 1.0, 1.0)) for each in starts]


def anew(found: Found, turned: Turned) -> list[Course]:
    """The same, begun half-way to the line of the frames that `found` expects, which have no noise: where that is
    warped its object varies too fast or too slowly, and how alike frames are undoes some of it."""
    images = (found.posterior.chance.sum(axis=1) @ found.expected).reshape(-1, *turned.shape)
    line = seriated(images, None)
    if line is None:
        return []
    light = turned.middle().sum(axis=(1, 2)) + _STRAY
    angles = near(found.posterior, found.course)[0]
    start = (angles + np.polyval(np.polyfit(line, angles, 1, w=np.sqrt(light)), line)) / 2
    return [replace(found.course, start=start)]


def _along(grid: Floats, line: Floats, light: Floats) -> Floats:
    """Places from 0 to 1 on the grid, but for its ends, and nearer to the bright ones."""
    start = grid[-1] * (_END + (1 - 2 * _END) * line)
    about = np.average(start, weights=light)
    return np.asarray(about + _SHRUNK * (start - about), np.float64)


def likeliest(found: list[Found]) -> Found:
    """The first, but for one that is likelier by more than what the voxels can gain of a warp alone."""
    first, best = found[0], max(found, key=lambda each: each.posterior.log_likelihood)
    gain = best.posterior.log_likelihood - first.posterior.log_likelihood
    return best if gain > _GAIN * first.parameters else first


def driven(nominal: Floats, cutoff: float) -> Course:
    """The course of a crystal that a motor turns, with steps between nominal angles of 1 on the whole."""
    low, high = nominal.min() - _BEYOND, nominal.max() + _BEYOND
    grid = np.linspace(low, high, min(_POINTS, int(np.ceil((high - low) * _FINER)) + 1))
    band = band_of(grid, cutoff)
    return Course(grid=grid, band=band, start=nominal, nominal=nominal, heats=(1.0,) * _ROUNDS)


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
