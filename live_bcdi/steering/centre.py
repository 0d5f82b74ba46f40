"""Whether the crystal stays where it is while the sample turns: how far it is from the axis."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import FloatArray, ScanError

Floats = NDArray[np.float64]

_FEWEST = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Eucentric:
    """A crystal seen at a + along cos w + across sin w, by rotations w from `angle_deg`, where it is at `middle`:
    that is a + along. It is `across` off the axis to the side that moves it (positive: with the rotation), `along`
    the other way, which small rotations hardly show; each with its standard deviation. `misfit` is the root mean
    square of what is left over its error bars, about 1 where the crystal turns with the stage and nothing else."""

    angle_deg: float
    middle: float
    middle_std: float
    across: float
    across_std: float
    along: float
    along_std: float
    misfit: float

    def is_within(self, tolerance: float, turn_deg: float) -> bool:
        """Whether a turn by so much moves it by less than `tolerance`, two standard deviations included; what
        nobody can see of `along` moves it by no more than that, either."""
        sine, cosine = math.sin(math.radians(turn_deg)), 1 - math.cos(math.radians(turn_deg))
        return (abs(self.across) + 2 * self.across_std) * sine + abs(self.along) * cosine < tolerance


def fit_eucentric(angles_deg: FloatArray, places: FloatArray, std: FloatArray) -> Eucentric:
    """From where a crystal was seen (n,), in one direction across the axis, at rotations (n,) and their standard
    deviations (n,): least squares. Raises ScanError for less than 3 different angles and what is not finite."""
    angles, values, spread = (np.asarray(each, np.float64) for each in (angles_deg, places, std))
    if not angles.shape == values.shape == spread.shape or len(np.unique(angles)) < _FEWEST:
        raise ScanError(f"a crystal is seen at {_FEWEST} different rotations and more to tell how far off it is")
    if not np.isfinite([angles, values, spread]).all() or not (spread > 0).all():
        raise ScanError("rotations, places and their error bars are finite numbers, and no error bar is zero")
    middle = float(angles.mean())
    turn = np.deg2rad(angles - middle)
    terms = np.stack([np.ones_like(turn), np.sin(turn), np.cos(turn) - 1], axis=1) / spread[:, None]
    covariance = np.linalg.inv(terms.T @ terms + 1e-12 * np.eye(3) / spread.mean() ** 2)
    found = covariance @ terms.T @ (values / spread)
    left = values / spread - terms @ found
    errors = np.sqrt(np.diag(covariance))
    return Eucentric(
        angle_deg=middle,
        middle=float(found[0]),
        middle_std=float(errors[0]),
        across=float(found[1]),
        across_std=float(errors[1]),
        along=float(found[2]),
        along_std=float(errors[2]),
        misfit=float(np.sqrt((left**2).sum() / max(len(values) - _FEWEST, 1))),
    )
