"""One page that shows a result: slices, how sure they are, how it was made. For papers and logbooks.

Three slices through the support's centre of mass, along the lab's axes; everything that is needed to read them is
on the page. matplotlib comes in only here, and draws without a display.
"""

from __future__ import annotations

import os
import secrets
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .lattice import mean_spacing_angstrom
from .phasing.agreement import half_bit
from .strain import extent_nm
from .types import LabImage, Reconstruction, ScanError, StorageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

FORMATS = (".pdf", ".png", ".svg")

_WIDTH_IN = 7.2  # two columns of a journal's page
_LEFT_IN, _RIGHT_IN, _TOP_IN, _GAP_IN = 0.3, 0.1, 0.5, 0.07
_COLOURS_IN, _BELOW_IN = 0.4, 2.85
_DPI = 300
_OUTSIDE = "0.82"
_SHARE = 99.0  # per cent of the crystal that the range of a diverging map holds
_ROUND_NM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
# Slices as a reader of the lab frame sees them: (horizontal, vertical, across), upwards and to the right positive.
_PLANES = ((0, 1, 2), (2, 1, 0), (0, 2, 1))
_AXES = "xyz"
_NO_BREAK = "\u00a0"
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 6.5,
    "axes.titlesize": 7,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "lines.linewidth": 1.0,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "image.interpolation": "nearest",
}


class _Column(NamedTuple):
    """One quantity: its values (x, y, z) in the unit of `label`, and how they are coloured."""

    title: str
    label: str
    values: NDArray[Any]
    cmap: str | Colormap
    low: float
    high: float


def save_figure(result: Reconstruction, path: Path, *, title: str = "", overwrite: bool = False) -> None:
    """Draw a result and put it at `path`, whole or not at all, as PNG, PDF or SVG by its suffix.

    Raises ScanError where the result has no lab image, the suffix is another, or the file exists without
    `overwrite`; StorageError where it cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ScanError(
            f"a figure is {', '.join(FORMATS)}, not {path.suffix or path.name!r}; give another --output"
        )
    if path.is_dir() or (path.exists() and not overwrite):
        raise ScanError(f"{path} exists; give another --output, or --overwrite to replace it")
    import matplotlib

    with matplotlib.rc_context(dict(_STYLE)):
        drawn = draw(result, title=title)
        partial = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
        try:
            drawn.savefig(partial, dpi=_DPI)
            partial.replace(path)
        except OSError as error:
            raise StorageError(f"{path} could not be written: {error.strerror or error}") from error
        finally:
            partial.unlink(missing_ok=True)


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
        "strain_shown": _limit(strain),
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
    from matplotlib.figure import Figure

    lab = _lab(result)
    columns = _columns(lab)
    panel_in = (_WIDTH_IN - _LEFT_IN - _RIGHT_IN - (len(columns) - 1) * _GAP_IN) / len(columns)
    slices_in = 3 * panel_in + 2 * _GAP_IN
    height_in = _TOP_IN + slices_in + _COLOURS_IN + _BELOW_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in), facecolor="white")

    def placed(left: float, bottom: float, width: float, height: float) -> Axes:
        """Axes at inches from the lower left corner."""
        inches = (left / _WIDTH_IN, bottom / height_in, width / _WIDTH_IN, height / height_in)
        return figure.add_axes(inches)

    name = title or result.provenance.get("scan", "")
    figure.text(_LEFT_IN / _WIDTH_IN, 1 - 0.2 / height_in, name, size=9, weight="bold", va="center")
    foot = _BELOW_IN + _COLOURS_IN
    for place, column in enumerate(columns):
        left = _LEFT_IN + place * (panel_in + _GAP_IN)
        bottoms = [foot + (2 - row) * (panel_in + _GAP_IN) for row in range(3)]
        panels = [placed(left, bottom, panel_in, panel_in) for bottom in bottoms]
        _draw_column(panels, column, lab, first=place == 0)
        _draw_colours(placed(left, foot - 0.13, panel_in, 0.07), panels[0], column)
        if column.title == "Strain":
            _draw_h(panels, lab)
    _draw_curves(placed(_LEFT_IN + 0.12, 0.35, 2.55, _BELOW_IN - 0.85), result)
    _write_words(placed(_LEFT_IN + 2.95, 0.1, _WIDTH_IN - _LEFT_IN - 3.0, _BELOW_IN - 0.3), result, lab)
    return figure


def _columns(lab: LabImage) -> list[_Column]:
    amplitude = np.abs(lab.density)
    phase = np.where(lab.support, np.angle(lab.density), np.nan)
    reach = _limit(lab.displacement_angstrom)
    exponent = int(np.floor(np.log10(_limit(lab.strain))))
    unit = rf"$10^{{{exponent}}}$"
    strain = lab.strain / 10.0**exponent
    limit = _limit(strain)
    columns = [
        _Column("Amplitude", "of maximum", amplitude / amplitude.max(), "viridis", 0, 1),
        _Column(r"Phase $\varphi = -\mathbf{h}\cdot\mathbf{u}$", "rad", phase, _ring(), -np.pi, np.pi),
        _Column("Displacement $u_h$", "Å", lab.displacement_angstrom, "PuOr_r", -reach, reach),
        _Column("Strain", unit, strain, "RdBu_r", -limit, limit),
    ]
    if lab.strain_std is not None:
        spread = lab.strain_std / 10.0**exponent
        top = float(np.nanpercentile(spread, _SHARE)) or 1.0
        columns.append(_Column("Strain, std of starts", unit, spread, "magma_r", 0, top))
    return columns


def _ring() -> Colormap:
    """The page's cyclic map (`dashboard/static/colour.js`), a ring in OKLab: -pi, 0 and pi at 0, 0.5 and 1."""
    from matplotlib.colors import ListedColormap

    angle = 2 * np.pi * (np.linspace(0, 1, 256) - 0.5)
    lightness, green_red, blue_amber = 0.7 + 0.14 * np.cos(angle), -0.08 * np.cos(angle), 0.14 * np.sin(angle)
    cones = np.array([[0.3963377774, 0.2158037573], [-0.1055613458, -0.0638541728], [-0.0894841775, -1.291485548]])
    lms = (lightness + cones @ [green_red, blue_amber]) ** 3
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.707614701],
        ]
    )
    linear = np.clip(to_rgb @ lms, 0, 1)
    return ListedColormap(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).T)


