"""A kinematical result taken to the rung that its crystal needs, as a file: for the command and the service."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .climbing import Progress, climb, needed
from .config import Config
from .transport.hdf5 import write_result
from .types import Reconstruction, RockingScan


@dataclass(frozen=True, kw_only=True, slots=True)
class Kinematical:
    """A result of phase retrieval where it lies (`path`), with the scan it is of; `links` say where the frames
    are."""

    name: str
    run: str
    path: str
    scan: RockingScan
    result: Reconstruction
    links: Mapping[str, str]


def climb_to_file(
    source: Kinematical, path: Path, config: Config, *, checkpoint: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """The result of `source` on the rung that it is to be on, as a file at `path`; `checkpoint` is gone on from,
    and goes in the end. Returns what there is to say; its `file` is None where the result is on that rung already.
    Raises ScanError as `needed` and `climb` do."""
    need = needed(source.scan, source.result, config)
    told = {"name": source.name, "started_from": source.path, "rung": need.rung.value, "why": need.why}
    done = climb(source.scan, source.result, need, config, checkpoint=checkpoint, progress=progress)
    if done is None:
        return {**told, "file": None}
    links = {**source.links, "kinematical": source.path}
    write_result(path, done, scan_name=source.name, run=source.run, links=links)
    checkpoint.unlink(missing_ok=True)
    return {**told, **numbers(done), "polarisation": need.reflection.polarisation, "file": str(path)}


def numbers(done: Reconstruction) -> dict[str, Any]:
    """What there is to say of a result of this kind."""
    kept = ("misfit_kinematical", "misfit_refraction", "free_misfit", "angle_offset_rms_mdeg")
    return {
        "rung": done.provenance.get("model"),
        "why": done.provenance.get("rung"),
        "chi": done.chi,
        **{name: done.metrics.get(name) for name in kept},
        "refined": done.provenance.get("refined"),
    }
