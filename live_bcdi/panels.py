"""Panels that the one-page figure and the report share: slices, their colours, curves by shell.

Slices go through the support's centre of mass, along the lab's axes. matplotlib is imported where something is
drawn, and draws without a display.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .phasing.agreement import half_bit
from .types import LabImage, Reconstruction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

SHARE = 99.0  # per cent of the crystal that the range of a diverging map holds
STYLE: Any = {
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

_OUTSIDE = "0.82"
_ROUND_NM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
# Slices as a reader of the lab frame sees them: (horizontal, vertical, across), upwards and to the right positive.
_PLANES = ((0, 1, 2), (2, 1, 0), (0, 2, 1))
_AXES = "xyz"


class Sheet(NamedTuple):
    """A rectangle of a figure, in inches from the figure's lower left corner."""

    figure: Figure
    left: float
    bottom: float
    width: float
    height: float

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Axes at inches from the sheet's lower left corner."""
        wide, high = self.figure.get_size_inches()
        corner = ((self.left + left) / wide, (self.bottom + bottom) / high)
        return self.figure.add_axes((*corner, width / wide, height / high))

    def write(self, left: float, bottom: float, words: str, **how: Any) -> None:
        """Text at inches from the sheet's lower left corner."""
        wide, high = self.figure.get_size_inches()
        self.figure.text((self.left + left) / wide, (self.bottom + bottom) / high, words, **how)


def new_sheet(width_in: float, height_in: float) -> Sheet:
    """A white figure of its own."""
    from matplotlib.figure import Figure

    return Sheet(Figure(figsize=(width_in, height_in), facecolor="white"), 0.0, 0.0, width_in, height_in)


class Column(NamedTuple):
    """One quantity: its values (x, y, z) in the unit of `label`, how they are coloured, and the colour of what is
    written on them."""

    title: str
    label: str
    values: NDArray[Any]
    cmap: str | Colormap
    low: float
    high: float
    ink: str = "k"


def fields(lab: LabImage) -> list[Column]:
    """Amplitude, phase, displacement and strain."""
    amplitude = np.abs(lab.density)
    phase = np.where(lab.support, np.angle(lab.density), np.nan)
    reach = range_of(lab.displacement_angstrom)
    exponent = _exponent(lab)
    strain = lab.strain / 10.0**exponent
    limit = range_of(strain)
    return [
        Column("Amplitude", "of maximum", amplitude / amplitude.max(), "viridis", 0, 1, "w"),
        Column(r"Phase $\varphi = -\mathbf{h}\cdot\mathbf{u}$", "rad", phase, phase_ring(), -np.pi, np.pi),
        Column("Displacement $u_h$", "Å", lab.displacement_angstrom, "PuOr_r", -reach, reach),
        Column("Strain", _unit(exponent), strain, "RdBu_r", -limit, limit),
    ]


def spreads(lab: LabImage) -> list[Column]:
    """Standard deviations over the starts of displacement and of strain, this one in the unit of strain; none for
    one start."""
    if lab.strain_std is None or lab.displacement_std_angstrom is None:
        return []
    exponent = _exponent(lab)
    found = (
        ("Displacement, std of starts", "Å", lab.displacement_std_angstrom),
        ("Strain, std of starts", _unit(exponent), lab.strain_std / 10.0**exponent),
    )
    return [Column(title, unit, std, "magma_r", 0, _top(std)) for title, unit, std in found]


def _top(spread: NDArray[Any]) -> float:
    return float(np.nanpercentile(spread, SHARE)) or 1.0


def _exponent(lab: LabImage) -> int:
    return int(np.floor(np.log10(range_of(lab.strain))))


def _unit(exponent: int) -> str:
    return rf"$10^{{{exponent}}}$"


def phase_ring() -> Colormap:
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


def range_of(values: NDArray[Any]) -> float:
    """End of a range about zero; 1 for a field that is zero or unknown everywhere."""
    finite = np.abs(values[np.isfinite(values)])
    return (float(np.percentile(finite, SHARE)) if finite.size else 0.0) or 1.0


