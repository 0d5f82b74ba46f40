"""One page that shows a result: slices, how sure they are, how it was made. For papers and logbooks.

Three slices through the support's centre of mass, along the lab's axes; everything that is needed to read them is
on the page. matplotlib comes in only here, and draws without a display.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .lattice import mean_spacing_angstrom
from .panels import (
    SHARE,
    STYLE,
    draw_colours,
    draw_column,
    draw_curves,
    draw_h,
    fields,
    new_sheet,
    power,
    range_of,
    spreads,
)
from .storage import replacing
from .strain import extent_nm
from .transport.files import check_output
from .types import LabImage, Reconstruction, ScanError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".pdf", ".png", ".svg")

_WIDTH_IN = 7.2  # two columns of a journal's page
_LEFT_IN, _RIGHT_IN, _TOP_IN, _GAP_IN = 0.3, 0.1, 0.5, 0.07
_COLOURS_IN, _BELOW_IN = 0.4, 2.85
_DPI = 300
_NO_BREAK = "\u00a0"


def save_figure(result: Reconstruction, path: Path, *, title: str = "", overwrite: bool = False) -> None:
    """Draw a result and put it at `path`, whole or not at all, as PNG, PDF or SVG by its suffix.

    Raises ScanError where the result has no lab image, the suffix is another, or the file exists without
    `overwrite`; StorageError where it cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ScanError(
            f"a figure is {', '.join(FORMATS)}, not {path.suffix or path.name!r}; give another --output"
        )
    check_output(path, overwrite=overwrite, replaced=lambda it: it.suffix.lower() in FORMATS)
    import matplotlib

    with matplotlib.rc_context(dict(STYLE)):
        drawn = draw(result, title=title)
        with replacing(path) as partial:
            drawn.savefig(partial, dpi=_DPI)


def facts(result: Reconstruction) -> dict[str, Any]:
    """The page's numbers: sizes in nm, strain and its uncertainty, resolution. Raises ScanError as `draw`."""
    lab = _lab(result)
    strain = lab.strain[lab.support]
    correlation = None if result.agreement is None else result.agreement.correlation
    return {
        "scan": result.provenance.get("scan", ""),
        "voxel_nm": lab.voxel_nm,
        "extent_nm": [round(edge, 1) for edge in extent_nm(lab.support, lab.voxel_nm)],
        "d0_angstrom": mean_spacing_angstrom(lab),
        "strain_std": float(strain.std()),
        "strain_shown": range_of(strain),
        "strain_uncertainty_median": None if lab.strain_std is None else float(np.nanmedian(lab.strain_std)),
        "chi": result.chi,
        "resolution_nm": None if result.resolution is None else result.resolution.resolution_nm,
        "fsc_resolution_nm": None if correlation is None else dict(correlation.resolution_nm),
    }


def _lab(result: Reconstruction) -> LabImage:
    if result.lab is None:
        raise ScanError(
            "this result has no image in the lab frame to draw: its geometry, or any object, is missing"
        )
    return result.lab


def draw(result: Reconstruction, *, title: str = "") -> Figure:
    """The page as a matplotlib Figure. Raises ScanError where the result has no lab image."""
    lab = _lab(result)
    columns = fields(lab) + spreads(lab)[1:]
    panel_in = (_WIDTH_IN - _LEFT_IN - _RIGHT_IN - (len(columns) - 1) * _GAP_IN) / len(columns)
    slices_in = 3 * panel_in + 2 * _GAP_IN
    height_in = _TOP_IN + slices_in + _COLOURS_IN + _BELOW_IN
    page = new_sheet(_WIDTH_IN, height_in)
    name = title or result.provenance.get("scan", "")
    page.write(_LEFT_IN, height_in - 0.2, name, size=9, weight="bold", va="center", parse_math=False)
    foot = _BELOW_IN + _COLOURS_IN
    for place, column in enumerate(columns):
        left = _LEFT_IN + place * (panel_in + _GAP_IN)
        bottoms = [foot + (2 - row) * (panel_in + _GAP_IN) for row in range(3)]
        panels = [page.axes(left, bottom, panel_in, panel_in) for bottom in bottoms]
        panels[0].set_title(column.title, pad=3)
        draw_column(panels, column, lab, marked=place == 0)
        draw_colours(page.axes(left, foot - 0.13, panel_in, 0.07), panels[0], column)
        if column.title == "Strain":
            draw_h(panels, lab)
    draw_curves(page.axes(_LEFT_IN + 0.12, 0.35, 2.55, _BELOW_IN - 0.85), result)
    _write_words(page.axes(_LEFT_IN + 2.95, 0.1, _WIDTH_IN - _LEFT_IN - 3.0, _BELOW_IN - 0.3), result, lab)
    return page.figure


