"""Defects of a crystal in the phase of its image: dislocation lines and walls, followed from state to state."""

from .across_states import DefectTrack, follow_lines, follow_walls, line_distance_nm
from .lines import Line, find_lines, lines_of, without_turns
from .walls import Wall, find_walls, walls_of
from .winding import count_singularities, phase_winding

__all__ = [
    "DefectTrack",
    "Line",
    "Wall",
    "count_singularities",
    "find_lines",
    "find_walls",
    "follow_lines",
    "follow_walls",
    "line_distance_nm",
    "lines_of",
    "phase_winding",
    "walls_of",
    "without_turns",
]
