"""Draws images/signs.svg: `python docs/draw_signs.py`.

Directions come from config/34idc.toml and our own geometry, so that the drawing says what the code does.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from live_bcdi.config import load_config
from live_bcdi.geometry import chain_matrix, rotation_matrix

HERE = Path(__file__).parent
ARM_DEG = {"delta": 30.0, "gamma": 26.0}
BLUE, RED, GREEN, GREY, INK = "#0072b2", "#d55e00", "#007a5a", "#8a8a8a", "#202020"
AZIMUTH, ELEVATION = np.deg2rad(-14), np.deg2rad(22)

Point = NDArray[np.float64]

LOOK = {"font.size": 9.5, "svg.fonttype": "path", "svg.hashsalt": "signs", "font.family": "DejaVu Sans"}


def seen(point: Point) -> Point:
    """A lab vector on the paper: z to the right, y up, x away from the reader."""
    away = np.array([np.cos(AZIMUTH), 0, -np.sin(AZIMUTH)])
    right = np.array([np.sin(AZIMUTH), 0, np.cos(AZIMUTH)])
    up = np.array([0, np.cos(ELEVATION), 0]) + np.sin(ELEVATION) * away
    return np.asarray(np.stack([point @ right, point @ up], axis=-1))


class Drawing:
    """Arrows, arcs and words in lab coordinates."""

    def __init__(self, panel: Axes) -> None:
        self.panel = panel
        panel.set(aspect="equal", xlim=(-2.15, 2.75), ylim=(-0.85, 2.1))
        panel.axis("off")

    def arrow(self, start: Point, end: Point, colour: str, width: float = 1.6, style: str = "-") -> None:
        look = {"arrowstyle": "-|>,head_width=0.22,head_length=0.5", "color": colour, "lw": width, "ls": style}
        self.panel.annotate("", seen(end), seen(start), arrowprops={**look, "shrinkA": 0, "shrinkB": 0})

    def line(self, points: Point, colour: str, width: float = 1.0, style: str = "-") -> None:
        self.panel.plot(*seen(points).T, color=colour, lw=width, ls=style, solid_capstyle="round")

    def word(self, point: Point, text: str, colour: str, dx: float = 0, dy: float = 0, ha: str = "center") -> None:
        x, y = seen(point)
        self.panel.text(x + dx, y + dy, text, color=colour, ha=ha, va="center")

    def arc(self, about: Point, start: Point, degrees: float, colour: str) -> Point:
        """Right-handed about `about`, with a head at its end; its middle."""
        turns = [rotation_matrix(tuple(about), a) @ start for a in np.linspace(0, degrees, 60)]
        self.line(np.array(turns[:-4]), colour, 1.4)
        self.arrow(np.array(turns[-8]), np.array(turns[-1]), colour, 1.4)
        return np.asarray(turns[len(turns) // 2])


def beamline(drawing: Drawing) -> None:
    """The lab frame, the beam, the arm at both its angles, the detector's rows and columns, h, and the rocking."""
    config = load_config(HERE.parent / "config" / "34idc.toml")
    geometry = config.geometry({"theta": 0.0, "chi": 0.0, "phi": 0.0, **ARM_DEG}, energy_kev=9.0, distance_m=1.0)
    beam, origin = np.array(geometry.beam_direction), np.zeros(3)
    arm = chain_matrix(geometry.arm)
    x, y, _ = np.eye(3)

    corner = np.array([0.0, 1.0, -1.6])
    for axis, name, at in ((x, "x outboard", (-0.2, 0.08)), (y, "y up", (0.05, 0.09)), (beam, "z", (0.08, 0))):
        drawing.arrow(corner, corner + 0.55 * axis, INK)
        drawing.word(corner + 0.55 * axis, name, INK, *at)
    drawing.word(corner, "lab frame", INK, 0.2, -0.2)

    drawing.arrow(-1.7 * beam, -0.12 * beam, INK, 2.2)
    drawing.word(-1.2 * beam, "beam, k_in", INK, 0, -0.14)
    drawing.line(np.array([origin, 2.3 * beam]), GREY, 0.9, ":")
    outgoing = arm @ beam
    drawing.arrow(origin, 1.86 * outgoing, INK, 2.2)
    drawing.word(1.2 * outgoing, "k_out", INK, -0.2, 0.1)
    h = 1.0 * (outgoing - beam)
    drawing.arrow(origin, h, RED, 2.4)
    drawing.word(h, "h = k_out − k_in", RED, -0.05, 0.13)

    level = rotation_matrix((0.0, 1.0, 0.0), ARM_DEG["delta"]) @ beam
    drawing.line(np.array([origin, 1.75 * level]), GREY, 0.9, ":")
    middle = drawing.arc(y, 1.6 * beam, ARM_DEG["delta"], BLUE)
    drawing.word(middle, "delta: y+", BLUE, 0.1, 0.07, "left")
    across = rotation_matrix((0.0, 1.0, 0.0), ARM_DEG["delta"]) @ -x
    middle = drawing.arc(across, 1.6 * level, ARM_DEG["gamma"], BLUE)
    drawing.word(middle, "gamma: x−", BLUE, 0.08, -0.02, "left")

    middle = drawing.arc(y, np.array([0.42, 0.0, -0.1]), 285, GREEN)
    drawing.line(np.array([-0.45 * y, 0.5 * y]), GREEN, 0.9, "--")
    drawing.word(np.array([0.0, -0.45, 0.0]), "the rocking circle, theta: y+", GREEN, 0.0, -0.15)
    drawing.panel.plot(*seen(origin), "o", color=INK, ms=5)

    detector(drawing, 1.9 * outgoing, arm @ geometry.row_direction, arm @ geometry.column_direction)


