"""Runs and results of Tiled for the page: each as it is, and what changed between two."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiled.client.container import Container

from live_bcdi.config import Config
from live_bcdi.difference import Difference, compare
from live_bcdi.isosurface import about_mean_phase, isosurface
from live_bcdi.lattice import mean_spacing_angstrom
from live_bcdi.metadata import plain
from live_bcdi.strain import extent_nm
from live_bcdi.stream.updates import Update
from live_bcdi.transport.history import find_result, list_runs, read_lab_image
from live_bcdi.transport.tiled import REFINED, connect, require_answer, tiled_errors
from live_bcdi.types import BoolArray, LabImage

from .views import LAB, about_surface, lab_parts, limit, surface_arrays

KEPT_IMAGES = 2  # of 50 MB at 128^3
KEPT_VIEWS = 16  # of 1 MB
TWIN_MARGIN = 0.01  # of the correlation: a crystal that is nearly its own inverse says nothing
SAME_SPACING, SAME_DEG = 0.02, 5.0  # beyond it, it is another reflection, or another crystal
ROTATED_DEG = 0.5
MOST_SIGNS = 200  # of what a browser asks for
OTHER_THEORY = (
    "One of them is kinematical, the other of a theory that knows refraction: what differs may be the theory, and"
    " not the crystal."
)


class TiledHistory:
    """Reads Tiled as a browser asks; from any thread. Every method raises ScanError where Tiled is away, or what
    is asked for is not there. Results never change, so the newest few are kept."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._root: Container | None = None
        self._lock = threading.Lock()
        self._image = lru_cache(KEPT_IMAGES)(self._read_image)
        self._view = lru_cache(KEPT_VIEWS)(self._make_view)
        self._change = lru_cache(KEPT_VIEWS)(self._make_change)

    def runs(self, *, skip: int, count: int, text: str) -> dict[str, Any]:
        """{rows, total} of `list_runs`."""
        with self._tiled() as root:
            rows, total = list_runs(root, skip=skip, count=count, text=text[:MOST_SIGNS])
        return dict(plain({"rows": rows, "total": total}))

    def result(self, place: str) -> Update:
        """The result at `uid`, `uid/version` or `uid/dynamical/version`, as the page is shown a refined crystal,
        with `facts` of it."""
        return self._view(*self._find(place))

    def difference(self, first: str, second: str) -> Update:
        """B - A of two results, and both on one grid."""
        return self._change(self._find(first), self._find(second))

    @contextmanager
    def _tiled(self) -> Iterator[Container]:
        require_answer(self._config)  # soon; the client itself would try for long
        with self._lock:
            root = self._root = self._root or connect(self._config)
        with tiled_errors(self._config):
            yield root

    def _find(self, place: str) -> tuple[str, str]:
        run, _, version = place[:MOST_SIGNS].partition("/")
        with self._tiled() as root:
            return find_result(root, run, version)

    def _read_image(self, uid: str, version: str) -> tuple[LabImage, dict[str, Any]]:
        with self._tiled() as root:
            return read_lab_image(root, uid, version)

    def _make_view(self, uid: str, version: str) -> Update:
        lab, metadata = self._image(uid, version)
        fields, arrays = lab_parts(lab)
        fields |= {key: metadata.get(key) for key in ("frames", "num", "chi", "seconds", "resolution_nm")}
        kind = version.rpartition("/")[0] or REFINED
        fields |= {"kind": kind, "version": version, "facts": facts(lab, metadata)}
        return Update(topic="estimate", run=uid, fields=fields, arrays=arrays)

    def _make_change(self, first: tuple[str, str], second: tuple[str, str]) -> Update:
        found = compare(self._image(*first)[0], self._image(*second)[0])
        fields, arrays = difference_parts(found)
        fields |= {"a": "/".join(first), "b": "/".join(second)}
        if ("/" in first[1]) != ("/" in second[1]):
            fields["notes"] = [OTHER_THEORY, *fields["notes"]]
        return Update(topic="difference", fields=fields, arrays=arrays)


def facts(lab: LabImage, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a result that are set beside those of another."""
    keys = (
        "name",
        "chi",
        "resolution_nm",
        "frames",
        "num",
        "voxel_nm",
        "finished",
        "recipe",
        "outcome",
        "operando",
    )
    return {
        **{key: metadata.get(key) for key in keys},
        "spacing_angstrom": mean_spacing_angstrom(lab),
        "strain_std": float(np.nanstd(lab.strain)),
        "displacement_std": float(np.nanstd(lab.displacement_angstrom)),
        "extent_nm": extent_nm(lab.support, lab.voxel_nm),
        "volume_nm3": float(lab.support.sum()) * lab.voxel_nm**3,
    }


def difference_parts(found: Difference) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Fields and arrays: cuts of A, of B and of B - A through the centre of mass; A's surface and what changed
    there."""
    changed = {
        "amplitude": found.amplitude,
        "phase": found.phase_rad,
        "displacement": found.displacement_angstrom,
        "strain": found.strain,
    }
    a = found.first
    surface = isosurface(a.density, a.support, a.voxel_nm * np.eye(3), values=changed)
    keys = ("shift_nm", "correlation", "twin_correlation", "overlap", "rms_strain", "rms_displacement_angstrom")
    fields = {
        **{key: getattr(found, key) for key in (*keys, "mean_strain", "angle_deg")},
        "strain_stds": [float(np.nanstd(image.strain)) for image in (found.first, found.second)],
        "voxel_nm": [a.voxel_nm] * 3,
        "axes": LAB,
        "surface": about_surface(surface, axes=LAB, q_invA=a.q_centre_invA),
        "ranges": {name: limit(array) for name, array in changed.items()},
        "notes": notes(found),
    }
    arrays = _cuts("a", _quantities(a)) | _cuts("b", _quantities(found.second)) | _cuts("d", changed)
    return fields, arrays | surface_arrays(surface)


def _quantities(image: LabImage) -> dict[str, NDArray[Any]]:
    phase = np.angle(about_mean_phase(image.density, image.support))
    return {
        "amplitude": np.abs(image.density) / np.abs(image.density).max(),
        "phase": _within(phase, image.support),
        "displacement": image.displacement_angstrom,
        "strain": image.strain,
    }


def _within(values: NDArray[Any], support: BoolArray) -> NDArray[Any]:
    return np.where(support, values, np.nan)


def _cuts(whose: str, quantities: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {
        f"{whose}_{name}_{axis}": array.take(edge // 2, axis).astype(np.float32)
        for name, array in quantities.items()
        for axis, edge in enumerate(array.shape)
    }


def notes(found: Difference) -> list[str]:
    """What stands against believing a difference, a sentence each."""
    said = []
    if found.angle_deg > SAME_DEG or abs(found.mean_strain) > SAME_SPACING:
        said.append(
            "A and B are of different reflections or crystals: displacement and strain are along different "
            "directions, and their difference is not the change of one quantity."
        )
    elif found.angle_deg > ROTATED_DEG:
        said.append(
            f"The lattice is turned by {found.angle_deg:.2g}° between A and B; the images are not turned back."
        )
    if found.twin_correlation > found.correlation + TWIN_MARGIN:
        said.append(
            f"B turned inside out fits A better (correlation {found.twin_correlation:.3f}, as it is "
            f"{found.correlation:.3f}): one of them may be the twin. Nothing was flipped."
        )
    if found.overlap < 0.5:
        said.append(f"Only {100 * found.overlap:.0f} % of the voxels are in both: the shapes differ.")
    return said
