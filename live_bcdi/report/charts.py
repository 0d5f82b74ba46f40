"""The pictures that only a report has; `panels` has those that it shares with the figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import block_reduce

from ..panels import Column, Sheet, draw_colours, draw_column, draw_curves, draw_h, power, range_of
from ..types import BoolArray, FloatArray, LabImage, Reconstruction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COUNTS_IN, CURVE_IN, SLICES_IN, CUTS_IN = 2.75, 2.3, 1.55, 1.75

_SHOWN = 512  # pixels an axis that a picture of 2.4 inches can show
_BLUE, _ORANGE = "#1b6ca8", "#c4501b"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """A picture of counts (row, column) and what to mark on it; `box` is the first and last row, and column."""

    image: NDArray[Any]
    saturated: BoolArray
    unused: BoolArray
    box: tuple[tuple[int, int], tuple[int, int]] | None


class Cut(NamedTuple):
    """A slice of a pattern, what of it was not used, and the names of the axes that go down and across."""

    values: NDArray[Any]
    unused: BoolArray
    down: str
    across: str


def draw_counts(shown: Counts, sheet: Sheet) -> None:
    """On a logarithmic scale, the marked pixels in colours that its map does not have."""
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    high = max(float(np.max(shown.image, where=~shown.unused, initial=0)), 10.0)
    panel = sheet.axes(0.42, 0.33, 2.35, 2.35)
    rows, columns = shown.image.shape
    block = -(-max(rows, columns) // _SHOWN)
    image = _coarser(np.asarray(shown.image, np.float64), block)
    extent = (-0.5, image.shape[1] * block - 0.5, image.shape[0] * block - 0.5, -0.5)
    panel.set_facecolor("k")
    drawn = panel.imshow(np.maximum(image, 1e-9), "inferno", norm=LogNorm(0.5, high, clip=True), extent=extent)
    for found, colour in ((shown.unused, "#3fae5a"), (shown.saturated, "#00e5ff")):
        _mark(panel, _coarser(found, block), colour, extent)
    if shown.box is not None:
        (top, bottom), (left, right) = shown.box
        corner, size = (left - 0.5, top - 0.5), (right - left + 1, bottom - top + 1)
        panel.add_patch(Rectangle(corner, *size, fill=False, ec="w", ls="--", lw=0.8))
    panel.set(xlabel="column", ylabel="row", xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    bar = sheet.figure.colorbar(drawn, cax=sheet.axes(2.85, 0.33, 0.08, 2.35))
    bar.set_label("counts")
    bar.outline.set_linewidth(0.5)


def _coarser(image: NDArray[Any], block: int) -> NDArray[Any]:
    """The largest of each block: of a large detector, too, a lone pixel must not vanish."""
    return np.asarray(block_reduce(image, block, np.max))  # type: ignore[no-untyped-call]


def _mark(panel: Axes, found: BoolArray, colour: str, extent: tuple[float, float, float, float]) -> None:
    from matplotlib.colors import ListedColormap

    if found.any():
        panel.imshow(np.where(found, 1.0, np.nan), ListedColormap([colour]), extent=extent)


def draw_rocking(
    angles_deg: FloatArray, totals: FloatArray, have: BoolArray, used: tuple[int, int], sheet: Sheet
) -> None:
    """Counts against angle, a cross for each frame that is missing, and the frames from `used[0]` to `used[1]`."""
    panel = sheet.axes(0.5, 0.38, 2.9, 1.75)
    half = abs(float(np.nanmedian(np.diff(angles_deg)))) / 2
    ends = sorted(float(angles_deg[frame]) for frame in used)
    panel.axvspan(ends[0] - half, ends[1] + half, color="0.92", lw=0)
    panel.plot(angles_deg[have], totals[have], color=_BLUE, marker=".", ms=2)
    panel.plot(angles_deg[~have], np.zeros((~have).sum()), "x", color=_ORANGE, ms=4, clip_on=False)
    panel.set(xlabel="rocking angle (degrees)", ylabel="counts", ylim=(0, None))
    panel.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)
    panel.margins(x=0.01)


def draw_agreement(result: Reconstruction, sheet: Sheet) -> None:
    """PRTF and FSC by shell."""
    draw_curves(sheet.axes(0.42, 0.36, 2.95, 1.5), result)


def draw_slices(column: Column, lab: LabImage, *, arrow: bool, sheet: Sheet) -> None:
    """Three slices of one quantity side by side over its scale; with the direction of h as an `arrow`."""
    edge, step = 0.98, 1.14
    panels = [sheet.axes(0.2 + place * step, 0.5, edge, edge) for place in range(3)]
    draw_column(panels, column, lab, marked=True)
    if arrow:
        draw_h(panels, lab)
    draw_colours(sheet.axes(0.2, 0.36, 2 * step + edge, 0.07), panels[0], column)


class Scale(NamedTuple):
    """How a pattern is coloured."""

    label: str
    cmap: str
    ends: tuple[float, float]
    logarithmic: bool


def draw_cuts(cuts: Sequence[Cut], scale: Scale, sheet: Sheet) -> None:
    """Three slices of a pattern side by side over their scale; what is not used in a colour of its own."""
    from matplotlib.colors import LogNorm, Normalize

    edge, step = 0.98, 1.14
    norm = (LogNorm if scale.logarithmic else Normalize)(*scale.ends, clip=True)
    for place, cut in enumerate(cuts):
        panel = sheet.axes(0.2 + place * step, 0.68, edge, edge)
        rows, columns = cut.values.shape
        extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
        values = np.maximum(cut.values, 1e-9) if scale.logarithmic else cut.values
        drawn = panel.imshow(values, scale.cmap, norm=norm, extent=extent, aspect="auto")
        _mark(panel, cut.unused, "#3fae5a", extent)
        panel.set(xticks=[], yticks=[], aspect="auto")
        panel.set_xlabel(cut.across, labelpad=2)
        panel.set_ylabel(cut.down, labelpad=2)
    bar = sheet.figure.colorbar(drawn, cax=sheet.axes(0.2, 0.4, 2 * step + edge, 0.07), orientation="horizontal")
    bar.set_label(scale.label, labelpad=1)
    bar.outline.set_linewidth(0.5)


def draw_histogram(lab: LabImage, sheet: Sheet) -> None:
    """Voxels of the crystal by strain, with the mean and one standard deviation to both sides."""
    panel = sheet.axes(0.5, 0.38, 2.9, 1.75)
    strain = lab.strain[lab.support].astype(np.float64)
    reach = max(1.3 * range_of(strain), float(strain.std()))
    exponent = int(np.floor(np.log10(reach)))
    scale = 10.0**-exponent
    panel.hist(strain * scale, bins=61, range=(-reach * scale, reach * scale), color="#9fb8cc")
    mean, std = strain.mean() * scale, strain.std() * scale
    panel.axvline(mean, color="k", lw=0.8)
    panel.axvspan(mean - std, mean + std, color=_ORANGE, alpha=0.15, lw=0)
    panel.set(xlabel=rf"strain ($10^{{{exponent}}}$)", ylabel="voxels", xlim=(-reach * scale, reach * scale))
    middle = strain.mean() if abs(strain.mean()) > 1e-3 * strain.std() else 0.0  # rounding of float32
    words = f"mean {power(float(middle))}\nstd {power(float(strain.std()))}"
    panel.text(0.98, 0.96, words, transform=panel.transAxes, ha="right", va="top")
