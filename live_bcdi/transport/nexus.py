"""What surrounds the frames in a file: NeXus groups that any program reads, CXI names as links to them.

The JSON table at `SCAN_PATH` is what this project reads back (`live_bcdi.metadata`); a file without it is read
from its NeXus or CXI fields. docs/file-format.md shows the whole layout.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from ..geometry import HC_KEV_ANGSTROM
from ..types import RockingScan, Rotation
from .files import nexus_group, put

ENTRY = "/entry"
DATA_PATH = "/entry/data/data"
ANGLE_PATH = "/entry/data/angle_deg"
MONITOR_PATH = "/entry/data/monitor"
TIMESTAMP_PATH = "/entry/data/timestamp_s"
SCAN_PATH = "/entry/live_bcdi/scan"
HAVE_PATH = "/entry/live_bcdi/have"
COMPLETE_PATH = "/entry/live_bcdi/complete"
INDEX_PATH = "/entry/live_bcdi/index"
RUN_PATH = "/entry/live_bcdi/run"
FINISHED_PATH = "/entry/live_bcdi/finished"

JOULE_A_KEV = 1.602176634e-16  # exact in the 2019 SI
_CXI_INVALID = 1  # CXI_PIXEL_IS_INVALID: do not use, for whatever reason
_NEXUS_USER_MASK = 1 << 8  # NXdetector pixel_mask: "user defined mask"


def start_entry(file: h5py.File) -> h5py.Group:
    """Root, entry and data groups, with what a viewer needs to plot the frames against the angle."""
    file.attrs["NX_class"] = "NXroot"
    file.attrs["default"] = "entry"
    file.attrs["creator"] = "live_bcdi"
    file["cxi_version"] = 160
    entry = nexus_group(file, "entry", "NXentry", default="data")
    nexus_group(
        entry, "data", "NXdata", signal="data", axes=["angle_deg", ".", "."], angle_deg_indices=np.array([0])
    )
    nexus_group(entry, "live_bcdi", "NXcollection")
    return entry


def describe(file: h5py.File, table: Mapping[str, Any], known: RockingScan) -> None:
    """Write `table` (of `scan_metadata`) as JSON, and what `known` says as NeXus fields and CXI links.

    The datasets of `start_entry`'s data group must exist; the frames of `known` are not looked at.
    """
    file[SCAN_PATH] = json.dumps(table)
    entry = file["entry"]
    put(entry, "title", known.name)
    _instrument(entry, known)
    _sample(entry, known)
    if MONITOR_PATH in file:
        nexus_group(entry, "monitor", "NXmonitor")["data"] = h5py.SoftLink(MONITOR_PATH)
    _cxi_names(file)


def _instrument(entry: h5py.Group, scan: RockingScan) -> None:
    geometry = scan.geometry
    instrument = nexus_group(entry, "instrument", "NXinstrument")
    beam = nexus_group(instrument, "beam", "NXbeam")
    put(beam, "incident_energy", geometry.energy_kev, units="keV")
    put(beam, "incident_wavelength", HC_KEV_ANGSTROM / geometry.energy_kev, units="angstrom")
    put(beam, "direction", geometry.beam_direction)
    source = nexus_group(instrument, "source_1", "NXcollection")
    put(source, "energy", geometry.energy_kev * JOULE_A_KEV, units="J")
    detector = nexus_group(instrument, "detector", "NXdetector")
    detector["data"] = h5py.SoftLink(DATA_PATH)
    _detector(detector, scan)


def _detector(detector: h5py.Group, scan: RockingScan) -> None:
    geometry = scan.geometry
    put(detector, "distance", geometry.distance_m, units="m")
    row_um, column_um = geometry.pixel_um
    put(detector, "y_pixel_size", row_um * 1e-6, units="m")
    put(detector, "x_pixel_size", column_um * 1e-6, units="m")
    put(detector, "beam_center_y", geometry.arm_pixel[0], units="pixel")
    put(detector, "beam_center_x", geometry.arm_pixel[1], units="pixel")
    module = nexus_group(detector, "detector_module", "NXdetector_module")
    put(module, "slow_pixel_direction", row_um * 1e-6, units="m", vector=geometry.row_direction)
    put(module, "fast_pixel_direction", column_um * 1e-6, units="m", vector=geometry.column_direction)
    last = _circles(detector, geometry.arm)
    put(
        detector["transformations"],
        "distance",
        geometry.distance_m,
        units="m",
        transformation_type="translation",
        vector=geometry.beam_direction,
        depends_on=last,
    )
    put(detector, "depends_on", "transformations/distance")
    if scan.exposure_s is not None:
        put(detector, "count_time", scan.exposure_s, units="s")
    if scan.angular_blur_deg is not None:
        put(detector, "angular_blur", scan.angular_blur_deg, units="degree")
    if scan.saturation_counts is not None:
        put(detector, "saturation_value", scan.saturation_counts)
    if scan.bad_pixels is not None:
        put(detector, "pixel_mask", scan.bad_pixels.astype(np.uint32) * _NEXUS_USER_MASK)
        put(detector, "mask", scan.bad_pixels.astype(np.uint32) * _CXI_INVALID)
    if scan.flatfield is not None:
        put(detector, "flatfield", scan.flatfield)


def _sample(entry: h5py.Group, scan: RockingScan) -> None:
    sample = nexus_group(entry, "sample", "NXsample")
    put(sample, "name", scan.sample)
    if scan.hkl is not None:
        put(sample, "hkl", scan.hkl)
    last = _circles(sample, scan.geometry.sample, scanned=scan.geometry.rocking)
    put(sample, "depends_on", f"transformations/{last}")


def _circles(parent: h5py.Group, circles: Sequence[Rotation], scanned: str | None = None) -> str:
    """Each circle as an NXtransformations field that depends on the one it sits on; the innermost's name.

    The scanned circle's field is the frames' own angles, under its own name.
    """
    group = nexus_group(parent, "transformations", "NXtransformations")
    below = "."
    for circle in circles:
        if circle.motor == scanned:
            group[circle.motor] = group.file[ANGLE_PATH]
        else:
            group[circle.motor] = circle.angle_deg
        group[circle.motor].attrs.update(
            {"units": "degree", "transformation_type": "rotation", "vector": circle.axis, "depends_on": below}
        )
        below = circle.motor
    return below


def _cxi_names(file: h5py.File) -> None:
    """CXI (Maia, Nature Methods 9, 854 (2012)) numbers its groups; the content is the same."""
    file["entry_1"] = h5py.SoftLink("/entry")
    for name in ("data", "instrument", "sample"):
        file[f"/entry/{name}_1"] = h5py.SoftLink(f"/entry/{name}")
    file["/entry/instrument/detector_1"] = h5py.SoftLink("/entry/instrument/detector")
