"""What `live-bcdi refine-dynamical` does: from a stored result and its scan to a result beside it."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .catalogue import Result, Run, open_run
from .climbed import Kinematical, climb_to_file
from .climbing import Progress
from .config import Config
from .reflection import as_told
from .transport.files import check_output
from .transport.hdf5 import read_result
from .transport.tiled import connect, is_run, store_result, tiled_errors
from .types import Reconstruction, ScanError

DYNAMICAL = "dynamical"


def refine_dynamical(
    source: str,
    output: Path | None,
    config: Config,
    *,
    sample: Mapping[str, Any] | None = None,
    version: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Take a result of phase retrieval to the rung that `[dynamical] rung` says, or that its crystal needs.

    `source` is the uid of a run, or its beginning, of which the newest result or that of `version` is taken, or a
    result file, whose frames must be where it says. `sample` (`formula`, `cif`, `hkl`) goes before what the run
    says of itself, and that before the configuration. The new result is `output`, by default
    `<result>_dynamical.cxi`, and of a run also `dynamical/<uid>/<n>` in Tiled; the kinematical one stays as it is.
    Who is killed goes on from `<output>.checkpoint.npz`, which goes in the end. Returns what there is to say.
    Raises ScanError where there is no such result or no frames, the material is not known, or as `check_output`
    does.
    """
    began_s = time.perf_counter()
    run = open_run(source, config=config)
    stored = run.result(version)
    path = output or _default_output(source, run, stored)
    check_output(path, overwrite=overwrite, source=Path(stored.path))
    result = stored.reconstruction()
    if "summed" in result.provenance:
        raise ScanError(f"{stored.path} is of several scans that were summed: refine the result of one of them")
    scan = as_told(run.scan(), sample or {})
    kinematical = Kinematical(
        name=run.name, run=run.uid, path=stored.path, scan=scan, result=result, links=_links(run)
    )
    checkpoint = path.with_suffix(".checkpoint.npz")
    told = climb_to_file(kinematical, path, config, checkpoint=checkpoint, progress=progress)
    told |= {"seconds": time.perf_counter() - began_s}
    if told["file"] is not None and is_run(source):
        told["tiled"] = _stored(run, read_result(path), told, config)
    return told


def _default_output(source: str, run: Run, stored: Result) -> Path:
    """Beside a file; of a run in the working folder."""
    if is_run(source):
        return Path(f"{run.stem(stored)}_dynamical.cxi")
    return Path(source).with_name(f"{Path(source).stem}_dynamical.cxi")


def _links(run: Run) -> dict[str, str]:
    """Where the raw data are."""
    if "file" not in run.metadata:
        return {"tiled": f"raw/{run.uid}"}
    return {str(key): str(place) for key, place in run.metadata.items() if key in ("frames", "tiled")}


def _stored(run: Run, done: Reconstruction, told: dict[str, Any], config: Config) -> str:
    """Its place in Tiled. Raises ScanError that says that the file is there, where Tiled is not."""
    file = str(Path(told["file"]).absolute())
    about = {**told, "file": file, "run": run.uid, "raw": f"raw/{run.uid}", "finished": time.time()}
    try:
        root = connect(config)
        with tiled_errors(config):
            return store_result(root, run.uid, done, about, kind=DYNAMICAL)
    except ScanError as error:
        raise ScanError(f"the result is in {told['file']}, but not in Tiled: {error}") from None
