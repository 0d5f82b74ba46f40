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
from tiled.queries import Key

from . import labelled
from .config import Config, TiledConfig, find_config, load_config
from .transport.hdf5 import read_result, read_scan
from .transport.results import Origin, read_origin
from .transport.stored import result_arrays, result_from, result_metadata
from .transport.tiled import connect, find_run, newest_run, read_raw_scan, tiled_errors
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
        return f"<{self.path}: {', '.join([*facts, self.metadata['recipe']])}>"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class Run:
    """One run: `uid` (empty for what was phased offline), `name`, `metadata`, and `results` by version, in order.

    `metadata` is that of Tiled, `start` and `stop` as bluesky wrote them, or what a result file says of its
    origin.
    """

    uid: str
    name: str
    metadata: Mapping[str, Any]
    results: Mapping[str, Result]
    read_scan: Callable[[], RockingScan]

    def scan(self) -> RockingScan:
        """The measured frames with angles and geometry, read now. Raises ScanError where they are not there."""
        return self.read_scan()

    def frames(self) -> xr.DataArray:
        """The measured frames as xarray: counts (angle, row, column). Raises ScanError as `scan`."""
        return labelled.frames(self.scan())

    def result(self, version: int | str | None = None) -> Result:
        """A result by its version; without one the newest. Raises ScanError where there is none, or none such."""
        if not self.results:
            raise ScanError(
                f"run {self.uid[:8]} ({self.name}) has no result yet; `live-bcdi phase {self.uid[:8]}` makes one"
            )
        wanted = list(self.results)[-1] if version is None else str(version)
        if wanted not in self.results:
            raise ScanError(f"run {self.uid[:8]} has no result {version}; it has {', '.join(self.results)}")
        return self.results[wanted]

    def __repr__(self) -> str:
        return f"<run {self.uid[:8] or 'offline'} {self.name!r}: results {', '.join(self.results) or 'none yet'}>"


def open_run(source: str | Path | None = None, *, config: Config | str | Path | None = None) -> Run:
    """A run to look at: by its uid in Tiled, or the beginning of it, or by the name of a result file (.cxi);
    without any, the newest run in Tiled that has been refined.

    `config` is a beamline's, its file, or the name of one that ships; it says where Tiled is. Without one that is
    $LIVE_BCDI_TILED_URI, or the server of `live-bcdi up` on this machine. Raises ScanError where there is no such
    run or file, several runs begin so, or Tiled is away.
    """
    if isinstance(source, Path) or (source is not None and _means_file(source)):
        return _of_file(Path(source))
    settings = _settings(config)
    root = connect(settings)

    def errors() -> AbstractContextManager[None]:
        return tiled_errors(settings)

    with errors():
        return _of_tiled(root, newest_run(root) if source is None else find_run(root, source), errors)


def _means_file(source: str) -> bool:
    return "/" in source or Path(source).suffix != "" or Path(source).is_file()


def _settings(config: Config | str | Path | None) -> Config:
    if isinstance(config, Config):
        return config
    if config is not None:
        return load_config(find_config(str(config)))
    settings, uri = load_config(find_config(DEFAULT_CONFIG)), os.environ.get(URI_ENV)
    return settings if uri is None else settings.model_copy(update={"tiled": TiledConfig(uri=uri)})


def _of_tiled(root: Container, uid: str, errors: Callable[[], AbstractContextManager[None]]) -> Run:
    documents = dict(root["raw", uid].metadata) if "raw" in root and uid in root["raw"] else {}
    found = {}
    if "refined" in root and uid in root["refined"]:
        complete = root["refined", uid].search(Key("complete") == True)  # noqa: E712  Tiled builds a query of it
        nodes = dict(complete.items())
        found = {version: _stored(uid, version, nodes[version], errors) for version in sorted(nodes, key=int)}

    def frames() -> RockingScan:
        with errors():
            return read_raw_scan(root, uid)

    scan = documents.get("start", {}).get("live_bcdi", {}).get("scan", {})
    names = [scan.get("name"), *(result.metadata.get("name") for result in found.values())]
    name = next((str(each) for each in names if each), "")
    return Run(uid=uid, name=name, metadata=documents, results=found, read_scan=frames)


def _stored(uid: str, version: str, node: Container, errors: Callable[[], AbstractContextManager[None]]) -> Result:
    path = f"refined/{uid}/{version}"
    return Result(
        path=path, version=version, metadata=dict(node.metadata), arrays=dict(node.items()), errors=errors
    )


def _of_file(path: Path) -> Run:
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
        results={"1": result},
        read_scan=lambda: _frames_of(path, origin),
    )


def _frames_of(path: Path, origin: Origin) -> RockingScan:
    if origin.frames is None:
        raise ScanError(f"the frames of {path} are not here: it names {dict(origin.links) or 'no place of them'}")
    return read_scan(origin.frames)
