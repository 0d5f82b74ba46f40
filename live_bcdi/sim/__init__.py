"""Crystals whose answer is known, and what a beamline would measure of them."""

from .compare import compare_with_truth
from .crystals import STRAINS, Facet, Truth, Wave, truth_of
from .scattering import measure, simulate_scan

__all__ = ["STRAINS", "Facet", "Truth", "Wave", "compare_with_truth", "measure", "simulate_scan", "truth_of"]
