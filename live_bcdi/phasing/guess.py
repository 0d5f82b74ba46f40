"""Where starts may begin that somebody has an idea of: a network's objects, an earlier result."""

from collections.abc import Sequence
from typing import Protocol

from .engine import Pattern
from .kernels_numpy import Object


class InitialGuess(Protocol):
    """From what a retrieval sees of a pattern to objects of its shape to begin at, the likeliest first; none
    where there is no idea."""

    def __call__(self, pattern: Pattern) -> Sequence[Object]: ...
