"""Where a run's frames lie on disk, from its documents."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from live_bcdi.metadata import file_stem
from live_bcdi.stream.run import run_plan
from live_bcdi.transport.hdf5 import DATA_PATH


def frame_file_of(resource: Mapping[str, Any]) -> str | None:
    """The path in a StreamResource document that holds a run's frames; None for other resources."""
    try:
        uri = urlparse(str(resource.get("uri", "")))
        here = uri.scheme == "file" and uri.hostname in (None, "localhost")
    except ValueError:  # no address of anything
        return None
    path = unquote(uri.path)
    dataset = (resource.get("parameters") or {}).get("dataset")
    return path if here and dataset == DATA_PATH and "\0" not in path else None


def written_s(path: Path) -> float:
    """When a file was last written (seconds since 1970); 0 where it is gone, as journals are that were moved."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def recorded_file(folder: Path, start: Mapping[str, Any]) -> Path:
    """Where the recorder keeps a run's frames, by its start document; further parts lie beside it.

    Raises ScanError where the start document lacks what a run must say.
    """
    plan = run_plan(start)
    return folder / f"{file_stem(plan.name)}_{plan.run[:8]}.h5"
