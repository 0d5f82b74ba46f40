"""One page that shows a series: what changed in each state, where, how far, and which defects came and went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .panels import STYLE, Sheet, new_sheet, range_of
from .series import Study
from .storage import replacing
from .transport.files import check_output
from .types import ScanError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".pdf", ".png", ".svg")

_WIDTH_IN, _LEFT_IN, _GAP_IN = 7.2, 0.35, 0.05
_A_ROW = 10  # states; more go into further rows
_CHART_IN, _FOOT_IN = 1.5, 0.5
_DPI = 300
_RISING, _FALLING = "#b2182b", "#2166ac"
_WALL = "#8c510a"


def save_series_figure(found: Study, path: Path, *, stimulus: str = "", overwrite: bool = False) -> None:
    """Draw a series and put it at `path`, whole or not at all, as PNG, PDF or SVG; `stimulus` names the axis.

    Raises ScanError where the suffix is another or the file exists without `overwrite`; StorageError where it
    cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ScanError(f"a figure is {', '.join(FORMATS)}, not {path.suffix or path.name!r}")
    check_output(path, overwrite=overwrite, replaced=lambda it: it.suffix.lower() in FORMATS)
    import matplotlib

    with matplotlib.rc_context(dict(STYLE)):
        drawn = draw_series(found, stimulus=stimulus)
        with replacing(path) as partial:
            drawn.savefig(partial, dpi=_DPI)


