"""A report as one HTML file: styles and pictures are in it, there are no scripts, and it may ask for nothing."""

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..panels import STYLE, new_sheet
from .content import CHART_IN, Chart, Report

_DPI = 200  # of what is an image within a picture
# paths instead of text: a phone has no DejaVu; one salt, so that one report is the same file every time
_SVG: Any = {"svg.fonttype": "path", "svg.hashsalt": "live_bcdi"}


def page(report: Report) -> str:
    """The whole file. Everything that comes from outside is escaped."""
    here = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return here.get_template("report.html").render(report=report, picture=_picture)


def _picture(chart: Chart) -> str:
    """A drawing as a data URI."""
    with matplotlib.rc_context({**STYLE, **_SVG}):
        sheet = new_sheet(CHART_IN, chart.height_in)
        chart.draw(sheet)
        svg = io.BytesIO()
        sheet.figure.savefig(svg, format="svg", dpi=_DPI, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.getvalue()).decode('ascii')}"
