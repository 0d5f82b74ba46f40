"""Faults on purpose: many small scans through the real system while its parts are killed, stalled and cut off.

`soak` does it and says what was lost (docs/reliability.md).
"""

from .report import MUST_BE_ZERO
from .soak import Settings, new_folder, soak

__all__ = ["MUST_BE_ZERO", "Settings", "new_folder", "soak"]