def _window_nm(lab: LabImage) -> list[tuple[float, float]]:
    """Of each lab axis, from and to: one length for all, so that all panels have one scale."""
    found = np.argwhere(lab.support)
    low, high = (found.min(axis=0) - 0.5), (found.max(axis=0) + 0.5)
    half = float((high - low).max()) / 2 * 1.12
    middle = (low + high) / 2 - [n // 2 for n in lab.support.shape]
    return [((m - half) * lab.voxel_nm, (m + half) * lab.voxel_nm) for m in middle]


def draw_column(panels: list[Axes], column: Column, lab: LabImage, *, marked: bool) -> None:
    """Its three slices; `marked` ones have a scale bar, the lab's axes, and where they lie."""
    window = _window_nm(lab)
    for panel, (right, up, across) in zip(panels, _PLANES):
        shape = lab.support.shape
        cut = np.take(column.values, shape[across] // 2, axis=across)
        image = cut.T if right < up else cut
        ends = [((-(n // 2) - 0.5) * lab.voxel_nm, (n - n // 2 - 0.5) * lab.voxel_nm) for n in shape]
        panel.set_facecolor(_darkest(column.cmap) if column.ink == "w" else _OUTSIDE)
        extent = (*ends[right], *ends[up])
        panel.imshow(image, column.cmap, vmin=column.low, vmax=column.high, origin="lower", extent=extent)
        panel.set(xlim=window[right], ylim=window[up], xticks=[], yticks=[])
        if marked:
            _draw_scale(panel, window[0][1] - window[0][0], column.ink)
            _draw_axes(panel, (_AXES[right], _AXES[up], _AXES[across]), column.ink)


def _darkest(cmap: str | Colormap) -> Any:
    from matplotlib import colormaps

    return colormaps[cmap](0.0) if isinstance(cmap, str) else cmap(0.0)


def _outlined(ink: str) -> Any:
    """What keeps ink readable on any of a map's colours."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=1.5, foreground=_darkest("viridis") if ink == "w" else "w")]


def _draw_scale(panel: Axes, width_nm: float, ink: str) -> None:
    """A bar of a round length, a third of the panel at most."""
    length = max((each for each in _ROUND_NM if each <= 0.34 * width_nm), default=1)
    share = length / width_nm
    where: Any = {"transform": panel.transAxes, "color": ink}
    panel.plot([0.95 - share, 0.95], [0.06, 0.06], lw=2, solid_capstyle="butt", **where)
    name = panel.text(0.95, 0.085, f"{length} nm", ha="right", **where)
    name.set_path_effects(_outlined(ink))


def _arrow(colour: str, width: float) -> dict[str, Any]:
    style = "-|>,head_width=0.13,head_length=0.27"
    return {"arrowstyle": style, "color": colour, "lw": width, "shrinkA": 0, "shrinkB": 0}


def _draw_axes(panel: Axes, names: tuple[str, str, str], ink: str) -> None:
    """Which lab axes these are (right, up, across), and where the slice lies on the third."""
    right, up, across = names
    panel.set_ylabel(f"{across} = 0", labelpad=2)
    arrow = _arrow(ink, 0.8)
    for tip, name, at in (((0.24, 0.05), right, (0.29, 0.05)), ((0.05, 0.24), up, (0.05, 0.3))):
        panel.annotate("", tip, (0.05, 0.05), xycoords="axes fraction", arrowprops=arrow)
        written = panel.text(
            *at, name, transform=panel.transAxes, color=ink, ha="center", va="center", style="italic"
        )
        written.set_path_effects(_outlined(ink))


def draw_h(panels: list[Axes], lab: LabImage) -> None:
    """The part of h in each plane, an arrow as long as that part is of h."""
    h = lab.q_centre_invA / np.linalg.norm(lab.q_centre_invA)
    arrow = _arrow("k", 1.0)
    for panel, (right, up, _) in zip(panels, _PLANES):
        along, upwards = 0.11 * float(h[right]), 0.11 * float(h[up])
        tip, tail = (0.14 + along, 0.86 + upwards), (0.14 - along, 0.86 - upwards)
        panel.annotate("", tip, tail, xycoords="axes fraction", arrowprops=arrow)
        where: Any = {"transform": panel.transAxes, "ha": "center", "va": "center"}
        name = panel.text(0.3, 0.9, "h", weight="bold", style="italic", **where)
        name.set_path_effects(_outlined("k"))


def draw_colours(place: Axes, panel: Axes, column: Column) -> None:
    """The scale of `panel`, with its ends and its middle."""
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


def draw_curves(panel: Axes, result: Reconstruction) -> None:
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
        panel.text(0.005, level + 0.01, name, transform=panel.get_yaxis_transform(), color="0.35", size=5.5)
    panel.set(xlim=(0, q[-1]), ylim=(0, 1.4), ylabel="agreement of the starts")
    panel.set_xlabel(r"$|\mathbf{q} - \mathbf{h}|$ ($10^{-2}$ Å$^{-1}$)", labelpad=1)
    panel.legend(loc="upper left", ncols=3, edgecolor="none", fontsize=5.5, handlelength=1.2, columnspacing=1)
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


def power(value: float) -> str:
    """1.23e-4 as 1.2×10⁻⁴."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    exponent = int(np.floor(np.log10(abs(value))))
    raised = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value / 10.0**exponent:.1f}×10{raised}".replace("-", "−")
