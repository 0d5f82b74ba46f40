"""What a report consists of, whether it becomes HTML or PDF."""

from collections.abc import Callable
from dataclasses import dataclass

from ..panels import Sheet

Rows = tuple[tuple[str, str], ...]

CHART_IN = 3.5  # a column of an A4 page, and the width of a phone


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A picture `CHART_IN` wide, and what to know about it."""

    title: str
    caption: str
    height_in: float
    draw: Callable[[Sheet], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Columns with a head each."""

    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A heading, then what there is: paragraphs, named values, a table, pictures."""

    title: str
    paragraphs: tuple[str, ...] = ()
    rows: Rows = ()
    table: Table | None = None
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """`key` are the numbers that a reader looks for first; `remark` is what is amiss, empty where nothing is."""

    title: str
    subtitle: str
    key: Rows
    remark: str
    sections: tuple[Section, ...]


def times(lengths: tuple[int, ...] | list[float], digits: str = "d") -> str:
    """128 × 128 × 128."""
    return " × ".join(format(each, digits) for each in lengths)


def minus(text: str) -> str:
    """Numbers with a minus sign instead of a hyphen."""
    return text.replace("-", "−")


def counted(number: int, what: str) -> str:
    """1 start, 3 starts; 2 guesses."""
    ending = "" if number == 1 else "es" if what.endswith("s") else "s"
    return f"{number} {what}{ending}"
