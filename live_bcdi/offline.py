"""What `live-bcdi phase` does: files or runs, from where they lie to a result file."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .config import Config, Preprocessing
from .phasing import InitialGuess, Plan, phased
from .pipeline import Progress, prepared, reconstruct_as_configured
from .series import NeighbourGuess, better_start, check_comparable, warm_recipe
from .transport.arrays import is_array_file, read_pattern
from .transport.files import check_output
from .transport.hdf5 import read_result, read_scan, write_result
from .transport.images import read_image
from .transport.tiled import connect, find_run, is_run, read_raw_scan
from .types import BoolArray, FloatArray, Reconstruction, RockingScan, ScanError


def default_output(source: str, *, several: bool = False) -> Path:
    """`<stem>_result.cxi` beside a file, `<first 8 of the uid>_result.cxi` in the working folder for a run; of
    `several` sources the first one's, as `..._sum_result.cxi`."""
    ending = "_sum_result.cxi" if several else "_result.cxi"
    if is_run(source):
        return Path(f"{source[:8]}{ending}")
    return Path(source).parent / f"{Path(source).stem or 'scan'}{ending}"


def phase_to_file(
    source: str | Sequence[str],
    output: Path | None,
    config: Config,
    *,
    overwrite: bool = False,
    budget_s: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Retrieve `source` with `config` as the refine service does, and write `output`.

    `source` is a scan (NeXus/CXI), a centred pattern (.npy, .npz), or the uid of a run, or its beginning; several
    scans or runs are repeats of one, and summed. Returns what there is to say of the result. Raises ScanError as
    reading, `check_output`, phasing and writing do.
    """
    began_s = time.perf_counter()
    sources = _sources(source, config)
    path = output or default_output(sources[0], several=len(sources) > 1)
    name, links, retrieve = _read(sources, config)
    for each in sources:
        check_output(path, overwrite=overwrite, source=Path(each))
    result = retrieve(budget_s=budget_s, progress=progress)
    write_result(path, result, scan_name=name, run=_runs(sources), links=links)
    return _said_of(result, name, path, began_s)


def warm_to_file(
    source: str | Sequence[str],
    path: Path,
    neighbours: Sequence[Reconstruction],
    config: Config,
    *,
    budget_s: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Retrieve `source` again from the objects of `neighbours`, other states of the crystal, and put that in
    the place of the result at `path`, which `phase_to_file` made with `config`, if it is the better one
    (`series.better_start`).

    Returns what there is to say of the one that is kept. Raises ScanError as `phase_to_file` does, and where the
    two cannot be compared.
    """
    began_s = time.perf_counter()
    sources = _sources(source, config)
    cold = read_result(path)
    check_comparable(cold, config.phasing.seed)
    guess = NeighbourGuess.of(neighbours)
    asked = {"recipe": str(warm_recipe(cold.recipe)), "starts": len(neighbours)}
    warm = config.model_copy(update={"phasing": config.phasing.model_copy(update=asked)})
    name, links, retrieve = _read(sources, warm)
    kept = better_start(cold, retrieve(budget_s=budget_s, guess=guess, progress=progress))
    write_result(path, kept, scan_name=name, run=_runs(sources), links=links)
    return _said_of(kept, name, path, began_s)


def _sources(source: str | Sequence[str], config: Config) -> list[str]:
    """Files as they are, runs by their whole uids."""
    given = [source] if isinstance(source, str) else list(source)
    return [find_run(connect(config), each) if is_run(each) else each for each in given]


def _runs(sources: Sequence[str]) -> str:
    return " ".join(each for each in sources if is_run(each))


def _said_of(result: Reconstruction, name: str, path: Path, began_s: float) -> dict[str, Any]:
    return {
        "name": name,
        "chi": result.chi,
        "chi_starts": [round(chi, 5) for chi in result.chi_starts],
        "resolution_nm": None if result.resolution is None else result.resolution.resolution_nm,
        "recipe": result.recipe,
        "chosen": result.provenance.get("chosen", "").splitlines(),
        "seed": result.seed,
        "outcome": result.outcome.value,
        **{key: result.provenance.get(key) for key in ("volume", "masked", "motion", "summed", "start", "rung")},
        "seconds": time.perf_counter() - began_s,
        "file": str(path),
    }


def centred_pattern(source: str, config: Config) -> tuple[FloatArray, BoolArray | None]:
    """The centred counts of a scan (NeXus/CXI) as the configuration prepares it, or of a .npy or .npz as they are,
    and where they were not measured. Raises ScanError as reading and preprocessing do."""
    if is_array_file(Path(source)):
        return read_pattern(Path(source))
    volume, _ = prepared([read_source(source, config)], config.preprocess)
    return volume.intensity, volume.mask


def _read(sources: Sequence[str], config: Config) -> tuple[str, dict[str, str], Callable[..., Reconstruction]]:
    """The name of what `sources` mean, where they lie, and what to call with a budget and a progress."""
    first = Path(sources[0])
    if len(sources) == 1 and is_array_file(first):
        if config.preprocess != Preprocessing():
            raise ScanError(
                f"{first} is a centred pattern and is phased as it is; set nothing of [preprocess] for it"
            )
        return first.stem, {"pattern": sources[0]}, partial(_phase_pattern, *read_pattern(first), config)
    scans = [read_source(source, config) for source in sources]
    files = [source for source in sources if not is_run(source)]
    links = {"frames" if k == 0 else f"frames_{k + 1}": file for k, file in enumerate(files)}
    dark = None if config.preprocess.dark is None else read_image(config.preprocess.dark)
    name = " + ".join(scan.name for scan in scans)
    return name, links, partial(reconstruct_as_configured, scans, config, dark=dark)


def read_source(source: str, config: Config) -> RockingScan:
    """A scan from its file, or from the run in Tiled that its uid or the beginning of it names. Raises
    ScanError."""
    if is_array_file(Path(source)):
        raise ScanError(f"{source} is a centred pattern, which cannot be summed with others; give scans")
    return read_raw_scan(connect(config), source) if is_run(source) else read_scan(Path(source))


def _phase_pattern(
    intensity: FloatArray,
    mask: BoolArray | None,
    config: Config,
    *,
    budget_s: float | None,
    progress: Progress | None,
    guess: InitialGuess | None = None,
) -> Reconstruction:
    """Of a pattern without geometry, as it is."""
    plan = Plan(**config.phasing.model_dump(), guess=guess, budget_s=budget_s)
    return phased(intensity, mask, plan, progress)