def _write_words(panel: Axes, result: Reconstruction, lab: LabImage) -> None:
    panel.axis("off")
    height = 1.0
    for head, line in words(result, lab):
        panel.text(0.0, height, head, transform=panel.transAxes, va="top", weight="bold", size=6)
        wrapped = textwrap.wrap(line, 66, break_long_words=False)
        panel.text(
            0.185, height, "\n".join(wrapped), transform=panel.transAxes, va="top", size=6, linespacing=1.15
        )
        height -= 0.043 * len(wrapped) + 0.022


def words(result: Reconstruction, lab: LabImage) -> Iterator[tuple[str, str]]:
    """What the page says, line by line: (head, sentence)."""
    size = " × ".join(f"{edge:.0f}" for edge in extent_nm(lab.support, lab.voxel_nm))
    yield "Crystal", f"{size} nm along lab x, y, z; voxel {lab.voxel_nm:.3g} nm"
    h = ", ".join(f"{part:.4f}" for part in lab.q_centre_invA).replace("-", "−")
    yield "h", f"({h}) Å⁻¹ in the lab frame, |h| = {np.linalg.norm(lab.q_centre_invA):.4f} Å⁻¹"
    spacing = f"{mean_spacing_angstrom(lab):.4f} Å".replace(" ", _NO_BREAK)
    yield (
        "Reference",
        "Displacement along +h, zero mean over the crystal. Strain is ∂u/∂x along h; its zero is the crystal's"
        f" mean spacing of planes, d₀{_NO_BREAK}={_NO_BREAK}{spacing}. Grey is outside the crystal.",
    )
    inside = lab.strain[lab.support]
    low, high, spread, limit = (
        power(each) for each in (inside.min(), inside.max(), inside.std(), range_of(inside))
    )
    yield (
        "Strain",
        f"std {spread}, from {low} to {high}; colours end at ±{limit} ({SHARE:.0f}{_NO_BREAK}% of voxels)",
    )
    if lab.strain_std is not None and lab.displacement_std_angstrom is not None:
        typical = float(np.nanmedian(lab.displacement_std_angstrom))
        middle = power(float(np.nanmedian(lab.strain_std)))
        guided = " The starts guide each other: a lower limit." if "Guide" in result.recipe else ""
        yield (
            "Uncertainty",
            f"std over the starts, median {middle} of strain, {typical:.2g} Å of displacement.{guided}",
        )
    yield "Resolution", resolution(result)
    weight = "" if result.agreement is None else f"; first mode {100 * result.agreement.weights[0]:.1f} %"
    yield (
        "Misfit",
        f"χ = {result.chi:.4g}, starts {min(result.chi_starts):.4g} to {max(result.chi_starts):.4g}{weight}",
    )
    starts = f"{len(result.chi_starts)} starts to the end, seed {result.seed}"
    yield "Recipe", f"{result.recipe}; {starts}; {result.outcome.value}"
    refraction = result.provenance.get("refraction", "")
    made = f"live_bcdi {result.provenance.get('live_bcdi', '')}"
    yield "Made by", made + (f"; refraction {refraction}" if refraction else "")


class Limit(NamedTuple):
    """A resolution by one criterion, in nm, a full period; not `reached` where the array ends before."""

    criterion: str
    nm: float
    reached: bool

    @property
    def text(self) -> str:
        """25.2 nm, or <12.5 nm."""
        return f"{'' if self.reached else '<'}{self.nm:.3g}{_NO_BREAK}nm"


def resolutions(result: Reconstruction) -> list[Limit]:
    """By every criterion; none where one start agrees with no one."""
    if result.resolution is None or not np.isfinite(result.resolution.resolution_nm):
        return []
    found = [("PRTF at 1/e", result.resolution.resolution_nm, result.resolution.q_invA[-1])]
    if result.agreement is not None and result.agreement.correlation is not None:
        correlation = result.agreement.correlation
        found += [(f"FSC at {name}", nm, correlation.q_invA[-1]) for name, nm in correlation.resolution_nm.items()]
    return [Limit(name, nm, bool(nm > 1.0001 * 2 * np.pi / q / 10)) for name, nm, q in found]


def resolution(result: Reconstruction) -> str:
    """In nm, full periods; "<" for a curve that the array ends before it falls below its threshold."""
    found = resolutions(result)
    if not found:
        return "not known: it takes several starts"
    listed = [f"{each.criterion} {each.text}".replace(" ", _NO_BREAK) for each in found]
    ended = "" if all(each.reached for each in found) else ", < where the array ends before"
    return f"{', '.join(listed)}; full periods{ended}"
