"""A rocking scan from files that say little of themselves: TIFF frames, or an HDF5 file with paths of its own.

The `[files]` table of the configuration says where frames, angles, energy, distance and motors are.
"""

import fnmatch
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ..config import Config, FilesConfig
from ..types import BoolArray, FrameArray, RockingScan, ScanError, Vector
from .files import clear_errors, open_file, text
from .foreign import IN_DEG, IN_KEV, IN_M
from .images import by_number, ranges, read_frames, read_image, read_stack

Floats = NDArray[np.float64]

STILL_DEG = 0.02  # what the read-back of a motor that stands may vary by
_TIFF = (".tif", ".tiff")
# Beyond these a number is in another unit: eV, mm.
_MOST = {"energy_kev": 200.0, "distance_m": 100.0}


def read_described_scan(
    source: Path, config: Config, *, hkl: Vector | None = None, sample: str | None = None
) -> RockingScan:
    """Read the frames in `source`: a folder of TIFF files, a TIFF file of many pages, or an HDF5 file.

    Everything else is where `config.files` says. Counts stay as they are. The rocking circle is held at the
    angle of the middle frame. Raises ScanError that says what is missing or does not fit, and what is there.
    """
    files = config.files
    with ExitStack() as opened:
        look = _LookUp(_hdf5(source, opened))
        frames = _frames(source, look, files)
        angles_deg = look.angles_deg(files, len(frames))
        motors = {motor: look.still_deg(motor, told) for motor, told in files.motors.items()}
        _require_motors(config, set(motors))
        middle_deg = float(angles_deg[len(angles_deg) // 2])
        if files.energy_kev is None:
            raise ScanError("no photon energy: give --energy-kev (or [files] energy_kev), a number or a dataset")
        geometry = config.geometry(
            {**motors, config.diffractometer.rocking: middle_deg},
            energy_kev=look.one("energy_kev", files.energy_kev, IN_KEV),
            distance_m=None if files.distance_m is None else look.one("distance_m", files.distance_m, IN_M),
        )
        limit = config.detector.saturation_counts
        return RockingScan(
            name=source.stem if source.is_file() else source.resolve().name,
            intensity=frames,
            angles_deg=angles_deg,
            geometry=geometry,
            monitor=None if files.monitor is None else look.each("monitor", files.monitor, len(frames)),
            bad_pixels=_bad_pixels(look, files, frames.shape[1:]),
            saturation_counts=None if limit is None else limit * files.acquisitions_per_frame,
            hkl=hkl or config.sample.hkl,
            sample=config.sample.name if sample is None else sample,
            metadata={"files": {"source": source.name, **files.model_dump(exclude_none=True)}},
        )


def _hdf5(source: Path, opened: ExitStack) -> h5py.File | None:
    if not source.exists():
        raise ScanError(f"{source} cannot be read: there is no such file or folder")
    if source.is_dir() or source.suffix.lower() in _TIFF:
        return None
    file = opened.enter_context(open_file(source))
    opened.enter_context(clear_errors(source, "scan"))
    return file


def _require_motors(config: Config, told: set[str]) -> None:
    circles = config.diffractometer
    wanted = {circle.motor for circle in (*circles.sample, *circles.arm)}
    if missing := sorted(wanted - {circles.rocking} - told):
        raise ScanError(
            f"no position of motor {', '.join(missing)}: give --motor {missing[0]}=DEGREES (or a dataset), or"
            f" [files.motors]; {circles.rocking} rocks, and has the angles"
        )
    if unknown := sorted(told - wanted):
        raise ScanError(f"{config.beamline} has no motor {', '.join(unknown)}; it has {', '.join(sorted(wanted))}")


class _LookUp:
    """Numbers that are told as such, by the path of a dataset, or by the name of a text file."""

    def __init__(self, file: h5py.File | None) -> None:
        self.file = file
        self.dangling: list[str] = []  # links to what is not there

    def datasets(self) -> dict[str, h5py.Dataset]:
        """All that links reach, by path."""
        found: dict[str, h5py.Dataset] = {}
        self.dangling.clear()
        seen: set[object] = set()
        waiting: list[tuple[str, object]] = [] if self.file is None else [("", self.file)]
        for path, item in waiting:
            if isinstance(item, h5py.Dataset):
                found[path] = item
            elif isinstance(item, h5py.Group) and item.id not in seen:
                seen.add(item.id)
                waiting.extend((f"{path}/{name}", item.get(name)) for name in item)
            elif item is None:
                self.dangling.append(path)
        return found

    def there_are(self, what: str, fits: set[int], count: int | None = None) -> str:
        """A sentence of the datasets with so many axes (and numbers), to choose from."""
        if self.file is None:
            return ""
        found = [
            f"{path} {each.shape}"
            for path, each in self.datasets().items()
            if each.ndim in fits and each.dtype.kind in "iuf" and (count is None or each.size == count)
        ]
        return f"; {what}: {', '.join(found[:8]) or 'none'}{' and more' if len(found) > 8 else ''}"

    def dataset(self, what: str, path: str) -> h5py.Dataset:
        found = None if self.file is None else self.file.get(path)
        if not isinstance(found, h5py.Dataset):
            raise ScanError(f"{what}: {_where(self.file)} has no dataset {path!r}")
        return _whole(found)

    def values(self, what: str, told: float | str, units: Mapping[str, float]) -> Floats:
        """What `told` means, in the unit that the first of `units` is; a dataset says its own."""
        try:
            return np.array([float(told)])
        except ValueError:
            told = str(told)
        if self.file is not None and told in self.file:
            found = self.dataset(what, told)
            if found.dtype.kind not in "iuf":
                raise ScanError(f"{what}: {told} holds {found.dtype}, not numbers")
            unit = text(found.attrs["units"]) if units and "units" in found.attrs else next(iter(units), "")
            if units and unit not in units:
                raise ScanError(f"{what}: {told} is in {unit!r}; known are {', '.join(units)}")
            return np.asarray(found[()], np.float64).ravel() * units.get(unit, 1.0)
        return _column(what, told, self.file)

    def one(self, what: str, told: float | str, units: Mapping[str, float]) -> float:
        values = self.values(what, told, units)
        if not len(values) or not np.isfinite(values).all() or np.ptp(values) > 1e-3 * abs(values[0]):
            raise ScanError(f"{what}: {told} is not one number, but {_said(values)}")
        if values[0] > _MOST[what]:
            raise ScanError(f"{what} is {values[0]:g}, more than {_MOST[what]:g}: mind the unit")
        return float(np.median(values))

    def still_deg(self, motor: str, told: float | str) -> float:
        """Where a motor stands, which a dataset may say once a frame."""
        values = self.values(f"motor {motor}", told, IN_DEG)
        if not len(values) or not np.isfinite(values).all() or np.ptp(values) > STILL_DEG:
            raise ScanError(
                f"motor {motor}: {told} is not one position, but {_said(values)}; one circle rocks only"
            )
        return float(np.median(values))

    def each(self, what: str, told: str, count: int, units: Mapping[str, float] | None = None) -> Floats:
        also = self.there_are(f"of {count} numbers are", {1, 2, 3}, count)
        try:
            values = self.values(what, told, units or {})
        except ScanError as error:
            raise ScanError(f"{error}{also}") from None
        if len(values) != count:
            raise ScanError(f"there are {count} frames, but {told} has {len(values)} {what}{also}")
        if not np.isfinite(values).all():
            raise ScanError(f"{told} has {what} that are no numbers, for frame {ranges(_bad(values))}")
        return values

    def angles_deg(self, files: FilesConfig, count: int) -> Floats:
        if files.angles is None:
            also = self.there_are(f"of {count} numbers are", {1, 2, 3}, count)
            raise ScanError(
                f"no angles of the {count} frames: give --angles (or [files] angles) as FIRST:LAST in degrees,"
                f" a text file with one a line, or a dataset{also}"
            )
        ends = re.fullmatch(r"\s*([^:]+):([^:]+)", files.angles)
        try:
            first, last = (float(end) for end in ends.groups()) if ends else (0.0, 0.0)
        except ValueError:
            ends = None
        if ends:
            return np.linspace(first, last, count)
        return self.each("angles", files.angles, count, IN_DEG)


def _frames(source: Path, look: _LookUp, files: FilesConfig) -> FrameArray:
    if look.file is not None:
        return _from_hdf5(look, files.frames)
    if source.is_file():
        return read_stack(source)
    pattern = files.frames or "*.tif*"
    images = (path for path in source.rglob("*") if path.suffix.lower() in _TIFF)
    try:
        numbered = by_number(path for path in images if path.relative_to(source).match(pattern))
    except ScanError as error:
        raise ScanError(f"{error}; choose those of one scan with --frames 'NAME_*.tif'") from None
    if len(numbered) < 2:
        raise ScanError(
            f"{source} has {len(numbered)} frames: TIFF files {pattern}, in it or below, with a number at the end"
        )
    numbers = list(numbered)
    if gone := sorted(set(range(numbers[0], numbers[-1])) - set(numbers)):
        raise ScanError(
            f"{source} has no frame {ranges(gone)}: copy it again, or choose with --frames 'NAME_*.tif'"
        )
    return read_frames(list(numbered.values()))


def _from_hdf5(look: _LookUp, path: str | None) -> FrameArray:
    """One dataset of three axes, or several, a pattern, one after the other."""
    choice = look.there_are("of three axes are", {3})
    if path is None:
        three = {each.id: each for each in look.datasets().values() if each.ndim == 3 and each.dtype.kind in "iuf"}
        if len(three) != 1:
            raise ScanError(f"which dataset has the frames? Give --frames (or [files] frames){choice}")
        found = [_whole(each) for each in three.values()]
    elif set(path) & set("*?["):
        pattern = f"/{path.lstrip('/')}"
        names = fnmatch.filter(sorted(look.datasets()), pattern)
        if gone := fnmatch.filter(look.dangling, pattern):
            raise ScanError(f"frames: what {', '.join(gone[:3])} links to is not there; copy the files together")
        found = [look.dataset("frames", name) for name in names]
    else:
        found = [look.dataset("frames", path)]
    if not found or any(each.ndim != 3 or each.dtype.kind not in "iuf" for each in found):
        shapes = ", ".join(f"{each.shape} {each.dtype}" for each in found) or "nothing"
        raise ScanError(f"frames: {path} is {shapes}; it must be counts (frame, row, column){choice}")
    if len({each.shape[1:] for each in found}) > 1:
        raise ScanError(f"frames: {path} has images of several sizes{choice}")
    return found[0][()] if len(found) == 1 else np.concatenate([each[()] for each in found])


def _whole(dataset: h5py.Dataset) -> h5py.Dataset:
    """The same; HDF5 gives zeros for those parts of a virtual dataset whose files are not there."""
    if dataset.is_virtual:
        folder = Path(dataset.file.filename).parent
        names = {each.file_name for each in dataset.virtual_sources()} - {"."}
        if gone := sorted(name for name in names if not (folder / name).exists()):
            raise ScanError(
                f"{dataset.name} has its data in {', '.join(gone[:3])}, not there; copy the files together"
            )
    return dataset


def _bad_pixels(look: _LookUp, files: FilesConfig, shape: tuple[int, ...]) -> BoolArray | None:
    if files.bad_pixels is None:
        return None
    if look.file is not None and files.bad_pixels in look.file:
        image = np.asarray(look.dataset("bad_pixels", files.bad_pixels)[()])
    else:
        image = read_image(Path(files.bad_pixels))
    if image.shape != shape:
        raise ScanError(f"bad_pixels: {files.bad_pixels} is {image.shape}, the frames are {shape}")
    return np.asarray(np.not_equal(image, 0))


def _column(what: str, name: str, file: h5py.File | None) -> Floats:
    try:
        return np.loadtxt(name, dtype=np.float64, ndmin=1, delimiter=None).ravel()
    except OSError:
        inside = "" if file is None else f" nor a dataset of {Path(file.filename).name}"
        raise ScanError(f"{what}: {name!r} is neither a number nor a text file that can be read{inside}") from None
    except ValueError as error:
        raise ScanError(f"{what}: {name} must have one number a line: {error}") from None


def _where(file: h5py.File | None) -> str:
    return "a TIFF file" if file is None else Path(file.filename).name


def _bad(values: Floats) -> list[int]:
    return [int(index) for index in np.flatnonzero(~np.isfinite(values))]


def _said(values: Floats) -> str:
    return f"{len(values)} from {values.min():g} to {values.max():g}" if len(values) else "none"
