"""The crystal at first sight: the network's object, a few iterations of polish, and how sure that is.

docs/preview.md says what it is good for and where it loses.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from live_bcdi.estimate import Unlike
from live_bcdi.phasing import Pattern, Plan, Recipe, Start, parse, phase_pattern, retrieve
from live_bcdi.phasing.engine import Retrieval
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.phasing.metrics import centred_transform, chi, poisson_deviance
from live_bcdi.types import Agreement, BoolArray, FloatArray, Outcome, Reconstruction, ScanError

from .alarm import probabilities
from .grid import Grid, known_part, scaled
from .guard import unlike
from .polishing import Found, polished
from .sight import VIEWS, device_of, look, shipped
from .simulator import EDGE
from .weights import named

SHARPEN = parse("15*ER + ShrinkWrap(sigma=1, threshold=0.1) + 20*ER")  # on all voxels, where there are more
SETTLE = parse("10*ER")  # with the free voxels
INSTEAD = parse("10*ER + 4*(20*HIO + ShrinkWrap(sigma=1, threshold=0.12)) + 10*ER")
_LEAST_STEPS = 3


def preview(
    intensity: FloatArray,
    *,
    mask: BoolArray | None = None,
    measured: BoolArray | None = None,
    device: str = "auto",
    weights: Path | None = None,
) -> Reconstruction:
    """What the crystal of a centred (rocking, row, column) pattern of counts looks like, within a second at 64^3.

    `mask` is True where a voxel was not measured; `measured` (rocking,) says which steps of a scan under way are
    there, a third of them or more; `weights` is a file that `train` or `adapt` wrote. `agreement` has the standard
    deviation that is expected of amplitude and phase; `metrics["phase_std_rad"]` is its median inside, and
    `dislocation_probability` and `twin_probability` there say what the crystal may have. Where the pattern is
    unlike anything that the network was shown, `provenance["unlike"]` says so in a sentence, and the object is
    that of plain iterations. Raises ScanError for input that cannot be phased, and where its weights are not
    there.
    """
    counts = np.asarray(intensity)
    if counts.ndim != 3 or counts.dtype.kind not in "buif":
        raise ScanError(
            f"intensity must be real numbers (rocking, row, column), not {counts.dtype} {counts.shape}"
        )
    if measured is not None and np.shape(measured) != counts.shape[:1]:
        raise ScanError(f"{len(counts)} rocking steps, but `measured` has shape {np.shape(measured)}")
    if measured is not None and np.count_nonzero(measured) < _LEAST_STEPS:
        raise ScanError(f"a preview needs at least {_LEAST_STEPS} rocking steps")
    pattern = Pattern(intensity=counts.astype(np.float32), mask=known_part(mask, measured, counts.shape))
    try:
        return preview_of(pattern, device=device, weights=weights)
    except Unlike as error:
        result, _ = phase_pattern(pattern, Plan(recipe=INSTEAD, starts=1))
        return replace(result, provenance={**result.provenance, "unlike": str(error)})


def look_at(
    pattern: Pattern,
    also: Sequence[Object] = (),
    *,
    views: int,
    device: str = "auto",
    weights: Path | None = None,
) -> tuple[Grid, Found]:
    """What network and polish find on the network's grid, and which grid that is. Raises Unlike."""
    network, _ = shipped(device_of(device), weights)
    grid = Grid.of(pattern)
    if reason := unlike(pattern, grid):
        raise Unlike(reason)
    seen = grid.seen(pattern)
    sights = look(network, seen, grid.oversampling, VIEWS[:views])
    return grid, polished(seen, sights, [grid.network_object(each) for each in also])


def preview_of(
    pattern: Pattern,
    *,
    also: Sequence[Object] = (),
    views: int = 3,
    device: str = "auto",
    weights: Path | None = None,
) -> Reconstruction:
    """`preview` of a pattern that was checked; the more views, the likelier one of them is in the right basin.

    `also` are objects of the pattern's shape that are polished beside what the network sees, and judged with it.
    Raises Unlike where the pattern is no single crystal's.
    """
    began_s = perf_counter()
    grid, found = look_at(pattern, also, views=views, device=device, weights=weights)
    result = _at_full_size(pattern, grid, found)
    card = shipped(device_of(device), weights)[1]
    told = {"network": named(card), "views": str(views), "bins": str(grid.bins)}
    return _said(pattern, result, grid, found, {**told, "seconds": f"{perf_counter() - began_s:.3f}"})


