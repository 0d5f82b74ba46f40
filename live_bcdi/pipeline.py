"""From a rocking scan to a crystal with strain. The same call serves the command line and the services."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version

import numpy as np

from .metadata import scan_metadata
from .phasing import (
    DEFAULT_STARTS,
    Pattern,
    Plan,
    Recipe,
    agreement,
    as_recipe,
    phase_pattern,
)
from .phasing.align import with_ramp, without_ramp
from .phasing.kernels_numpy import Object
from .preprocess import diffraction_volume
from .strain import lab_image, with_spread
from .types import DiffractionVolume, LabImage, Reconstruction, RockingScan

Progress = Callable[[float, str], None]


def reconstruct(
    scan: RockingScan,
    *,
    recipe: Recipe | str | None = None,
    starts: int | None = None,
    seed: int = 0,
    threads: int = 1,
    budget_s: float | None = None,
    initial: Object | None = None,
    progress: Progress | None = None,
) -> Reconstruction:
    """Preprocess, phase, align, orthogonalise, strain; deterministic for a scan, recipe, starts and seed
    (without a budget). `initial` is an object to start the first start from, of the volume's shape;
    `progress` is told the share done and a line about it. Raises ScanError as its parts do.
    """
    tell = progress or (lambda share, text: None)
    plan = Plan(
        recipe=as_recipe(recipe),
        starts=starts or DEFAULT_STARTS,
        seed=seed,
        initial=initial,
        threads=threads,
        budget_s=budget_s,
    )
    origin = provenance(scan)
    volume = diffraction_volume(scan)
    tell(0.05, f"volume {volume.intensity.shape}, peak at {volume.centre}")
    pattern = Pattern(intensity=volume.intensity, mask=volume.mask)
    result, aligned = phase_pattern(pattern, plan, lambda share, text: tell(0.05 + 0.85 * share, text))
    result = replace(result, volume=volume, provenance=origin)
    if not aligned:
        return result
    agreed, resolution = agreement.consensus(aligned, volume.intensity, volume.mask, volume.q_steps_invA)
    tell(0.95, "orthogonalising")
    done = replace(result, lab=_in_the_lab(result, aligned, volume), resolution=resolution, agreement=agreed)
    tell(1.0, done.outcome.value)
    return done


def _in_the_lab(result: Reconstruction, aligned: Sequence[Object], volume: DiffractionVolume) -> LabImage:
    """The crystal with the spread of all starts, each less the best one's phase ramp."""
    flat, slopes = without_ramp(result.density)
    starts = (with_ramp(start, (-slopes[0], -slopes[1], -slopes[2])) for start in aligned)
    return with_spread(lab_image(flat, slopes, volume), starts, volume)


def provenance(scan: RockingScan) -> dict[str, str]:
    """What made a result: the scan, a checksum of all that it holds but its times, and the versions that matter.

    Raises ScanError where `scan.metadata` holds what JSON cannot.
    """
    versions = {name: version(name) for name in ("live_bcdi", "numpy", "scipy", "numba", "pyfftw")}
    return {"scan": scan.name, "input_sha256": _checksum(scan), **versions}


def _checksum(scan: RockingScan) -> str:
    """Counts as they are, all other values as float64 however a file kept them. Masks go in unpacked: builds of
    zlib differ in how they pack them."""
    table = {**scan_metadata(scan), "bad_pixels": None, "flatfield": None}
    have = np.ones(len(scan.intensity), bool) if scan.have is None else scan.have
    others = (scan.angles_deg, scan.monitor, have, scan.bad_pixels, scan.flatfield)
    digest = hashlib.sha256(json.dumps(table, sort_keys=True).encode())
    for array in (scan.intensity, *(None if each is None else np.asarray(each, np.float64) for each in others)):
        digest.update(b"none" if array is None else f"{array.dtype.str}{array.shape}".encode())
        digest.update(b"" if array is None else np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()
