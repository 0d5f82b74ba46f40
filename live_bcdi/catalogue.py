"""A run as people look at it: what it is, its frames, each of its results, from Tiled or from a result file.

Nothing here writes. Arrays are read when they are asked for.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tiled.client.container import Container

from . import labelled
from .config import Config, TiledConfig, find_config, load_config
from .metadata import file_stem
from .transport.hdf5 import read_result, read_scan
from .transport.results import Origin, read_origin
from .transport.stored import result_arrays, result_from, result_metadata
from .transport.tiled import (
    KINDS,
    REFINED,
    connect,
    find_run,
    is_run,
    newest_run,
    read_raw_scan,
    tiled_errors,
    versions,
)
from .types import Reconstruction, RockingScan, ScanError

URI_ENV = "LIVE_BCDI_TILED_URI"
DEFAULT_CONFIG = "34idc"  # all that matters of it here is where Tiled and the storage folder are


class StoredArray(Protocol):
    """As much of Tiled's array client as is asked for."""

    @property
    def metadata(self) -> Mapping[str, Any]: ...

    def read(self) -> Any: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Held:
    """An array that is here already."""

    values: NDArray[Any]
    metadata: Mapping[str, Any]

    def read(self) -> NDArray[Any]:
        return self.values.copy()  # what someone does to it is not in what is read next


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class Result:
    """One result: `metadata` (recipe, seed, chi, provenance, ...; docs/tiled.md lists it) and arrays by name.
    `path` is where it lies in Tiled, or the file.

    `result["strain"]` reads one as xarray, `.values` of it is numpy; `result.dataset("strain", "support")` reads
    some, or without names all. Raises ScanError where Tiled went away, or there is no such array.
    """

    path: str
    version: str
    metadata: Mapping[str, Any]
    arrays: Mapping[str, StoredArray]
    errors: Callable[[], AbstractContextManager[None]] = nullcontext

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __contains__(self, name: object) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> xr.DataArray:
        if name not in self.arrays:
            raise ScanError(f"{self.path} has no array {name!r}; it has {', '.join(self.arrays)}")
        values, about = self._read(name), dict(self.arrays[name].metadata)
        if values.ndim == 3:
            return labelled.volume(name, values, about, self.metadata, set(self.arrays))
        if values.ndim != 1:
            return labelled.other(name, values, about)
        axis = labelled.CURVES.get(name)
        return labelled.curve(name, values, about, self._read(axis) if axis in self.arrays else None)

    def dataset(self, *names: str) -> xr.Dataset:
        """The arrays of these names, or all, with `metadata` as attributes: tables in it by `key.name`."""
        found = {name: self[name] for name in names or self.arrays}
        return xr.Dataset(found, attrs=labelled.flat(self.metadata))

    def reconstruction(self) -> Reconstruction:
        """All of it as the type that the rest of live_bcdi works with (`live_bcdi.lattice`, `find_facets`)."""
        return result_from({name: self._read(name) for name in self.arrays}, self.metadata)

    def _read(self, name: str | None) -> NDArray[Any]:
        with self.errors():
            return np.asarray(self.arrays[str(name)].read())

    def __repr__(self) -> str:
        keys = ("chi", "resolution_nm", "voxel_nm")
        facts = [f"{key} {self.metadata[key]:.4g}" for key in keys if self.metadata.get(key) is not None]
        recipe = [self.metadata["recipe"]] if "recipe" in self.metadata else []
        return f"<{self.path}: {', '.join([*facts, *recipe]) or ', '.join(self)}>"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class Run:
    """One run: `uid` (empty for what was phased offline), `name`, `metadata`, and `results` by kind ("refined",
    "preview", "dynamical", "tracking": those there are), of each kind by version, in order.

    `metadata` is that of Tiled, `start` and `stop` as bluesky wrote them, or what a result file says of its
    origin.
    """

    uid: str
    name: str
    metadata: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Result]]
    read_scan: Callable[[], RockingScan]

    def scan(self) -> RockingScan:
        """The measured frames with angles and geometry, read now. Raises ScanError where they are not there."""
        return self.read_scan()

    def frames(self) -> xr.DataArray:
        """The measured frames as xarray: counts (angle, row, column). Raises ScanError as `scan`."""
        return labelled.frames(self.scan())

    def result(self, version: int | str | None = None, *, kind: str = REFINED) -> Result:
        """A result by its version; without one the newest. Raises ScanError where there is none, or none such."""
        found = self.results.get(kind, {})
        if not found:
            verb = {REFINED: "phase", "dynamical": "refine-dynamical"}.get(kind)
            remedy = f"; `live-bcdi {verb} {self.uid[:8]}` makes one" if verb else ""
            raise ScanError(f"run {self.uid[:8]} ({self.name}) has no {kind} result yet{remedy}")
        wanted = list(found)[-1] if version is None else str(version)
        if wanted not in found:
            raise ScanError(f"run {self.uid[:8]} has no {kind} result {version}; it has {', '.join(found)}")
        return found[wanted]

    def stem(self, result: Result) -> str:
        """The beginning of a name for a file of one of its results."""
        return f"{file_stem(self.name)}_{self.uid[:8] or 'offline'}_{result.version}"

    def __repr__(self) -> str:
        kinds = [f"{kind} {', '.join(found)}" for kind, found in self.results.items()]
        return f"<run {self.uid[:8] or 'offline'} {self.name!r}: {'; '.join(kinds) or 'no results yet'}>"


