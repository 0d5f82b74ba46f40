"""What the places of a scan's frames, in angle and on the detector, say of the crystal's motion."""

from dataclasses import replace

import numpy as np

from ..geometry import axes_across, q_lab_invA, q_steps_invA, rocking_axis_lab
from ..types import RockingScan, ScanError, TrackingResult
from .band import Floats

_TO_MDEG = 1e3 * 180 / np.pi


def with_shifts(scan: RockingScan, tracking: TrackingResult, found: Floats, spread: Floats) -> TrackingResult:
    """`tracking` with shifts (2, frames) of all frames in pixels, and what they and the angles say of the crystal.

    The pattern's vector moves by dh = -offset g_rocking + row g_row + column g_column, with g what a step, a row
    and a column change q by: a crystal that turns as the motor does is seen where the motor is yet to come.
    """
    made = replace(
        tracking,
        row_shift=found[0],
        row_shift_std=spread[0],
        column_shift=found[1],
        column_shift_std=spread[1],
    )
    brightest = int(np.nanargmax(np.where(np.isfinite(found[0]), scan.intensity.sum(axis=(1, 2)), np.nan)))
    row, column = float(np.nan_to_num(made.row[brightest])), float(np.nan_to_num(made.column[brightest]))
    h = q_lab_invA(scan.geometry, row, column)
    steps = q_steps_invA(scan.geometry, tracking.step_deg, row, column) * [-1, 1, 1]
    axis = rocking_axis_lab(scan.geometry)
    try:
        across = np.cross(axes_across(h, (float(axis[0]), float(axis[1]), float(axis[2]))), h) / (h @ h)
    except ScanError:
        across = np.full((2, 3), np.nan)
    told = np.vstack([_TO_MDEG * across, -h / (h @ h)]) @ steps
    motion = told @ np.stack([tracking.offset_steps, *found])
    error = np.sqrt(told**2 @ np.stack([tracking.std_steps, *spread]) ** 2)
    return replace(
        made, rotation_mdeg=motion[:2].T, rotation_std_mdeg=error[:2].T, strain=motion[2], strain_std=error[2]
    )
