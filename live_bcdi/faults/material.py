"""What the soak measures, where, and what must come out of it."""

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Config, load_config
from ..pipeline import provenance, reconstruct_as_configured
from ..sim import simulate_scan
from ..transport.hdf5 import read_scan, write_scan
from ..types import RockingScan, ScanError

SHAPES = ((16, 24, 24), (20, 24, 32), (24, 32, 32), (16, 32, 24), (18, 24, 24))
PHOTONS = 3e5
ADDRESSES = ("documents_in", "documents_out", "updates_in", "updates_out", "frames")

# As little phasing as gives a density to compare: the soak is about what reaches it.
TABLES: dict[str, dict[str, Any]] = {
    "phasing": {
        "recipe": "10*ER + 20*HIO(beta=0.9) + 10*ER",
        "starts": 1,
        "threads": 1,
        "free": 0.0,
        "select": "chi",
    },
    "live": {"edge_voxels": 16, "iterations": 4},
}


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_configs(folder: Path, beamline: Path) -> tuple[Path, Path]:
    """The services' configuration on free ports, and the detector's, whose frames go elsewhere: to the relay."""
    stream = {name: f"tcp://127.0.0.1:{free_port()}" for name in ADDRESSES}
    others: dict[str, dict[str, Any]] = {
        "tiled": {"port": free_port(), "uri": None},
        "page": {"port": free_port(), "host": "127.0.0.1", "key_env": None},
        "storage": {"directory": folder / "runs"},
        "jobs": {"scheduler": None},
        **TABLES,
    }
    whole = load_config(beamline).changed(stream=stream | {"keys": None, "source": "live_bcdi"}, **others)
    frames = {"frames": f"tcp://127.0.0.1:{free_port()}"}
    services, detector = folder / "beamline.toml", folder / "detector.toml"
    for path, config in ((services, whole), (detector, whole.changed(stream=frames))):
        tables = config.model_dump(mode="json", exclude_none=True)
        path.write_text("".join(f"{name} = {_toml(table)}\n" for name, table in tables.items()), encoding="utf-8")
    return services, detector


def _toml(value: Any) -> str:
    """A value as TOML, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What analysis of the first frames of a scan must give: `density` (rocking, row, column), or `error` where
    nothing can be made of so few frames."""

    input_sha256: str
    density: NDArray[np.complexfloating[Any, Any]]
    error: str = ""


NOTHING = Truth(input_sha256="", density=np.zeros((0, 0, 0), np.complex64), error="it has no frame")


class Material:
    """Scan files, and what they must give with the configuration, each reconstructed once."""

    def __init__(self, folder: Path, config_path: Path) -> None:
        self.config: Config = load_config(config_path)
        self._scans: dict[Path, RockingScan] = {}
        self._truths: dict[tuple[Path, int], Truth] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for seed, shape in enumerate(SHAPES):
            scan, _ = simulate_scan(config=self.config, shape=shape, photons=PHOTONS, strain="weak", seed=seed)
            path = folder / f"scan_{seed}.h5"
            write_scan(path, replace(scan, intensity=scan.intensity.astype(np.uint16)) if seed % 2 else scan)
            self._scans[path] = read_scan(path)

    @staticmethod
    def frames_of(config_path: Path) -> str:
        """Where a configuration's detector sends its frames."""
        return load_config(config_path).stream.frames

    @property
    def files(self) -> list[Path]:
        """The scan files."""
        return list(self._scans)

    def scan(self, file: Path, count: int | None = None) -> RockingScan:
        """The scan of a file, or its first `count` frames."""
        scan = self._scans[file]
        if count is None:
            return scan
        monitor = None if scan.monitor is None else scan.monitor[:count]
        return replace(scan, intensity=scan.intensity[:count], angles_deg=scan.angles_deg[:count], monitor=monitor)

    def truth(self, file: Path, count: int) -> Truth:
        """What the first `count` frames of a file give."""
        if (file, count) not in self._truths:
            self._truths[file, count] = self._reconstructed(self.scan(file, count))
        return self._truths[file, count]

    def _reconstructed(self, scan: RockingScan) -> Truth:
        checksum = provenance(scan)["input_sha256"]
        try:
            density = reconstruct_as_configured([scan], self.config).density
        except ScanError as error:
            return Truth(input_sha256=checksum, density=NOTHING.density, error=str(error))
        return Truth(input_sha256=checksum, density=density)
