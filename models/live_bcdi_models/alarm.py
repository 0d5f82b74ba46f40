"""How likely a crystal has a dislocation, and a twin or domain wall: the network's log odds and the phase
singularities of the polished object, scaled so that they are probabilities (Platt 1999).

Lim et al. (2021) showed that a network can tell defects from a pattern. The scaling is that of crystals as the
simulator makes them, of which about a fifth have a dislocation and a quarter a twin or wall.
"""

import numpy as np

from live_bcdi.defects import count_singularities
from live_bcdi.types import FloatArray

from .polishing import Found

KINDS = ("dislocation", "twin")
# Log odds of each kind by `evidence`; fitted to crystals of trained families that no training had by
# `live-bcdi bench preview --part alarm`.
SCALING = np.array([[-1.524, 0.904, 0.141], [-0.054, 1.003, -0.032]])
MARGIN = 1  # voxels below the surface: on the network's grid a crystal is some ten across


def evidence(found: Found) -> FloatArray:
    """What speaks for each kind, (2, 3): 1, the network's log odds, the logarithm of 1 + the singular loops."""
    loops = count_singularities(found.best.density, found.best.support, margin_voxels=MARGIN)
    return np.array([[1.0, float(odds), np.log1p(loops)] for odds in found.alarm])


def probabilities(found: Found) -> dict[str, float]:
    """`dislocation_probability` and `twin_probability`."""
    odds = np.sum(SCALING * evidence(found), axis=1)
    return {f"{kind}_probability": float(1 / (1 + np.exp(-each))) for kind, each in zip(KINDS, odds)}