def warm_up(*, threads: int, weights: Path | None = None) -> None:
    """Load the network before the first frame asks for it, on so many threads of the processor. Raises ScanError
    where it is not there."""
    torch.set_num_threads(threads)
    shipped(device_of("auto"), weights)


class NetworkGuess:
    """The network's objects as where starts of a retrieval may begin (`live_bcdi.phasing.InitialGuess`): `views`
    of them, none of a pattern that is unlike what the network was shown."""

    def __init__(self, *, views: int = 3, device: str = "auto") -> None:
        self._views, self._device = views, device

    def __call__(self, pattern: Pattern) -> Sequence[Object]:
        network, _ = shipped(device_of(self._device))
        grid = Grid.of(pattern)
        if unlike(pattern, grid) is not None:
            return []
        sights = look(network, grid.seen(pattern), grid.oversampling, VIEWS[: self._views])
        return [scaled(grid.measured_object(sight.density), pattern) for sight in sights]


def _at_full_size(pattern: Pattern, grid: Grid, found: Found) -> Retrieval:
    density = scaled(grid.measured_object(found.best.density), pattern)
    support = grid.measured_map(found.best.support.astype(np.float32)) > 0.25
    end = retrieve(pattern, _at_last(grid), start=Start(initial=density, support=support))
    if end.outcome is Outcome.DIVERGED:
        raise ScanError(end.outcome.value)
    return end


def _at_last(grid: Grid) -> Recipe:
    wider = any(n > EDGE or by > 1 for n, by in zip(grid.shape, grid.bins))
    return SHARPEN if wider else SETTLE


def _said(
    pattern: Pattern, end: Retrieval, grid: Grid, found: Found, provenance: dict[str, str]
) -> Reconstruction:
    agreement = _agreement(end, grid.measured_map(found.variance))
    inside = agreement.phase_std_rad[end.support]
    modulus = np.abs(centred_transform(end.density))
    metrics = {
        "chi": chi(modulus, pattern.intensity, pattern.mask),
        "poisson_deviance": poisson_deviance(modulus, pattern.intensity, ~pattern.mask),
        "free_llk": found.free_llk,
        "phase_std_rad": float(np.nanmedian(inside)),
        "expected_error": _expected_error(found),
        **probabilities(found),
    }
    return Reconstruction(
        density=end.density,
        support=end.support,
        chi=end.chi,
        chi_starts=(end.chi,),
        metrics=metrics,
        recipe=f"{found.recipe} + {_at_last(grid)}",
        seed=0,
        outcome=end.outcome,
        agreement=agreement,
        provenance=provenance,
    )


def _expected_error(found: Found) -> float:
    """sqrt(mean |e|^2 / mean |S|^2) inside that is expected of the object on the network's grid."""
    return float(np.sqrt(found.variance[found.best.support].mean()))


_UNKNOWN_RAD = np.pi / np.sqrt(3)  # of a phase of which nothing is known
_TAILS = (
    2.2  # rms of the phase's error over that of a small normal one (`live-bcdi bench preview --part calibration`)
)


def _agreement(end: Retrieval, variance: FloatArray) -> Agreement:
    """From |error|^2 of a voxel, half of which is along the phase, half along the amplitude. Of an object in a
    wrong basin the phase is off by any angle where the error is a part of the amplitude: hence `_TAILS`."""
    power = float(np.mean(np.abs(end.density[end.support]) ** 2))
    deviation = np.sqrt(variance * power / 2)
    amplitude = np.abs(end.density)
    with np.errstate(divide="ignore", invalid="ignore"):
        phase = np.minimum(np.where(amplitude > 0, _TAILS * deviation / amplitude, np.nan), _UNKNOWN_RAD)
    return Agreement(
        mode=end.density,
        weights=np.ones(1),
        amplitude_std=(deviation / amplitude.max()).astype(np.float32),
        phase_std_rad=phase.astype(np.float32),
    )