def _limit(values: NDArray[Any]) -> float:
    """Of a range about zero; 1 for a field that is zero or unknown everywhere."""
    finite = np.abs(values[np.isfinite(values)])
    return (float(np.percentile(finite, _SHARE)) if finite.size else 0.0) or 1.0


def _window_nm(lab: LabImage) -> list[tuple[float, float]]:
    """Of each lab axis, from and to: one length for all, so that all panels have one scale."""
    found = np.argwhere(lab.support)
    low, high = (found.min(axis=0) - 0.5), (found.max(axis=0) + 0.5)
    half = float((high - low).max()) / 2 * 1.12
    middle = (low + high) / 2 - [n // 2 for n in lab.support.shape]
    return [((m - half) * lab.voxel_nm, (m + half) * lab.voxel_nm) for m in middle]


def _draw_column(panels: list[Axes], column: _Column, lab: LabImage, *, first: bool) -> None:
    window = _window_nm(lab)
    for row, (panel, (right, up, across)) in enumerate(zip(panels, _PLANES)):
        shape = lab.support.shape
        cut = np.take(column.values, shape[across] // 2, axis=across)
        image = cut.T if right < up else cut
        ends = [((-(n // 2) - 0.5) * lab.voxel_nm, (n - n // 2 - 0.5) * lab.voxel_nm) for n in shape]
        panel.set_facecolor(_OUTSIDE)
        extent = (*ends[right], *ends[up])
        panel.imshow(image, column.cmap, vmin=column.low, vmax=column.high, origin="lower", extent=extent)
        panel.set(xlim=window[right], ylim=window[up], xticks=[], yticks=[])
        if column.title == "Amplitude":
            panel.set_facecolor(_darkest("viridis"))
            _draw_scale(panel, window[0][1] - window[0][0])
        if row == 0:
            panel.set_title(column.title, pad=3)
        if first:
            _draw_axes(panel, _AXES[right], _AXES[up], _AXES[across])


def _darkest(cmap: str) -> Any:
    from matplotlib import colormaps

    return colormaps[cmap](0.0)


def _draw_scale(panel: Axes, width_nm: float) -> None:
    """A bar of a round length, a third of the panel at most."""
    from matplotlib.patheffects import withStroke

    length = max((each for each in _ROUND_NM if each <= 0.34 * width_nm), default=1)
    share = length / width_nm
    panel.plot(
        [0.95 - share, 0.95], [0.06, 0.06], transform=panel.transAxes, color="w", lw=2, solid_capstyle="butt"
    )
    name = panel.text(0.95 - share / 2, 0.085, f"{length} nm", transform=panel.transAxes, color="w", ha="center")
    name.set_path_effects([withStroke(linewidth=1.5, foreground=_darkest("viridis"))])


def _arrow(colour: str, width: float) -> dict[str, Any]:
    style = "-|>,head_width=0.13,head_length=0.27"
    return {"arrowstyle": style, "color": colour, "lw": width, "shrinkA": 0, "shrinkB": 0}


def _draw_axes(panel: Axes, right: str, up: str, across: str) -> None:
    """Which lab axes these are, and where the slice lies on the third."""
    panel.set_ylabel(f"{across} = 0", labelpad=2)
    arrow = _arrow("w", 0.8)
    for tip, name, at in (((0.24, 0.05), right, (0.29, 0.05)), ((0.05, 0.24), up, (0.05, 0.3))):
        panel.annotate("", tip, (0.05, 0.05), xycoords="axes fraction", arrowprops=arrow)
        panel.text(*at, name, transform=panel.transAxes, color="w", ha="center", va="center", style="italic")


def _draw_h(panels: list[Axes], lab: LabImage) -> None:
    """The part of h in each plane, an arrow as long as that part is of h."""
    h = lab.q_centre_invA / np.linalg.norm(lab.q_centre_invA)
    arrow = _arrow("k", 1.0)
    for panel, (right, up, _) in zip(panels, _PLANES):
        along, upwards = 0.11 * float(h[right]), 0.11 * float(h[up])
        tip, tail = (0.14 + along, 0.86 + upwards), (0.14 - along, 0.86 - upwards)
        panel.annotate("", tip, tail, xycoords="axes fraction", arrowprops=arrow)
        panel.text(
            0.3, 0.9, "h", transform=panel.transAxes, weight="bold", style="italic", ha="center", va="center"
        )


def _draw_colours(place: Axes, panel: Axes, column: _Column) -> None:
    bar = place.figure.colorbar(panel.images[0], cax=place, orientation="horizontal")
    bar.outline.set_linewidth(0.5)
    bar.set_label(column.label, labelpad=1)
    ends = [column.low, (column.low + column.high) / 2, column.high]
    cyclic = column.label == "rad"
    names = ["−π", "0", "π"] if cyclic else [f"{end:.2g}".replace("-", "−") for end in ends]
    bar.set_ticks(ends, labels=names)
    first, _, last = place.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")


def _draw_curves(panel: Axes, result: Reconstruction) -> None:
    """PRTF and FSC by shell, against q and the period, with their thresholds."""
    resolution = result.resolution
    correlation = None if result.agreement is None else result.agreement.correlation
    if resolution is None or not np.isfinite(resolution.resolution_nm):
        panel.axis("off")  # one start agrees with no one
        return
    q = resolution.q_invA * 1e2
    panel.plot(q, resolution.prtf, color="#1b6ca8", label="PRTF")
    if correlation is not None:
        shells = correlation.q_invA * 1e2
        panel.plot(shells, correlation.correlation, color="#c4501b", label="FSC, two halves of the starts")
        panel.plot(shells[2:], half_bit(correlation.voxels)[2:], color="0.45", lw=0.7, ls="--", label="half-bit")
    for level, name in ((0.5, "0.5"), (np.exp(-1), "1/e"), (1 / 7, "1/7")):
        panel.axhline(level, color="0.45", lw=0.5, ls=":")
        panel.text(
            0.995, level + 0.01, name, transform=panel.get_yaxis_transform(), ha="right", color="0.35", size=5.5
        )
    panel.set(xlim=(0, q[-1]), ylim=(0, 1.2), ylabel="agreement of the starts")
    panel.set_xlabel(r"$|\mathbf{q} - \mathbf{h}|$ ($10^{-2}$ Å$^{-1}$)", labelpad=1)
    panel.legend(loc="best", frameon=False, fontsize=6, handlelength=1.6)
    _draw_periods(panel)


def _draw_periods(panel: Axes) -> None:
    """Full periods in nm along the top: 2 pi / q, q in 1e-2 per ångström."""
    lowest, highest = panel.get_xlim()
    shown = [nm for nm in (100, 50, 30, 20, 15, 12, 10, 8, 7, 6, 5, 4) if lowest < 20 * np.pi / nm < highest]
    top = panel.twiny()
    apart: list[int] = []
    for nm in shown:  # labels that would touch are left out
        if not apart or 20 * np.pi * (1 / nm - 1 / apart[-1]) > 0.07 * highest:
            apart.append(nm)
    top.set(xlim=panel.get_xlim())
    top.set_xticks([20 * np.pi / nm for nm in apart], labels=[str(nm) for nm in apart])
    top.set_xlabel("full period (nm)", labelpad=3)


def _write_words(panel: Axes, result: Reconstruction, lab: LabImage) -> None:
    panel.axis("off")
    height = 1.0
    for head, line in _words(result, lab):
        panel.text(0.0, height, head, transform=panel.transAxes, va="top", weight="bold", size=6)
        wrapped = textwrap.wrap(line, 66, break_long_words=False)
        panel.text(
            0.185, height, "\n".join(wrapped), transform=panel.transAxes, va="top", size=6, linespacing=1.15
        )
        height -= 0.043 * len(wrapped) + 0.022


def _words(result: Reconstruction, lab: LabImage) -> Iterator[tuple[str, str]]:
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
        _power(each) for each in (inside.min(), inside.max(), inside.std(), _limit(inside))
    )
    yield (
        "Strain",
        f"std {spread}, from {low} to {high}; colours end at ±{limit} ({_SHARE:.0f}{_NO_BREAK}% of voxels)",
    )
    if lab.strain_std is not None and lab.displacement_std_angstrom is not None:
        typical = float(np.nanmedian(lab.displacement_std_angstrom))
        middle = _power(float(np.nanmedian(lab.strain_std)))
        yield (
            "Uncertainty",
            f"std over the starts, median {middle} of strain, {typical:.2g} Å of"
            " displacement. The starts guide each other: a lower limit.",
        )
    yield "Resolution", _resolution(result)
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


def _resolution(result: Reconstruction) -> str:
    """In nm, full periods; "<" for a curve that the array ends before it falls below its threshold."""
    if result.resolution is None or not np.isfinite(result.resolution.resolution_nm):
        return "not known: it takes several starts"
    found = [("PRTF at 1/e", result.resolution.resolution_nm, result.resolution.q_invA[-1])]
    if result.agreement is not None and result.agreement.correlation is not None:
        correlation = result.agreement.correlation
        found += [(f"FSC at {name}", nm, correlation.q_invA[-1]) for name, nm in correlation.resolution_nm.items()]
    crossed = [nm > 1.0001 * 2 * np.pi / q / 10 for _, nm, q in found]
    listed = [f"{name} {'' if seen else '<'}{nm:.3g} nm" for (name, nm, _), seen in zip(found, crossed)]
    listed = [each.replace(" ", _NO_BREAK) for each in listed]
    return f"{', '.join(listed)}; full periods" + ("" if all(crossed) else ", < where the array ends before")


def _power(value: float) -> str:
    """1.23e-4 as 1.2×10⁻⁴."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    exponent = int(np.floor(np.log10(abs(value))))
    raised = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value / 10.0**exponent:.1f}×10{raised}".replace("-", "−")