def detector(drawing: Drawing, middle: Point, row: Point, column: Point) -> None:
    """Row 0, column 0 is where both arrows begin."""
    first = middle - 0.42 * row - 0.42 * column
    outline = np.array([first, first + 0.84 * column, first + 0.84 * (row + column), first + 0.84 * row, first])
    drawing.panel.fill(*seen(outline).T, color="#f0ead2", zorder=0)
    drawing.line(outline, GREY)
    drawing.arrow(first, first + 0.84 * column, BLUE)
    drawing.arrow(first, first + 0.84 * row, BLUE)
    drawing.word(first + 0.84 * column, "columns: x+", BLUE, -0.08, 0.05, "right")
    drawing.word(first + 0.6 * row, "rows: y−", BLUE, 0.08, 0.0, "left")
    drawing.word(first, "row 0, column 0", BLUE, 0.06, 0.06, "left")


def lattice(panel: Axes) -> None:
    """Planes across h, some displaced along +h, and below each other u_h, the phase and the strain."""
    place = np.linspace(0, 10, 400)
    displaced = 0.55 / (1 + np.exp(-(place - 5) * 1.6))
    planes = np.arange(0.5, 10, 0.5)
    moved = planes + np.interp(planes, place, displaced)
    panel.axis("off")
    panel.set(xlim=(-2.4, 11.6), ylim=(-6.6, 3.6))
    panel.vlines(planes, 1.2, 2.0, color=GREY, lw=0.8, ls=":")
    panel.vlines(moved, 0.3, 1.1, color=INK, lw=1.1)
    panel.text(-0.1, 1.6, "perfect lattice", ha="right", va="center", color=GREY)
    panel.text(-0.1, 0.7, "displaced by u", ha="right", va="center", color=INK)
    head = {"arrowstyle": "-|>,head_width=0.22,head_length=0.5", "lw": 2.2, "shrinkA": 0, "shrinkB": 0}
    panel.annotate("", (7, 2.7), (3.6, 2.7), arrowprops={**head, "color": RED})
    panel.text(7.2, 2.7, "h", color=RED, va="center")
    panel.annotate("", (moved[-1], 1.15), (planes[-1], 1.15), arrowprops={**head, "color": BLUE, "lw": 1.4})
    panel.text(moved[-1] + 0.15, 1.15, "u", color=BLUE, va="center")
    strain = np.gradient(displaced, place)
    rows = (
        ("displacement\n$u_h$, along $+h$", displaced / 0.55, BLUE, -1.4),
        ("phase\n$\\varphi = -h \\cdot u$", -displaced / 0.55, GREEN, -2.4),
        ("strain\n$\\partial u_h / \\partial x_h$", strain / strain.max(), RED, -5.6),
    )
    for name, values, colour, zero in rows:
        panel.hlines(zero, 0, 10, color=GREY, lw=0.6)
        panel.text(10.15, zero, "0", color=GREY, va="center", fontsize=8)
        panel.plot(place, zero + 1.1 * values, color=colour, lw=2)
        panel.text(-0.2, zero + 0.55 * np.sign(values[200]), name, ha="right", va="center", color=colour)
    panel.text(5, -6.3, "planes further apart: the strain is positive", ha="center", color=INK)


def main() -> None:
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(7.4, 8.6), facecolor="white", layout="constrained")
        above, below = figure.subplots(2, 1, height_ratios=(1.15, 1))
        beamline(Drawing(above))
        lattice(below)
        above.set_title("where things point (34-ID-C)", fontsize=11)
        below.set_title("what the phase means", fontsize=11)
        figure.savefig(HERE / "images" / "signs.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
