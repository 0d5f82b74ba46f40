"""A report as PDF, A4, with the same words and pictures. Drawn by matplotlib: a user has no browser to print with.

Text is broken by its measured width, and goes down the page until there is no room.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from ..panels import STYLE, Sheet, new_sheet
from .content import CHART_IN, Chart, Report, Section

_WIDE_IN, _HIGH_IN = 8.27, 11.69
_MARGIN_IN = 0.5
_TEXT_IN = _WIDE_IN - 2 * _MARGIN_IN
_HEAD_IN = 1.6  # of a named value's name
_SIZE = 7.5  # points
_LINE_IN = _SIZE * 1.4 / 72
_DPI = 300
_MEASURED, _SPACE = 50.0, 0.34  # points that widths are measured at; a space of DejaVu Sans, of the size


def write_pdf(report: Report, path: Path) -> None:
    """All sections, one after the other."""
    with matplotlib.rc_context(STYLE), PdfPages(path, metadata={"Title": report.title}) as pages:
        flow = _Flow(pages)
        flow.paragraph(report.title, size=14, weight="bold")
        flow.paragraph(report.subtitle, color="0.35")
        flow.rows(report.key)
        if report.remark:
            flow.paragraph(report.remark, color="#8a4f00")
        for section in report.sections:
            flow.section(section)
        flow.close()


class _Flow:
    """Fills pages from the top."""

    def __init__(self, pages: PdfPages) -> None:
        self._pages = pages
        self._number = 0
        self._sheet: Sheet
        self._top = 0.0
        self._begin()

    def _begin(self) -> None:
        self._sheet = new_sheet(_WIDE_IN, _HIGH_IN)
        self._top = _HIGH_IN - _MARGIN_IN
        self._number += 1

    def close(self) -> None:
        """Keep the page that is being filled."""
        self._sheet.write(_WIDE_IN - _MARGIN_IN, 0.25, str(self._number), ha="right", size=_SIZE, color="0.35")
        self._pages.savefig(self._sheet.figure, dpi=_DPI)  # type: ignore[no-untyped-call]

    def _room(self, height_in: float) -> None:
        if self._top - height_in < _MARGIN_IN:
            self.close()
            self._begin()

    def section(self, section: Section) -> None:
        """Its heading stays with what comes first under it."""
        self._top -= 0.18
        self._room(0.9 + (section.charts[0].height_in + len(section.rows) * _LINE_IN if section.charts else 0))
        self.paragraph(section.title, size=10.5, weight="bold")
        for paragraph in section.paragraphs:
            self.paragraph(paragraph)
        self.rows(section.rows)
        if section.table is not None:
            self._top -= 0.06
            for line in (section.table.head, *section.table.lines):
                self._room(_LINE_IN)
                self._tabbed(line)
        self._charts(section.charts)

    def paragraph(self, words: str, *, size: float = _SIZE, **how: Any) -> None:
        """Broken into lines."""
        for line in _broken(words, _TEXT_IN, size, **how):
            height = size * 1.4 / 72
            self._room(height)
            self._line(_MARGIN_IN, line, size=size, **how)
            self._top -= height
        self._top -= 0.05

    def rows(self, rows: tuple[tuple[str, str], ...]) -> None:
        """Names to the left of what they name."""
        for head, value in rows:
            heads = _broken(head, _HEAD_IN - 0.1, _SIZE)
            values = [line for part in value.split("\n") for line in _broken(part, _TEXT_IN - _HEAD_IN, _SIZE)]
            for place in range(max(len(heads), len(values))):
                self._room(_LINE_IN)
                if place < len(heads):
                    self._line(_MARGIN_IN, heads[place], size=_SIZE, color="0.35")
                if place < len(values):
                    self._line(_MARGIN_IN + _HEAD_IN, values[place], size=_SIZE)
                self._top -= _LINE_IN
            self._top -= 0.03

    def _tabbed(self, line: tuple[str, ...]) -> None:
        for place, words in enumerate(line):
            self._line(_MARGIN_IN + _HEAD_IN + 1.1 * place, words, size=_SIZE)
        self._top -= _LINE_IN

    def _line(self, left: float, words: str, **how: Any) -> None:
        # names may hold a $, which is no mathematics
        self._sheet.write(left, self._top, words, va="top", parse_math=False, **how)

    def _charts(self, charts: tuple[Chart, ...]) -> None:
        """Two side by side, as high as the higher one."""
        for first in range(0, len(charts), 2):
            pair = charts[first : first + 2]
            captions = [_broken(chart.caption, CHART_IN, _SIZE - 1) for chart in pair]
            drawn_in = max(chart.height_in for chart in pair)
            height = 0.25 + drawn_in + max(map(len, captions)) * _LINE_IN
            self._top -= 0.08
            self._room(height)
            for place, (chart, caption) in enumerate(zip(pair, captions)):
                left = _MARGIN_IN + place * (_TEXT_IN - CHART_IN)
                self._chart(chart, caption, left)
            self._top -= height

    def _chart(self, chart: Chart, caption: list[str], left: float) -> None:
        self._line(left, chart.title, size=_SIZE, weight="bold")
        bottom = self._top - 0.2 - chart.height_in
        chart.draw(Sheet(self._sheet.figure, left, bottom, CHART_IN, chart.height_in))
        for place, line in enumerate(caption):
            how: Any = {"va": "top", "parse_math": False, "size": _SIZE - 1, "color": "0.35"}
            self._sheet.write(left, bottom - place * _LINE_IN, line, **how)


def _broken(words: str, width_in: float, size: float, **how: Any) -> list[str]:
    """Lines of at most this width; a word that is wider is cut."""
    font = how.get("weight", "normal")
    widest_pt = width_in * 72 / size
    lines, line = [], ""
    for word in words.split(" "):
        longer = f"{line} {word}" if line else word
        if _width_pt(longer, font) <= widest_pt:
            line = longer
            continue
        if line:
            lines.append(line)
        while _width_pt(word, font) > widest_pt:
            end = max(1, int(len(word) * widest_pt / _width_pt(word, font)) - 1)
            lines.append(word[:end])
            word = word[end:]
        line = word
    return [*lines, line]


def _width_pt(words: str, weight: str) -> float:
    """Of words of one point's size, each measured once."""
    return sum(_word_pt(word, weight) for word in words.split(" ")) + words.count(" ") * _SPACE


@lru_cache(maxsize=4096)
def _word_pt(word: str, weight: str) -> float:
    font = FontProperties(family="DejaVu Sans", weight=weight, size=_MEASURED)
    return float(TextPath((0, 0), word, prop=font).get_extents().x1) / _MEASURED if word else 0.0
