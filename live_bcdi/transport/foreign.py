"""A rocking scan from the NeXus or CXI fields of a file that another program wrote."""

from collections.abc import Iterable
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray, FloatArray, Geometry, RockingScan, Rotation, ScanError, Vector
from .files import text
from .nexus import JOULE_A_KEV

IN_M = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "micron": 1e-6, "µm": 1e-6}
IN_KEV = {"keV": 1.0, "eV": 1e-3, "J": 1 / JOULE_A_KEV, "joule": 1 / JOULE_A_KEV}
IN_DEG = {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "rad": 180 / np.pi, "radian": 180 / np.pi}

_ENTRIES = ("entry_1", "entry")
_DETECTORS = ("instrument_1/detector_1", "instrument/detector", "data_1", "data")
_CXI_MASK_BITS = 0xFFFF  # higher bits say what a pixel has, not that it is bad


def foreign_scan(file: h5py.File, name: str) -> RockingScan:
    """Frames, angles and geometry by their usual NeXus and CXI names; docs/file-format.md lists them.

    The rocking circle is the one sample rotation with a value for every frame; the geometry holds it at the
    middle frame. Raises one ScanError that lists everything that is missing.
    """
    fields = _Fields(file)
    frames = fields.frames()
    sample, angles_deg = fields.sample_circles(len(frames) if frames is not None else 0)
    geometry = fields.geometry(sample)
    if fields.problems or frames is None or geometry is None or angles_deg is None:
        raise ScanError(f"{name} is not a rocking scan that can be used: " + "; ".join(fields.problems))
    return RockingScan(
        name=fields.text("title") or name,
        intensity=frames[()],
        angles_deg=angles_deg,
        geometry=geometry,
        monitor=fields.a_frame("monitor/data", len(frames)),
        bad_pixels=fields.mask(frames.shape[1:]),
        flatfield=fields.flatfield(frames.shape[1:]),
        saturation_counts=fields.scalar("saturation_value"),
        exposure_s=fields.scalar("count_time"),
        angular_blur_deg=fields.scalar("angular_blur"),
        hkl=fields.hkl(),
        sample=fields.text("sample_1/name", "sample/name"),
    )


