"""What `live-bcdi phase` does: a file or a run, from where it lies to a result file."""

import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .config import Config
from .phasing import phase
from .pipeline import Progress, reconstruct
from .refraction import corrected, material_of
from .transport.arrays import is_array_file, read_pattern
from .transport.files import check_output
from .transport.hdf5 import read_scan, write_result
from .transport.tiled import connect, read_raw_scan
from .types import BoolArray, FloatArray, Reconstruction, RockingScan

_UID = re.compile(r"[0-9a-f]{4,8}(-[0-9a-f-]*)?")


def is_run(source: str) -> bool:
    """Whether `source` means a run in Tiled: it looks like a uid, or its beginning, and there is no such file."""
    return _UID.fullmatch(source) is not None and not Path(source).exists()


def default_output(source: str) -> Path:
    """`<stem>_result.cxi` beside a file, `<first 8 of the uid>_result.cxi` in the working folder for a run."""
    if is_run(source):
        return Path(f"{source[:8]}_result.cxi")
    return Path(source).parent / f"{Path(source).stem or 'scan'}_result.cxi"


def phase_to_file(
    source: str,
    output: Path | None,
    config: Config,
    *,
    overwrite: bool = False,
    budget_s: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Retrieve `source` with `config`'s [phasing] and [sample] as the refine service does, and write `output`.

    `source` is a scan (NeXus/CXI), a centred pattern (.npy, .npz), or the uid of a run, or its beginning. Returns
    what there is to say of the result. Raises ScanError as reading, `check_output`, phasing and writing do.
    """
    began_s = time.perf_counter()
    path = output or default_output(source)
    name, links, retrieve = _read(source, config)
    check_output(path, overwrite=overwrite, source=Path(source))
    result = retrieve(budget_s=budget_s, progress=progress)
    write_result(path, result, scan_name=name, run=source if is_run(source) else "", links=links)
    return {
        "name": name,
        "chi": result.chi,
        "chi_starts": [round(chi, 5) for chi in result.chi_starts],
        "resolution_nm": None if result.resolution is None else result.resolution.resolution_nm,
        "recipe": result.recipe,
        "seed": result.seed,
        "outcome": result.outcome.value,
        "seconds": time.perf_counter() - began_s,
        "file": str(path),
    }


def _read(source: str, config: Config) -> tuple[str, dict[str, str], Callable[..., Reconstruction]]:
    """The name of what `source` means, where it lies, and what to call with a budget and a progress."""
    path = Path(source)
    if is_array_file(path):
        return path.stem, {"pattern": source}, partial(_phase_pattern, *read_pattern(path), config)
    if is_run(source):
        scan = read_raw_scan(connect(config), source)
        return scan.name, {}, partial(_phase_scan, scan, config)
    scan = read_scan(path)
    return scan.name, {"frames": source}, partial(_phase_scan, scan, config)


def _phase_scan(
    scan: RockingScan, config: Config, *, budget_s: float | None, progress: Progress | None
) -> Reconstruction:
    chosen = config.phasing
    result = reconstruct(
        scan,
        recipe=chosen.recipe,
        starts=chosen.starts,
        seed=chosen.seed,
        threads=chosen.threads,
        budget_s=budget_s,
        progress=progress,
    )
    material = material_of(config.sample.formula, config.sample.density_g_cm3)
    return corrected(result, scan.geometry, material)


def _phase_pattern(
    intensity: FloatArray,
    mask: BoolArray | None,
    config: Config,
    *,
    budget_s: float | None,
    progress: Progress | None,
) -> Reconstruction:
    """As `_phase_scan`, of a pattern without geometry; the front door it goes through tells no progress."""
    chosen = config.phasing
    return phase(
        intensity, mask=mask, recipe=chosen.recipe, starts=chosen.starts, seed=chosen.seed, budget_s=budget_s
    )
