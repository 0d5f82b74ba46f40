"""Networks that see the crystal first: what they learn from, how, and with which weights."""

from .keeping import adapt
from .previewing import preview

__all__ = ["adapt", "preview"]