class _Fields:
    """Looks fields up under their several names and notes what is missing, to say it all at once."""

    def __init__(self, file: h5py.File) -> None:
        self.problems: list[str] = []
        entry = next((file[name] for name in _ENTRIES if isinstance(file.get(name), h5py.Group)), None)
        self._entry = file if entry is None else entry

    def _find(self, paths: Iterable[str]) -> h5py.Dataset | None:
        found = (self._entry.get(path) for path in paths)
        return next((item for item in found if isinstance(item, h5py.Dataset)), None)

    def frames(self) -> h5py.Dataset | None:
        found = self._find(f"{place}/data" for place in (*_DETECTORS[2:], *_DETECTORS[:2]))
        if found is None:
            self.problems.append("no frames at entry_1/data_1/data")
        elif found.ndim != 3 or found.dtype.kind not in "iuf":
            self.problems.append(f"{found.name} is {found.shape} {found.dtype}, not (rocking, row, column) counts")
        else:
            return found
        return None

    def number(self, what: str, paths: Iterable[str], units: dict[str, float], default: str) -> float:
        """A scalar in the field's unit, or in `default` where it has none; NaN and a note where it is missing."""
        paths = tuple(paths)
        found = self._find(paths)
        if found is None or found.size != 1:
            self.problems.append(f"no {what} at {paths[0]}")
            return float("nan")
        unit = text(found.attrs["units"]) if "units" in found.attrs else default
        if unit not in units:
            self.problems.append(f"{found.name} is in {unit!r}; known are {', '.join(units)}")
            return float("nan")
        return float(np.ravel(found[()])[0]) * units[unit]

    def geometry(self, sample: tuple[Rotation, ...]) -> Geometry | None:
        def on_detector(what: str, field: str) -> float:
            return self.number(what, (f"{place}/{field}" for place in _DETECTORS), IN_M, "m")

        distance_m = on_detector("detector distance", "distance")
        pixel_m = (on_detector("row pitch", "y_pixel_size"), on_detector("column pitch", "x_pixel_size"))
        beam = ("instrument/beam/incident_energy", "beam/incident_energy", "sample/beam/incident_energy")
        energy_kev = self.number("photon energy", ("instrument_1/source_1/energy", *beam), IN_KEV, "J")
        arm_pixel = (self._pixel("beam_center_y"), self._pixel("beam_center_x"))
        rows, columns = self._direction("slow"), self._direction("fast")
        arm = tuple(circle for circle, _ in self._chain(_DETECTORS[:2]))
        if self.problems or rows is None or columns is None:
            return None
        return Geometry(
            energy_kev=energy_kev,
            distance_m=distance_m,
            pixel_um=(pixel_m[0] * 1e6, pixel_m[1] * 1e6),
            arm_pixel=arm_pixel,
            beam_direction=self._beam_direction(),
            row_direction=rows,
            column_direction=columns,
            sample=sample,
            arm=arm,
            rocking=self._rocking,
        )

    def _pixel(self, field: str) -> float:
        paths = (f"{place}/{field}" for place in _DETECTORS)
        return self.number(f"{field} (in pixels)", paths, {"pixel": 1.0, "pixels": 1.0, "": 1.0}, "pixel")

    def _direction(self, axis: str) -> Vector | None:
        paths = tuple(f"{place}/detector_module/{axis}_pixel_direction" for place in _DETECTORS[:2])
        found = self._find(paths)
        if found is None or "vector" not in found.attrs:
            self.problems.append(f"no {paths[1]} with a vector")
            return None
        return _unit_vector(found.attrs["vector"])

    def _beam_direction(self) -> Vector:
        found = self._find(("instrument/beam/direction",))
        return (0.0, 0.0, 1.0) if found is None else _unit_vector(found[()])  # NeXus: z is along the beam

    def sample_circles(self, count: int) -> tuple[tuple[Rotation, ...], NDArray[np.float64] | None]:
        """The sample's circles, outermost first, and the angles of the one that the scan turns."""
        chain = self._chain(("sample_1", "sample"))
        scanned = [(circle, values) for circle, values in chain if len(values) == count and count > 1]
        self._rocking = scanned[0][0].motor if scanned else ""
        if len(scanned) != 1:
            self.problems.append(
                f"{len(scanned)} sample rotations have an angle for every frame, one must"
                " (sample/depends_on and sample/transformations)"
            )
            return tuple(circle for circle, _ in chain), None
        return tuple(circle for circle, _ in chain), scanned[0][1]

    def _chain(self, parents: Iterable[str]) -> list[tuple[Rotation, NDArray[np.float64]]]:
        """Rotations from the outermost in, with all their values (degrees), along `depends_on`."""
        parent = next((self._entry[path] for path in parents if path in self._entry), None)
        found: list[tuple[Rotation, NDArray[np.float64]]] = []
        if parent is None or "depends_on" not in parent:
            return found
        here, target = parent, text(parent["depends_on"])
        seen: set[str] = set()
        while target not in (".", "") and target in here and target not in seen:
            seen.add(target)
            step = here[target]
            if text(step.attrs.get("transformation_type", "")) == "rotation":
                found.insert(0, self._rotation(step, target.rsplit("/", 1)[-1]))
            here, target = step.parent, text(step.attrs.get("depends_on", "."))
            here = here if target.startswith("/") or target in here else parent
        if target not in (".", ""):
            self.problems.append(f"{parent.name}: the chain of depends_on breaks at {target!r}")
        return found

    def _rotation(self, step: h5py.Dataset, motor: str) -> tuple[Rotation, NDArray[np.float64]]:
        unit = text(step.attrs.get("units", "degree"))
        if unit not in IN_DEG:
            self.problems.append(f"{step.name} is in {unit!r}; known are {', '.join(IN_DEG)}")
        values = np.asarray(step[()], np.float64).ravel() * IN_DEG.get(unit, 1.0)
        middle = float(values[len(values) // 2])
        return Rotation(motor=motor, axis=_unit_vector(step.attrs["vector"]), angle_deg=middle), values

    def text(self, *paths: str) -> str:
        found = self._find(paths)
        return "" if found is None else text(found)

    def a_frame(self, path: str, count: int) -> NDArray[np.float64] | None:
        found = self._find((path,))
        return None if found is None or found.shape != (count,) else np.asarray(found[()], np.float64)

    def scalar(self, field: str) -> float | None:
        found = self._find(f"{place}/{field}" for place in _DETECTORS[:2])
        return None if found is None or found.size != 1 else float(np.ravel(found[()])[0])

    def mask(self, shape: tuple[int, ...]) -> BoolArray | None:
        nexus = self._find(f"{place}/pixel_mask" for place in _DETECTORS[:2])
        if nexus is not None and nexus.shape == shape:
            return np.asarray(np.not_equal(nexus[()], 0))
        cxi = self._find(f"{place}/mask" for place in _DETECTORS)
        if cxi is not None and cxi.shape == shape:
            return np.asarray(np.not_equal(np.asarray(cxi[()], np.int64) & _CXI_MASK_BITS, 0))
        return None

    def flatfield(self, shape: tuple[int, ...]) -> FloatArray | None:
        found = self._find(f"{place}/flatfield" for place in _DETECTORS[:2])
        return None if found is None or found.shape != shape else np.asarray(found[()], np.float32)

    def hkl(self) -> Vector | None:
        found = self._find(("sample_1/hkl", "sample/hkl"))
        return None if found is None or found.size != 3 else _vector(found[()])


def _vector(values: Any) -> Vector:
    x, y, z = (float(value) for value in np.ravel(values))
    return (x, y, z)


def _unit_vector(values: Any) -> Vector:
    """A direction; NeXus allows any length. One that is of length 1 to rounding stays as it is."""
    x, y, z = _vector(values)
    length = float(np.linalg.norm((x, y, z)))
    return (x, y, z) if abs(length - 1) < 1e-12 else (x / length, y / length, z / length)
