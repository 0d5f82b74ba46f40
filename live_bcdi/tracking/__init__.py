"""How a crystal moves: from scan to scan."""

from .between import Motion, Peak, find_peak, motion_between, seen_as

__all__ = ["Motion", "Peak", "find_peak", "motion_between", "seen_as"]
