"""The order of a crystal's angles from its frames alone: no pace, no direction, no series.

Frames of near angles are alike. A frame is joined to those most like it and to the next in time, the length of a
path from frame to frame stands for what the crystal turned between them (Tenenbaum, de Silva & Langford, Science
290, 2319 (2000)), and the line that fits these lengths best is the first guess.
"""

import numpy as np
from scipy import ndimage
from scipy.sparse.csgraph import shortest_path

from .band import Floats
from .fringes import Fringes

_BRIGHT = 200.0  # counts, from which on a frame tells what it is like
_OF_BRIGHTEST = 0.25  # of the brightest frame's counts: enough where all are dim
_ALIKE = 8  # frames
_SELF = 3  # frames: as much as the next ones are alike, a frame would be like itself but for its noise
_NEAREST = 0.02  # of a distance: two frames are never in one place
_FEWEST = 12


def seriated(images: Floats, fringes: Fringes | None) -> Floats | None:
    """Places (frames,) from 0 to 1 on a line, of (frames, rows, columns) turned back by their centres of mass;
    None where fewer than 12 frames are bright. Dim ones between bright ones stand where time puts them, those
    before and after go on at the usual pace. `fringes` is None for images without noise, all of which tell."""
    light = images.sum(axis=(1, 2))
    least = 0.0 if fringes is None else min(_BRIGHT, _OF_BRIGHTEST * light.max())
    bright = np.flatnonzero(light >= least)
    if len(bright) < _FEWEST:
        return None
    return _whole(len(images), bright, _line(_paths(_distances(images[bright], fringes))))


def _distances(images: Floats, fringes: Fringes | None) -> Floats:
    """Chords between the square roots of frames, smoothed over half a speckle; noise makes frames less alike than
    they are, and by as much the most alike."""
    if fringes is not None:
        smoothing = (0.0, *(1 / (4 * np.pi * rate) for rate in (fringes.rows, fringes.columns)))
        images = ndimage.gaussian_filter(images, smoothing)
    roots = np.sqrt(images).reshape(len(images), -1)
    roots /= np.linalg.norm(roots, axis=1, keepdims=True)
    alike = roots @ roots.T
    np.fill_diagonal(alike, 0)
    own = np.sqrt(np.sort(alike, axis=1)[:, -_SELF:].mean(axis=1))
    return np.asarray(np.maximum(np.sqrt(2 * np.maximum(1 - alike / np.outer(own, own), 0)), _NEAREST))


def _paths(apart: Floats) -> Floats:
    others = np.where(np.eye(len(apart)) > 0, np.inf, apart)
    near = others <= np.sort(others, axis=1)[:, _ALIKE - 1 : _ALIKE]
    near |= np.eye(len(apart), k=1) > 0
    return np.asarray(shortest_path(np.where(near | near.T, apart, 0), directed=False))


def _line(lengths: Floats) -> Floats:
    """Classical scaling to one dimension."""
    middle = np.eye(len(lengths)) - 1 / len(lengths)
    _, vectors = np.linalg.eigh(-0.5 * middle @ lengths**2 @ middle)
    return np.asarray(vectors[:, -1])


def _whole(frames: int, bright: np.ndarray, places: Floats) -> Floats:
    places = places if places[-1] > places[0] else -places
    pace = float(np.median(np.abs(np.diff(places) / np.diff(bright))))
    number = np.arange(frames)
    made = np.interp(number, bright, places)
    made -= pace * np.maximum(bright[0] - number, 0)
    made += pace * np.maximum(number - bright[-1], 0)
    return np.asarray((made - made.min()) / np.ptp(made))
