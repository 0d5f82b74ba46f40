"""Diffraction from crystals too big for the Fourier transform: two beams that scatter into each other."""

from .beams import Beams, along_diffracted
from .characteristics import Characteristics
from .fields import fields, transport_of
from .fourier import FourierShift
from .frames import Frames, Settings
from .refinement import Refined, refine
from .scan import RefinedScan, Susceptibilities, refine_scan
from .transport import Gradient, Passage, Transport
from .unpolarised import Unpolarised

__all__ = [
    "Beams",
    "Characteristics",
    "FourierShift",
    "Frames",
    "Gradient",
    "Passage",
    "Refined",
    "RefinedScan",
    "Settings",
    "Susceptibilities",
    "Transport",
    "Unpolarised",
    "along_diffracted",
    "fields",
    "refine",
    "refine_scan",
    "transport_of",
]
