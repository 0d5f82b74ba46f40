"""Defects of a crystal in the phase of its image: phase singularities."""

from .winding import count_singularities, phase_winding

__all__ = ["count_singularities", "phase_winding"]
