"""How a crystal moves from scan to scan, and which scans are no good."""

from .between import Motion, Peak, find_peak, motion_between, seen_as
from .outliers import ScanFacts, outliers, scan_facts

__all__ = ["Motion", "Peak", "ScanFacts", "find_peak", "motion_between", "outliers", "scan_facts", "seen_as"]
