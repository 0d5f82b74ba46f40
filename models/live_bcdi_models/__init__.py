"""Networks that see the crystal first: what they learn from, how, and with which weights."""

from .previewing import preview

__all__ = ["preview"]