def draw_series(found: Study, *, stimulus: str = "") -> Figure:
    """The page as a matplotlib Figure: rows of slices, charts below."""
    count = len(found.names)
    across, rows = min(count, _A_ROW), -(-count // _A_ROW)
    panel_in = (_WIDTH_IN - _LEFT_IN - 0.1 - (across - 1) * _GAP_IN) / max(across, 6)
    block_in = rows * (panel_in + 0.16) + 0.4
    height_in = 0.25 + 2 * block_in + 2 * (_CHART_IN + _FOOT_IN)
    page = new_sheet(_WIDTH_IN, height_in)
    top = height_in - 0.25
    maps: list[tuple[str, NDArray[Any], str, str]] = [
        ("Phase less the first state's", found.phase_rad, "PuOr_r", "rad"),
        ("Strain less the first state's", found.strain * 1e4, "RdBu_r", r"$10^{-4}$"),
    ]
    for title, values, colours, unit in maps:
        page.write(_LEFT_IN, top, title, size=7, weight="bold", va="bottom")
        page.write(_LEFT_IN + 2.2, top, f"lab x to the right, y up; {unit}", size=6, va="bottom")
        limit = range_of(values)
        for number in range(count):
            row, column = divmod(number, _A_ROW)
            left = _LEFT_IN + column * (panel_in + _GAP_IN)
            panel = page.axes(left, top - 0.2 - row * (panel_in + 0.16) - panel_in, panel_in, panel_in)
            shown = _slice(panel, values[number], found, colours, limit)
            panel.set_title(_short(found, number), size=5.5, pad=2, parse_math=False)
            _mark_lines(panel, found, number)
        bar = page.axes(_WIDTH_IN - 1.75, top + 0.03, 1.6, 0.06)
        page.figure.colorbar(shown, cax=bar, orientation="horizontal").ax.tick_params(labelsize=5, pad=1)
        top -= block_in
    _draw_charts(page, found, top, stimulus)
    return page.figure


def _middle(found: Study) -> tuple[int, ...]:
    return tuple(round(place) for place in ndimage.center_of_mass(found.series.support))


def _slice(panel: Axes, values: NDArray[Any], found: Study, colours: str, limit: float) -> Any:
    """Across lab z, x to the right and y upwards."""
    z = _middle(found)[2]
    inside = np.argwhere(found.series.support)
    low, high = inside.min(axis=0) - 1, inside.max(axis=0) + 1
    panel.set_facecolor("0.82")
    shown = panel.imshow(values[:, :, z].T, origin="lower", cmap=colours, vmin=-limit, vmax=limit)
    panel.set_xlim(low[0] - 0.5, high[0] + 0.5)
    panel.set_ylim(low[1] - 0.5, high[1] + 0.5)
    panel.set_xticks([])
    panel.set_yticks([])
    return shown


def _mark_lines(panel: Axes, found: Study, number: int) -> None:
    """Dislocations seen along z; what was filled as dots."""
    voxel_nm, middle = found.series.voxel_nm, np.array(found.series.support.shape) // 2
    for line in found.lines[number]:
        place = line.points_nm / voxel_nm + middle
        panel.plot(place[:, 0], place[:, 1], color="k", lw=0.8)
    here = np.argwhere(found.is_filled[number][:, :, _middle(found)[2]])
    panel.plot(here[:, 0], here[:, 1], ".", color="0.3", ms=0.8)


def _short(found: Study, number: int) -> str:
    value = found.stimulus[number]
    return f"{number + 1}: {value:g}" if value is not None else f"{number + 1}"


def _draw_charts(page: Sheet, found: Study, top: float, stimulus: str) -> None:
    wide = (_WIDTH_IN - _LEFT_IN - 0.25) / 3
    values = np.array([np.nan if value is None else value for value in found.stimulus])
    known = bool(np.isfinite(values).all())
    x = values if known else np.arange(1.0, len(values) + 1)
    label = (stimulus or "stimulus") if known else "state"
    rows = found.rows
    words = "slices: black, dislocations as seen along z; dots, voxels filled from other states"
    words += "; charts: red, the stimulus rises to the next state; blue, it falls" if known else ""
    page.write(_LEFT_IN, 0.13, words, size=5.5, va="bottom")
    words = (
        "order: open, states with other dislocations than the first, projected; defects: length, or jump, by state"
    )
    page.write(_LEFT_IN, 0.04, words, size=5.5, va="bottom")
    charts = (
        (f"Order parameter, rad ({found.order.explained[0]:.0%} explained)", "order_rad", None, 1.0),
        (r"Lattice $d/d_1 - 1$, $10^{-4}$", "lattice_change", "lattice_change_error", 1e4),
        (r"Strain, std, $10^{-4}$", "strain_std", "strain_std_error", 1e4),
        (
            "Mean displacement from the core, Å",
            "mean_displacement_angstrom",
            "mean_displacement_error_angstrom",
            1,
        ),
    )
    for place, (title, key, error, scale) in enumerate(charts):
        left, down = _LEFT_IN + 0.1 + place % 3 * wide, top - (_CHART_IN + _FOOT_IN) * (place // 3) - _CHART_IN
        panel = page.axes(left, down, wide - 0.4, _CHART_IN - 0.2)
        panel.set_title(title, pad=3)
        y = np.array([np.nan if row[key] is None else row[key] for row in rows]) * scale
        errors = (
            None if error is None else np.array([np.nan if row[error] is None else row[error] for row in rows])
        )
        _draw_path(panel, x, y, None if errors is None else errors * scale)
        if key == "order_rad":
            other = np.setdiff1d(np.arange(len(x)), found.order.from_states)
            panel.plot(x[other], y[other], "o", color="k", mfc="w", ms=3)
        panel.set_xlabel(label, parse_math=False, labelpad=1)
    down = top - 2 * _CHART_IN - _FOOT_IN
    _draw_tracks(page.axes(_LEFT_IN + 0.1 + wide, down, wide - 0.4, _CHART_IN - 0.2), found)
    _draw_component(page.axes(_LEFT_IN + 0.1 + 2 * wide, down, wide - 0.4, _CHART_IN - 0.2), found)


def _draw_path(panel: Axes, x: NDArray[Any], y: NDArray[Any], errors: NDArray[Any] | None) -> None:
    """From state to state; up in one colour, down in another."""
    for start in range(len(x) - 1):
        colour = _RISING if x[start + 1] >= x[start] else _FALLING
        panel.plot(x[start : start + 2], y[start : start + 2], color=colour)
    panel.plot(x, y, ".", color="k", ms=3)
    if errors is not None:
        panel.errorbar(x, y, errors, fmt="none", ecolor="0.5", elinewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


def _sign(sign: int) -> str:
    return "+" if sign > 0 else "−"


def _draw_tracks(panel: Axes, found: Study) -> None:
    panel.set_title("Dislocations, nm; walls (brown), rad", pad=3)
    lines = [
        (
            _sign(track.seen[min(track.seen)].sign),
            "k",
            {n: f"{line.length_nm:.0f}" for n, line in track.seen.items()},
        )
        for track in found.line_tracks
    ]
    walls = [
        ("", _WALL, {n: f"{abs(wall.jump_rad):.1f}" for n, wall in track.seen.items()})
        for track in found.wall_tracks
    ]
    for height, (sign, colour, sizes) in enumerate(lines + walls):
        numbers = sorted(sizes)
        panel.plot([number + 1 for number in numbers], [height] * len(numbers), ".-", color=colour, lw=1.5)
        for number in numbers:
            panel.text(number + 1, height + 0.12, sizes[number], size=4.5, ha="center", color=colour)
        panel.text(numbers[0] + 0.7, height, sign, ha="right", va="center", size=7)
    panel.set_xlim(0.2, len(found.names) + 0.8)
    panel.set_ylim(-0.7, max(len(lines + walls), 2) - 0.3)
    panel.set_yticks([])
    panel.set_xlabel("state", labelpad=1)
    if not lines + walls:
        panel.text(0.5, 0.5, "none found", transform=panel.transAxes, ha="center", va="center")
    panel.spines[["top", "right", "left"]].set_visible(False)


def _draw_component(panel: Axes, found: Study) -> None:
    panel.set_title("First component, rad a rad of order", pad=3)
    shown = _slice(panel, found.order.maps[0], found, "PuOr_r", range_of(found.order.maps[0]))
    panel.figure.colorbar(shown, ax=panel, shrink=0.8)
