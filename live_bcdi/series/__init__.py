"""Reconstructions of one crystal through an experiment: aligned, filled, compared, their defects followed."""

from .frame import AlignedSeries, align_series
from .order import OrderParameters, order_parameters
from .study import State, Study, study, table
from .warm import warm_started

__all__ = [
    "AlignedSeries",
    "OrderParameters",
    "State",
    "Study",
    "align_series",
    "order_parameters",
    "study",
    "table",
    "warm_started",
]
