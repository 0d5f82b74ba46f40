"""In-memory stand-ins for what the stream talks to, and a small scan to feed it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metadata import scan_metadata
from ..types import Frame, Geometry, RockingScan, Rotation, ScanError
from .run import KEY, RunPlan, planned_metadata, run_plan

RUN = "0123abcd-0000-4000-8000-000000000000"


def small_geometry() -> Geometry:
    """One rocking circle and one detector arm at 30 degrees, 9 keV."""
    return Geometry(
        energy_kev=9.0,
        distance_m=0.5,
        pixel_um=(55.0, 55.0),
        arm_pixel=(3.0, 2.0),
        beam_direction=(0.0, 0.0, 1.0),
        row_direction=(0.0, -1.0, 0.0),
        column_direction=(1.0, 0.0, 0.0),
        sample=(Rotation(motor="theta", axis=(0.0, 1.0, 0.0), angle_deg=0.1),),
        arm=(Rotation(motor="delta", axis=(0.0, 1.0, 0.0), angle_deg=30.0),),
        rocking="theta",
    )


def small_scan(*, num: int, shape: tuple[int, int], seed: int = 0) -> RockingScan:
    """Random counts, each frame unlike the others, with every optional field there."""
    rng = np.random.default_rng(seed)
    bad_pixels = np.zeros(shape, bool)
    bad_pixels[0, -1] = True
    return RockingScan(
        name="small",
        intensity=rng.poisson(20.0, (num, *shape)).astype(np.int32),
        angles_deg=np.linspace(-0.1, 0.1, num),
        geometry=small_geometry(),
        monitor=rng.normal(1000.0, 10.0, num),
        timestamps_s=1e9 + np.arange(num, dtype=float),
        bad_pixels=bad_pixels,
        saturation_counts=1000.0,
        exposure_s=0.1,
        hkl=(1.0, 1.0, 1.0),
        sample="gold",
    )


def start_document(scan: RockingScan, run: str = RUN) -> dict[str, Any]:
    """The start document that our plans would make for `scan`."""
    angles = scan.angles_deg
    table = planned_metadata(
        scan_metadata(scan), num=len(angles), start_deg=float(angles[0]), stop_deg=float(angles[-1])
    )
    return {"uid": run, "time": 1e9, KEY: table}


def plan_of(scan: RockingScan) -> RunPlan:
    """The plan that its start document promises."""
    return run_plan(start_document(scan))


def frames_of(scan: RockingScan, run: str = RUN) -> list[Frame]:
    """Its frames as the frame stream would bring them."""
    store = MemoryStore(scan)
    return [_frame(run, index, store.frame(index)) for index in store.indices()]


def _frame(run: str, index: int, stored: tuple[NDArray[Any], float, float, float]) -> Frame:
    image, angle_deg, monitor, timestamp_s = stored
    return Frame(run=run, index=index, angle_deg=angle_deg, monitor=monitor, timestamp_s=timestamp_s, image=image)


class MemoryStore:
    """A `FrameStore` that holds the first `count` frames of a scan."""

    def __init__(self, scan: RockingScan, count: int | None = None) -> None:
        self._scan = scan
        self._count = len(scan.intensity) if count is None else count

    def indices(self) -> range:
        return range(self._count)

    def frame(self, index: int) -> tuple[NDArray[Any], float, float, float]:
        if not 0 <= index < self._count:
            raise ScanError(f"frame {index}: the file holds {self._count}")
        scan = self._scan
        monitor = float("nan") if scan.monitor is None else float(scan.monitor[index])
        time_s = float("nan") if scan.timestamps_s is None else float(scan.timestamps_s[index])
        return scan.intensity[index], float(scan.angles_deg[index]), monitor, time_s
