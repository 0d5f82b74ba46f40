"""Crystals whose answer is known, and what a beamline would measure of them."""

from .compare import compare_with_truth, phase_error_rad
from .crystals import STRAINS, Truth, truth_of
from .kinds import KINDS
from .motion import seen_by_frames, simulate_moving
from .parts import Dislocation, Facet, Void, Wall, Wave
from .scattering import measure, simulate_scan
from .tumbling import Tumbling, simulate_tumbling

__all__ = [
    "KINDS",
    "STRAINS",
    "Dislocation",
    "Facet",
    "Truth",
    "Tumbling",
    "Void",
    "Wall",
    "Wave",
    "compare_with_truth",
    "measure",
    "phase_error_rad",
    "seen_by_frames",
    "simulate_moving",
    "simulate_scan",
    "simulate_tumbling",
    "truth_of",
]
