"""How a crystal moves within a scan and from scan to scan, and which scans are no good."""

from .between import Motion, Peak, find_peak, motion_between, seen_as
from .outliers import ScanFacts, outliers, scan_facts
from .regrid import regrid
from .scan import track_scan

__all__ = [
    "Motion",
    "Peak",
    "ScanFacts",
    "find_peak",
    "motion_between",
    "outliers",
    "regrid",
    "scan_facts",
    "seen_as",
    "track_scan",
]
