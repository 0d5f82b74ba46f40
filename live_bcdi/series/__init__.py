"""Reconstructions of one crystal through an experiment: aligned, filled, compared, their defects followed."""

from .components import OrderParameters, order_parameters
from .frame import AlignedSeries, align_series
from .study import State, Study, study, table
from .warm import NeighbourGuess, better_start, check_comparable, warm_recipe, warm_started

__all__ = [
    "AlignedSeries",
    "NeighbourGuess",
    "OrderParameters",
    "State",
    "Study",
    "align_series",
    "better_start",
    "check_comparable",
    "order_parameters",
    "study",
    "table",
    "warm_recipe",
    "warm_started",
]
