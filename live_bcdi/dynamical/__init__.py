"""Diffraction from crystals too big for the Fourier transform: two beams that scatter into each other."""

from .beams import Beams, along_bisector, along_diffracted
from .characteristics import Characteristics
from .constants import Constants, Structure, Susceptibilities, element, structure_of, susceptibilities
from .fields import fields, transport_of
from .fourier import FourierShift
from .frames import Frames, Settings
from .ladder import Misfits, Rung, misfits_of
from .refinement import Refined, refine
from .scan import RefinedScan, refine_scan
from .transport import Gradient, Passage, Transport
from .unpolarised import Unpolarised

__all__ = [
    "Beams",
    "Characteristics",
    "Constants",
    "FourierShift",
    "Frames",
    "Gradient",
    "Misfits",
    "Passage",
    "Refined",
    "RefinedScan",
    "Rung",
    "Settings",
    "Structure",
    "Susceptibilities",
    "Transport",
    "Unpolarised",
    "along_bisector",
    "along_diffracted",
    "element",
    "fields",
    "misfits_of",
    "refine",
    "refine_scan",
    "structure_of",
    "susceptibilities",
    "transport_of",
]
