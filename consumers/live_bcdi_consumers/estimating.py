"""The jobs of the live consumer's worker: an estimate of the frames so far, by the network where there is one, and
the last of them kept for Tiled. Each runs in the same process, which holds the network and the newest preview.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from live_bcdi.config import CrystalConfig, LiveConfig
from live_bcdi.estimate import LiveEstimate, Preview, live_estimate, warm_up
from live_bcdi.phasing import InitialGuess
from live_bcdi.phasing.align import without_ramp
from live_bcdi.strain import lab_image
from live_bcdi.transport.hdf5 import write_result
from live_bcdi.types import Reconstruction, RockingScan, ScanError

from .tickets import Tickets

OPEN_RUNS = 4  # at once; they share the memory
PREVIEWS, OWED = "previews", "outbox/previews"
_newest: dict[str, Reconstruction] = {}  # of one run


def prepare(*, network: bool, weights: Path | None = None) -> str:
    """Load and compile what estimates need; why there is no network where one was wanted, else nothing."""
    warm_up()
    return _network(weights)[1] if network else ""


@lru_cache(maxsize=3)
def _network(weights: Path | None = None) -> tuple[Preview | None, str]:
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
    run: str,
    scan: RockingScan,
    *,
    settings: LiveConfig,
    previous: LiveEstimate | None,
    adapted: Path | None = None,
) -> LiveEstimate:
    """`live_estimate`, by the network where there is one, the newest in `adapted` when the run began. What only
    `keep_preview` wants stays in this process."""
    network = _network(_weights(run, adapted, settings.weights))[0] if settings.network else None
    edge, iterations = settings.edge_voxels, settings.iterations
    estimate = live_estimate(scan, edge=edge, iterations=iterations, previous=previous, preview=network)
    _newest.clear()
    if estimate.preview is not None:
        _newest[run] = estimate.preview
    return replace(estimate, preview=None)


def keep_preview(summary: Mapping[str, Any], storage: Path, crystal: CrystalConfig) -> bool:
    """Write the newest preview of `summary["run"]` and a ticket that owes it to Tiled; False where it was none."""
    run = str(summary["run"])
    result = _newest.pop(run, None)
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
