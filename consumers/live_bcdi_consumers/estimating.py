"""The jobs of the live consumer's worker: an estimate of the frames so far, by the network where there is one, and
the last of them kept for Tiled. Each runs in the same process, which holds the network and the newest preview.
"""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from live_bcdi.config import CrystalConfig, LiveConfig
from live_bcdi.estimate import LiveEstimate, Preview, Unlike, live_estimate, warm_up
from live_bcdi.log import about_run
from live_bcdi.phasing import InitialGuess, Pattern
from live_bcdi.phasing.align import without_ramp
from live_bcdi.phasing.metrics import centred_transform
from live_bcdi.priority import hurry
from live_bcdi.strain import lab_image
from live_bcdi.transport.hdf5 import write_result
from live_bcdi.types import Reconstruction, RockingScan, ScanError

from .tickets import Tickets

OPEN_RUNS = 4  # at once; they share the memory
PREVIEWS, OWED = "previews", "outbox/previews"
NICE = 10  # an estimate gives way to whoever receives, writes and sends frames
VIEWS_ON_THE_WAY, VIEWS = 1, 3  # of the network; a refresh while frames come is soon followed by another
_newest: dict[str, LiveEstimate] = {}  # of one run


def prepare(*, network: bool, weights: Path | None = None) -> str:
    """Load and compile what estimates need; why there is no network where one was wanted, else nothing."""
    warm_up()
    if not network:
        return ""
    preview, why = _network(weights)
    if preview is not None:
        for views in (VIEWS_ON_THE_WAY, VIEWS):
            with suppress(Unlike):
                preview(_box(), views=views)
    return why


def _box() -> Pattern:
    """Of a crystal as simple as can be, in as many voxels as live estimates have."""
    density = np.zeros((64, 64, 64), np.complex64)
    density[24:40, 24:40, 24:40] = 1
    counts = np.abs(centred_transform(density)) ** 2
    counts = np.random.default_rng(0).poisson(1e5 * counts / counts.sum()).astype(np.float32)
    return Pattern(intensity=counts, mask=np.zeros(counts.shape, bool))


@lru_cache(maxsize=3)
def _network(weights: Path | None = None) -> tuple[Callable[..., Reconstruction] | None, str]:
    """The network, loaded once a process, or why there is none."""
    try:
        from live_bcdi_models.previewing import (
            preview_of,
            warm_up,
        )

        warm_up(threads=1, weights=weights)
    except ImportError as error:
        return None, f"{error.name} is not installed"
    except ScanError as error:
        return None, str(error)
    return partial(preview_of, weights=weights), ""


@lru_cache(maxsize=OPEN_RUNS)
def _weights(run: str, adapted: Path | None, weights: Path | None) -> Path | None:
    """Those that a run is previewed with, from its first frame to the last: the newest in the folder `adapted`."""
    if adapted is None:
        return weights
    try:
        from live_bcdi_models.keeping import (
            newest_weights,
        )

        return newest_weights(adapted, weights) or weights
    except (ImportError, ScanError):
        return weights  # which says why there is no network


def initial_guess() -> InitialGuess | None:
    """The network's objects as where starts of a refinement begin; None, and a line in the log, without one."""
    _, why = _network()
    if why:
        logging.getLogger("refine").warning("no start is guessed by a network: %s", why)
        return None
    from live_bcdi_models.previewing import (
        NetworkGuess,
    )

    guess: InitialGuess = NetworkGuess()
    return guess


def estimate_run(
    run: str, scan: RockingScan, *, settings: LiveConfig, whole: bool, adapted: Path | None = None
) -> LiveEstimate:
    """`live_estimate` from the last one of this run, by the network where there is one, the newest in `adapted`
    when the run began. Where all frames are there, `whole`, it takes its time, and gives way to nobody. What only
    `keep_preview` wants stays here."""
    hurry(now=whole, nice=NICE)
    found = _network(_weights(run, adapted, settings.weights))[0] if settings.network else None
    network: Preview | None = None
    if found is not None:
        network = partial(found, views=VIEWS if whole else VIEWS_ON_THE_WAY)
    edge, iterations, previous = settings.edge_voxels, settings.iterations, _newest.get(run)
    estimate = live_estimate(scan, edge=edge, iterations=iterations, previous=previous, preview=network)
    _newest.clear()
    _newest[run] = estimate
    return replace(estimate, preview=None)


def keep_preview(summary: Mapping[str, Any], storage: Path, crystal: CrystalConfig) -> bool:
    """Write the newest preview of `summary["run"]` and a ticket that owes it to Tiled; False where it was none."""
    run = str(summary["run"])
    newest = _newest.pop(run, None)
    result = None if newest is None else newest.preview
    if result is None or result.volume is None:
        return False
    result = replace(result, lab=lab_image(*without_ramp(result.density), result.volume, crystal))
    for folder in (PREVIEWS, OWED):
        (storage / folder).mkdir(parents=True, exist_ok=True)
    name = f"{time.time():017.6f}_{run}"
    path = storage / PREVIEWS / f"{name}.cxi"
    write_result(path, result, scan_name=str(summary["name"]), run=run, links={})
    told = {"chi": result.chi, "phase_std_rad": result.metrics["phase_std_rad"], "file": str(path)}
    Tickets(storage / OWED).put(name, {**summary, **told})
    return True


def say_if_lost(run: str, job: Future[bool]) -> None:
    """A line in the log where `keep_preview` failed."""
    if not job.cancelled() and (error := job.exception()) is not None:
        about_run("live", run).warning("its preview does not get into Tiled: %s", error)
