"""The Sphinx directive `from-code`: pages that the code itself writes, as Markdown."""

import inspect
import json
import re
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from docutils import nodes
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer import Context
from typer.cli import get_docs_for_click
from typer.main import get_command

import live_bcdi.cli  # noqa: F401  its verbs
from live_bcdi.cli.app import app as verbs
from live_bcdi.config import Config, Direction
from live_bcdi.stream import updates as of_updates

_WORDS: Mapping[Any, str] = {
    str: "text",
    float: "number",
    int: "whole number",
    bool: "true or false",
    Path: "path",
    type(None): "",
}
_DIRECTION = get_args(Direction)[1]
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "at least"}


def commands() -> str:
    """Every verb with its arguments and options, as `--help` has them."""
    group = get_command(verbs)
    _leave_out_hidden(group)
    told = get_docs_for_click(obj=group, ctx=Context(group, info_name="live-bcdi"), name="live-bcdi")
    return told.split("\n", 1)[1]  # the page has a title


def _leave_out_hidden(group: Any) -> None:
    group.commands = {name: each for name, each in group.commands.items() if not each.hidden}
    for each in group.commands.values():
        if hasattr(each, "commands"):
            _leave_out_hidden(each)


def configuration() -> str:
    """For each table of the TOML file its docstring, and a row a key."""
    return "\n".join(_tables(Config, ""))


def updates() -> str:
    """What the services tell each other; the docstring is Markdown."""
    return inspect.cleandoc(of_updates.__doc__ or "")


def _tables(model: type[BaseModel], name: str) -> Iterator[str]:
    inner = {key: found for key, field in model.model_fields.items() if (found := _table_of(field.annotation))}
    yield f"## {f'[{name}]' if name else 'Top level'}\n\n{inspect.cleandoc(model.__doc__ or '')}\n"
    yield "| key | is | default |\n|---|---|---|"
    for key, field in model.model_fields.items():
        if key not in inner:
            yield f"| `{key}` | {_kind_of(field)} | {_default_of(field)} |"
    yield ""
    for key, table in inner.items():
        yield from _tables(table, f"{name}.{key}" if name else key)


def _table_of(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _table_of(part))), None)


def _kind_of(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(bound, name)}"
        for bound in field.metadata
        for name, sign in _BOUNDS.items()
        if hasattr(bound, name)
    ]
    what = "direction" if _DIRECTION in field.metadata else _said(field.annotation)
    return ", ".join([what, *bounds])


def _said(annotation: Any) -> str:
    parts = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return _said(parts[0])
    if origin is Literal:
        return " or ".join(f"`{json.dumps(each)}`" for each in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(word for part in parts if (word := _said(part)))
    if origin is tuple:
        return f"list of {len(parts)}: {_said(parts[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"table: {_said(parts[0])} = {_said(parts[1])}"
    return _WORDS[annotation]


def _default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    return "" if value is None else f"`{json.dumps(value, default=str)}`"


# What Python makes of the names in `live_bcdi.types`, which are shorter to read.
_ALIASES = {
    "ndarray[tuple[Any, ...], dtype[integer[Any]]] | ndarray[tuple[Any, ...], dtype[floating[Any]]]": "FrameArray",
    "ndarray[tuple[Any, ...], dtype[floating[Any]]]": "FloatArray",
    "ndarray[tuple[Any, ...], dtype[complexfloating[Any, Any]]]": "ComplexArray",
    "ndarray[tuple[Any, ...], dtype[bool]]": "BoolArray",
    "tuple[float, float, float]": "Vector",
}


class FromCode(SphinxDirective):
    """What the function of that name gives, read as the page around it is."""

    required_arguments = 1
    pages: ClassVar[Mapping[str, Callable[[], str]]] = {
        "commands": commands,
        "configuration": configuration,
        "updates": updates,
    }

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(self.pages[self.arguments[0]](), allow_section_headings=True)


def plain_marks(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """|F| and G* in a docstring are mathematics, and not reStructuredText's."""
    for index, line in enumerate(lines):
        parts = line.split("`")
        parts[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in parts[::2]]
        lines[index] = "`".join(parts)


def short_types(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Signatures with the names that the code has for its arrays."""

    def short(text: str | None) -> str | None:
        text = text and re.sub(r"~(numpy|typing|collections\.abc)\.", "", text)
        for long, alias in _ALIASES.items():
            text = text and text.replace(long, alias)
        return text and re.sub(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[(\w+)\]\]", r"NDArray[\1]", text)

    return short(signature), short(returns)


def setup(app: Sphinx) -> Mapping[str, bool]:
    app.add_directive("from-code", FromCode)
    app.connect("autodoc-process-docstring", plain_marks)
    app.connect("autodoc-process-signature", short_types)
    for listing in ("scan", "result"):  # of file-format.md, which a test reads
        app.add_lexer(listing, TextLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
