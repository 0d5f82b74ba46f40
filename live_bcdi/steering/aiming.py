"""Which motors bring the peak to a pixel and the crystal into the beam, and how far the detector sees."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.optimize import least_squares

from ..config import Config, direction
from ..geometry import (
    Floats,
    bragg_turns_deg,
    chain_matrix,
    pixel_of,
    pixel_place_m,
    q_lab_invA,
    rocking_circle,
    wavelength_angstrom,
    with_rocking_angle,
)
from ..types import Geometry, Rotation, ScanError

_OFF_PX = 0.5
_SMALL_DEG = 0.05
_SEEN = 0.8  # of the way from the middle of the detector to its edge: a spot has a width
_FWHM = 2 * math.sqrt(2 * math.log(2))
_LEAST_SHARE = 0.3  # of a motion, across the beam


def arm_onto(
    geometry: Geometry,
    seen: tuple[float, float],
    pixel: tuple[float, float],
    limits: Mapping[str, tuple[float, float]],
) -> dict[str, float]:
    """Where the arm's motors bring what is at pixel `seen` (row, column) to `pixel`, within their limits; motors
    without limits stay. Raises ScanError where they cannot."""
    ray = pixel_place_m(geometry, *seen)
    movable = [circle for circle in geometry.arm if circle.motor in limits]

    def off(angles: Floats) -> Floats:
        there = dict(zip((circle.motor for circle in movable), angles))
        row_column = pixel_of(replace(geometry, arm=_turned(geometry.arm, there)), ray)
        return np.asarray(np.nan_to_num(row_column - np.asarray(pixel), nan=1e6))

    if not movable:
        raise ScanError("no motor of the detector's arm has limits in the configuration: none is moved; give them")
    low, high = np.array([limits[circle.motor] for circle in movable]).T
    start = np.clip([circle.angle_deg for circle in movable], low + 1e-9, high - 1e-9)
    told = least_squares(off, start, bounds=(low, high), xtol=1e-12, ftol=1e-12, gtol=1e-12)
    if np.hypot(*off(told.x)) > _OFF_PX:
        raise ScanError(
            f"within its limits the arm does not bring the peak from pixel {seen[0]:.0f}, {seen[1]:.0f} to"
            f" {pixel[0]:.0f}, {pixel[1]:.0f}; choose another pixel"
        )
    return {circle.motor: float(angle) for circle, angle in zip(movable, told.x)}


def _turned(circles: tuple[Rotation, ...], angles: Mapping[str, float]) -> tuple[Rotation, ...]:
    return tuple(
        replace(circle, angle_deg=float(angles.get(circle.motor, circle.angle_deg))) for circle in circles
    )


def reach_deg(geometry: Geometry, motor: str, shape: tuple[int, int]) -> float:
    """How far the sample's circle `motor` may turn either way until a peak leaves a detector of `shape` (rows,
    columns), in whose middle it was once the rocking circle meets Bragg's law again; inf where it stays. Raises
    ScanError for a circle that is not there."""
    if motor not in {circle.motor for circle in geometry.sample}:
        names = ", ".join(circle.motor for circle in geometry.sample)
        raise ScanError(f"no circle {motor!r} turns the sample; there are {names}")
    middle = np.array(shape) / 2
    h = q_lab_invA(geometry, *middle)
    circle = next(each for each in geometry.sample if each.motor == motor)
    there = replace(geometry, sample=_turned(geometry.sample, {motor: circle.angle_deg + _SMALL_DEG}))
    moved = _peak_pixel(there, chain_matrix(there.sample) @ chain_matrix(geometry.sample).T @ h)
    away = float(np.hypot(*(moved - _peak_pixel(geometry, h)))) / _SMALL_DEG
    return _SEEN * float(middle.min()) / away if away > 1e-6 else math.inf


def _peak_pixel(geometry: Geometry, h: Floats) -> Floats:
    """Where reflection h, in the lab now, appears once the rocking circle has turned to it."""
    turns = bragg_turns_deg(geometry, h)
    if not len(turns):
        raise ScanError("no angle of the rocking circle meets Bragg's law there; search with another rotation")
    at = with_rocking_angle(geometry, rocking_circle(geometry).angle_deg + float(turns[0]))
    turned = chain_matrix(at.sample) @ chain_matrix(geometry.sample).T @ h
    wave = 2 * np.pi / wavelength_angstrom(geometry.energy_kev) * np.asarray(geometry.beam_direction)
    return pixel_of(at, wave + turned)


def stage_across(config: Config, geometry: Geometry, beam_um: tuple[float, float]) -> dict[str, float]:
    """The two translations of the sample that move it across the beam the most, one for each direction of the
    detector (its columns, its rows, arm at zero); for each, how wide the beam is to it: the standard deviation of
    its profile, in micrometres of that motor. `beam_um` is its width at half of the maximum along both. Raises
    ScanError where no translation moves the sample that way."""
    circles, chosen = chain_matrix(geometry.sample), dict[str, float]()
    for way, width in zip((config.detector.columns, config.detector.rows), beam_um):
        shares = {
            axis.motor: abs(float(np.dot(direction(way), circles @ direction(axis.axis))))
            for axis in config.diffractometer.stage
            if axis.motor not in chosen
        }
        best = max(shares, key=lambda motor: shares[motor], default=None)
        if best is None or shares[best] < _LEAST_SHARE:
            raise ScanError(f"no translation in [diffractometer] stage moves the sample along {way}")
        chosen[best] = width / _FWHM / shares[best]
    return chosen
