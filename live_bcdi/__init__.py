"""Bragg coherent diffraction imaging while the scan runs. The front doors; everything else is by module."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .catalogue import open_run as open_run
    from .phasing import phase as phase

__all__ = ["open_run", "phase"]


def __getattr__(name: str) -> Any:
    """Front doors are loaded when they are asked for: a service that needs none starts at once."""
    if name == "phase":
        from .phasing import phase

        return phase
    if name == "open_run":
        from .catalogue import open_run

        return open_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
