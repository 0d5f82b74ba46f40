"""What to do and in which order: text and Python at once, read in time order.

    3*(20*ER + 180*HIO(beta=0.9) + ShrinkWrap(sigma=1, threshold=0.1)) + 20*ER

is a recipe as text (`parse`) and, with the operators imported, as Python. A count repeats, `+` goes on, an
operator without arguments has its defaults. `str` of a recipe is its canonical text and parses back to it.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from ..types import ScanError

Value = int | float | str | bool | None

_Made = TypeVar("_Made", bound="Recipe")


class _Composable(type):
    """Lets an operator's class stand for the operator with its defaults: `20 * ER + HIO`."""

    def __add__(cls, other: "Recipe | _Composable") -> "Recipe":
        return _recipe_of(cls) + other

    def __radd__(cls, other: "Recipe") -> "Recipe":
        return other + _recipe_of(cls)

    def __rmul__(cls, count: int) -> "Recipe":
        return count * _recipe_of(cls)


class Recipe(metaclass=_Composable):
    """A step, some steps, or the repetition of some: iterating gives the operators in time order."""

    __slots__ = ()

    def __add__(self, other: "Recipe | _Composable") -> "Recipe":
        if not isinstance(other, Recipe | _Composable):
            return NotImplemented
        return Sequence(steps=_steps(self) + _steps(_recipe_of(other)))

    def __rmul__(self, count: int) -> "Recipe":
        if isinstance(count, bool) or not isinstance(count, int):
            return NotImplemented
        return Repeat(count=count, body=self)

    def __iter__(self) -> "Iterator[Operator]":
        raise NotImplementedError

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Operator(Recipe):
    """One thing done to the state of a retrieval. A subclass is a frozen dataclass of its arguments, and is
    known to the language by its class name."""

    __slots__ = ()
    known: ClassVar[dict[str, type["Operator"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__name__.startswith("_"):
            # a slotted dataclass is made twice: the second, slotted one is the one that stays
            Operator.known[cls.__name__] = cls

    def __iter__(self) -> "Iterator[Operator]":
        yield self

    def __len__(self) -> int:
        return 1

    def apply(self, state: Any) -> None:
        """Do it, in place."""
        raise NotImplementedError

    def __str__(self) -> str:
        given = [
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)  # type: ignore[arg-type]
            if getattr(self, each.name) != each.default
        ]
        return type(self).__name__ + (f"({', '.join(given)})" if given else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sequence(Recipe):
    """Steps one after the other."""

    steps: tuple[Recipe, ...]

    def __iter__(self) -> Iterator[Operator]:
        for step in self.steps:
            yield from step

    def __str__(self) -> str:
        return " + ".join(map(str, self.steps))


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeat(Recipe):
    """The body, `count` times."""

    count: int
    body: Recipe

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ScanError(f"recipe: a step is repeated at least once, not {self.count} times")

    def __iter__(self) -> Iterator[Operator]:
        for _ in range(self.count):
            yield from self.body

    def __len__(self) -> int:
        return self.count * len(self.body)

    def __str__(self) -> str:
        body = f"{self.body}" if isinstance(self.body, Operator) else f"({self.body})"
        return f"{self.count}*{body}"


def _recipe_of(step: "Recipe | _Composable") -> Recipe:
    made = step() if isinstance(step, _Composable) else step
    assert isinstance(made, Recipe)
    return made


def _steps(recipe: Recipe) -> tuple[Recipe, ...]:
    return recipe.steps if isinstance(recipe, Sequence) else (recipe,)


def parse(text: str) -> Recipe:
    """The recipe that `text` writes. Raises ScanError that says which part is not understood and what exists."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise ScanError(
            f"recipe {text!r} is not understood; write it like 3*(20*ER + 180*HIO(beta=0.9)) + 20*ER"
        ) from None
    except (RecursionError, MemoryError):
        raise _too_long() from None
    try:
        return _recipe(tree, text)
    except RecursionError:
        raise _too_long() from None


def _too_long() -> ScanError:
    return ScanError("the recipe has too many parts to be read; write what repeats as a number times (...)")


def _recipe(node: ast.expr, text: str) -> Recipe:
    match node:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _recipe(left, text) + _recipe(right, text)
        case ast.BinOp(left=ast.Constant(value=int(count)), op=ast.Mult(), right=body) if count is not True:
            return count * _recipe(body, text)
        case ast.Name(id=name):
            return _operator(name, {})
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords):
            return _operator(name, {str(each.arg): _value(each.value, text) for each in keywords})
    part = ast.get_source_segment(text.strip(), node) or text
    raise ScanError(f"recipe {text!r}: {part!r} is not an operator, a sum, or a whole number times one")


def _value(node: ast.expr, text: str) -> Value:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):
        value = node
    if not isinstance(value, Value):
        raise ScanError(f"recipe {text!r}: an argument is a number or a quoted word")
    return value


def _operator(name: str, arguments: dict[str, Value]) -> Operator:
    if name not in Operator.known:
        raise ScanError(f"recipe: no operator {name!r}; there are {', '.join(sorted(Operator.known))}")
    kind = Operator.known[name]
    accepted = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    for argument in arguments:
        if argument not in accepted:
            raise ScanError(f"recipe: {name} has no argument {argument!r}; it has {', '.join(accepted) or 'none'}")
    return kind(**arguments)


def check_positive(operator: Operator, *names: str) -> None:
    """Raise ScanError unless each named argument is a positive, finite number."""
    for name in names:
        value = getattr(operator, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ScanError(f"recipe: {type(operator).__name__} needs a positive {name}, not {value!r}")


def check_count(operator: Operator, *names: str) -> None:
    """Raise ScanError unless each named argument is a whole number above 0."""
    for name in names:
        value = getattr(operator, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ScanError(f"recipe: {type(operator).__name__} needs a whole number of {name}, not {value!r}")