def open_run(source: str | Path | None = None, *, config: Config | str | Path | None = None) -> Run:
    """A run to look at: by its uid in Tiled, or the beginning of it, or by the name of a result file (.cxi);
    without any, the newest run in Tiled that has been refined.

    `config` is a beamline's, its file, or the name of one that ships; it says where Tiled is. Without one that is
    $LIVE_BCDI_TILED_URI, or the server of `live-bcdi up` on this machine. Raises ScanError where there is no such
    run or file, several runs begin so, or Tiled is away.
    """
    settings = _settings(config)
    if isinstance(source, Path) or (source is not None and not is_run(source)):
        return _of_file(Path(source), settings)
    root = connect(settings)

    def errors() -> AbstractContextManager[None]:
        return tiled_errors(settings)

    with errors():
        return _of_tiled(root, newest_run(root) if source is None else find_run(root, source), errors)


def _settings(config: Config | str | Path | None) -> Config:
    if isinstance(config, Config):
        return config
    if config is not None:
        return load_config(find_config(str(config)))
    settings, uri = load_config(find_config(DEFAULT_CONFIG)), os.environ.get(URI_ENV)
    return settings if uri is None else settings.model_copy(update={"tiled": TiledConfig(uri=uri)})


def _of_tiled(root: Container, uid: str, errors: Callable[[], AbstractContextManager[None]]) -> Run:
    documents = dict(root["raw", uid].metadata) if "raw" in root and uid in root["raw"] else {}
    found = {
        kind: {
            version: Result(
                path=f"{kind}/{uid}/{version}",
                version=version,
                metadata=dict(node.metadata),
                arrays=dict(node.items()),
                errors=errors,
            )
            for version, node in versions(root, kind, uid).items()
        }
        for kind in KINDS
    }

    def frames() -> RockingScan:
        with errors():
            return read_raw_scan(root, uid)

    scan = documents.get("start", {}).get("live_bcdi", {}).get("scan", {})
    names = [scan.get("name"), *(each.metadata.get("name") for kind in found.values() for each in kind.values())]
    return Run(
        uid=uid,
        name=next((str(each) for each in names if each), ""),
        metadata=documents,
        results={kind: each for kind, each in found.items() if each},
        read_scan=frames,
    )


def _of_file(path: Path, settings: Config) -> Run:
    if path.suffix == "" and not path.exists():
        raise ScanError(
            f"there is no file {str(path)!r}, and the uid of a run begins with 4 to 8 hexadecimal digits"
        )
    reconstruction, origin = read_result(path), read_origin(path)
    result = Result(
        path=str(path),
        version="1",
        metadata={"name": origin.name, **result_metadata(reconstruction)},
        arrays={
            name: _Held(values=values, metadata=about)
            for name, (values, about) in result_arrays(reconstruction).items()
        },
    )
    return Run(
        uid=origin.run,
        name=origin.name,
        metadata={"file": str(path), **origin.links},
        results={REFINED: {"1": result}},
        read_scan=lambda: _frames_of(path, origin, settings),
    )


def _frames_of(path: Path, origin: Origin, settings: Config) -> RockingScan:
    """Where the file says they are, or in Tiled; of several scans that were summed, the first."""
    if origin.frames is not None:
        return read_scan(origin.frames)
    away = f"the frames of {path} are not here: it names {dict(origin.links) or 'no place of them'}"
    if not origin.run:
        raise ScanError(away)
    try:
        return read_raw_scan(connect(settings), origin.run.split()[0])
    except ScanError as error:
        raise ScanError(f"{away}, and {error}") from None
