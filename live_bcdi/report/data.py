"""What was measured, and what was made of it before phasing: a report's first two sections."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np

from ..cleaning import unreadable
from ..geometry import (
    q_lab_invA,
    q_steps_invA,
    rocking_circle,
    two_theta_deg,
    wavelength_angstrom,
    with_rocking_angle,
)
from ..preprocess import rocking_grid_deg
from ..types import BoolArray, DiffractionVolume, FrameArray, RockingScan
from .charts import COUNTS_IN, CURVE_IN, Counts, draw_counts, draw_rocking
from .content import Chart, Rows, Section, counted, minus, times
from .material import Material

_NOT_SAID = "not known"
_THIN = "\u202f"  # a thin space that does not break


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """What the frames of a scan show, `at` the peak's frame, row and column.

    `counts` are the frames with zero where a pixel is `unused` (bad, or without a reading in any frame); `have` is
    False for frames that never came; `box` is what was phased, the first and last index of each axis.
    """

    scan: RockingScan
    counts: FrameArray
    unused: BoolArray
    have: BoolArray
    step_deg: float
    at: tuple[float, float, float]
    box: tuple[tuple[int, int], ...]

    @property
    def saturated(self) -> BoolArray:
        """Of each voxel."""
        limit = self.scan.saturation_counts
        return np.asarray(self.counts >= (np.inf if limit is None else limit))


def overview(scan: RockingScan, volume: DiffractionVolume) -> Overview:
    """Of a scan and the volume that was made of it. Raises ScanError where the scan has no even rocking angles."""
    have = np.ones(len(scan.intensity), bool) if scan.have is None else np.asarray(scan.have, bool)
    first, step = rocking_grid_deg(scan.angles_deg, have)
    unused = np.asarray(unreadable(scan.intensity).any(axis=0))
    if scan.bad_pixels is not None:
        unused = unused | scan.bad_pixels
    return Overview(
        scan=scan,
        counts=np.where(unused, 0, scan.intensity) if unused.any() else scan.intensity,
        unused=unused,
        have=have,
        step_deg=step,
        at=volume.centre,
        box=_box(scan, volume, first, step),
    )


def _box(scan: RockingScan, volume: DiffractionVolume, first: float, step: float) -> tuple[tuple[int, int], ...]:
    """How many voxels were binned follows from the steps of q; the rest as `preprocess` lays the volume."""
    frame, row, column = volume.centre
    there = with_rocking_angle(scan.geometry, first + step * frame)
    raw = np.linalg.norm(q_steps_invA(there, step, row, column), axis=0)
    factors = np.rint(np.linalg.norm(volume.q_steps_invA, axis=0) / raw).astype(int)
    box = []
    for centre, factor, length, limit in zip(volume.centre, factors, volume.intensity.shape, scan.intensity.shape):
        start = round(centre - (factor - 1) / 2) - length * factor // 2
        box.append((int(max(start, 0)), int(min(start + length * factor, limit)) - 1))
    return tuple(box)


def data_section(material: Material, seen: Overview | None) -> Section | None:
    """The frames as they were measured, or, without a scan, the volume that was phased."""
    volume = material.result.volume
    if seen is not None:
        return Section(title="Data", rows=tuple(_scan_rows(seen)), charts=tuple(_scan_charts(seen)))
    return None if volume is None else Section(title="Data", charts=(_volume_chart(volume),))


def _scan_rows(seen: Overview) -> Iterator[tuple[str, str]]:
    scan, geometry = seen.scan, seen.scan.geometry
    yield "Sample", scan.sample or _NOT_SAID
    yield "Reflection", reflection(scan) or _NOT_SAID
    yield "Energy", energy(scan)
    yield "Rocking scan", rocking(seen)
    yield "Exposure", _NOT_SAID if scan.exposure_s is None else f"{scan.exposure_s:g} s a frame"
    if scan.angular_blur_deg:
        yield "Angular blur", f"{scan.angular_blur_deg:.3g}° turned during a frame"
    yield "Detector", detector(scan)
    circles = [*geometry.sample, *geometry.arm]
    yield "Circles", ", ".join(f"{each.motor} {_degrees(each.angle_deg)}" for each in circles)
    yield "Scattering vector", scattering(seen)
    yield "Counts", counts(seen)
    if scan.saturation_counts is not None:
        saturated = counted(int(seen.saturated.sum()), "voxel")
        yield "Saturation", f"from {scan.saturation_counts:g} counts; {saturated} there"
    if scan.timestamps_s is not None and np.isfinite(scan.timestamps_s).any():
        first = datetime.fromtimestamp(float(np.nanmin(scan.timestamps_s)), UTC)
        yield "Measured", f"{first:%Y-%m-%d %H:%M} UTC"


def reflection(scan: RockingScan) -> str:
    """(1 1 1), or nothing."""
    return "" if scan.hkl is None else minus(f"({' '.join(f'{index:g}' for index in scan.hkl)})")


def energy(scan: RockingScan) -> str:
    """In keV, and the wavelength."""
    kev = scan.geometry.energy_kev
    return f"{kev:.6g} keV, wavelength {wavelength_angstrom(kev):.4f} Å"


def rocking(seen: Overview) -> str:
    """How many frames at which angles of which circle."""
    angles = np.asarray(seen.scan.angles_deg)[seen.have]
    missing = len(seen.have) - len(angles)
    ends = f"from {_degrees(angles[0])} to {_degrees(angles[-1])}, {abs(seen.step_deg):.3g}° apart"
    lost = f"; {counted(missing, 'frame')} missing" if missing else ""
    return f"{len(angles)} frames, {rocking_circle(seen.scan.geometry).motor} {ends}{lost}"


def _degrees(angle: float) -> str:
    return minus(f"{angle:.4f}°")


def detector(scan: RockingScan) -> str:
    """Pixels, their size, the distance."""
    row_um, column_um = scan.geometry.pixel_um
    size = f"{times(list(scan.intensity.shape[1:]), 'd')} pixels of {row_um:g} × {column_um:g} µm"
    return f"{size} (rows × columns), {scan.geometry.distance_m:.4g} m from the sample"


def scattering(seen: Overview) -> str:
    """Of the peak: its length, the spacing of planes, the scattering angle."""
    q = float(np.linalg.norm(q_lab_invA(seen.scan.geometry, *seen.at[1:])))
    angle = two_theta_deg(seen.scan.geometry, *seen.at[1:])
    return f"|Q| = {q:.4f} Å⁻¹, planes {2 * np.pi / q:.4f} Å apart, 2θ = {angle:.3f}°"


def counts(seen: Overview) -> str:
    """In all, and in the brightest voxel, of the pixels that are used."""
    total, most = (
        f"{each:,.7g}".replace(",", _THIN) if each % 1 else f"{int(each):,}".replace(",", _THIN)
        for each in (float(seen.counts.sum(dtype=np.float64)), float(seen.counts.max()))
    )
    where = " outside bad pixels" if seen.unused.any() else ""
    return f"{total} counts{where}, at most {most} in a voxel"


def _scan_charts(seen: Overview) -> Iterator[Chart]:
    saturated = seen.saturated
    totals = seen.counts.sum(axis=(1, 2), dtype=np.float64)
    brightest = int(np.argmax(totals))
    for title, image, hot in (
        ("Sum of all frames", seen.counts.sum(axis=0, dtype=np.float64), saturated.any(axis=0)),
        (f"Brightest frame, no. {brightest}", seen.counts[brightest], saturated[brightest]),
    ):
        shown = Counts(image=image, saturated=np.asarray(hot), unused=seen.unused, box=(seen.box[1], seen.box[2]))
        caption = "Counts on a logarithmic scale; in the dashed frame what was phased." + _marks(shown)
        yield Chart(title=title, caption=caption, height_in=COUNTS_IN, draw=partial(draw_counts, shown))
    missing = int((~seen.have).sum())
    lost = f" Crosses: {counted(missing, 'frame')} missing." if missing else ""
    yield Chart(
        title="Rocking curve",
        caption=f"Counts of each frame outside bad pixels; shaded, the frames that were phased.{lost}",
        height_in=CURVE_IN,
        draw=partial(draw_rocking, np.asarray(seen.scan.angles_deg), totals, seen.have, seen.box[0]),
    )


def _marks(shown: Counts) -> str:
    """What the colours mean that are there."""
    colours = (("Cyan", shown.saturated, "saturated"), ("Green", shown.unused, "bad or without a reading"))
    said = [
        f" {name}: {counted(int(found.sum()), 'pixel')} {what}." for name, found, what in colours if found.any()
    ]
    return "".join(said)


def _volume_chart(volume: DiffractionVolume) -> Chart:
    unused = np.asarray(volume.mask.all(axis=0))
    shown = Counts(image=volume.intensity.sum(axis=0), saturated=np.zeros_like(unused), unused=unused, box=None)
    return Chart(
        title="Sum of the volume along the rocking axis",
        caption="Counts on a logarithmic scale, of what was phased. Green: not used in any frame.",
        height_in=COUNTS_IN,
        draw=partial(draw_counts, shown),
    )


def preparation_section(material: Material) -> Section | None:
    """What was done to the frames before phasing, as the result says it."""
    said = material.result.provenance
    heads = {
        "volume": "Volume",
        "masked": "Masked",
        "aliens": "Other crystals",
        "background": "Background taken off",
        "summed": "Summed",
    }
    rows: Rows = tuple((head, said[key].replace(" x ", " × ")) for key, head in heads.items() if key in said)
    if not rows:
        return None
    return Section(title="From the frames to the volume", rows=(*rows, *_choices(material)))


def _choices(material: Material) -> Iterator[tuple[str, str]]:
    settings = material.settings("preprocessing")
    if used := corrections(material):
        yield "Corrected for", used
    if settings:
        yield "Centred by", str(settings["centring"])


def corrections(material: Material) -> str:
    """What the counts were corrected by, as far as it is known: the scan says what it has, the settings what of it
    was used."""
    settings, scan = material.settings("preprocessing"), material.scan
    has = {
        "dark frame": settings.get("dark") is not None,
        "flat field": scan is not None and scan.flatfield is not None and settings.get("flatfield", False),
        "monitor": scan is not None and scan.monitor is not None and settings.get("monitor", False),
    }
    return ", ".join(name for name, used in has.items() if used)
