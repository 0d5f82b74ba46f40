"""How a crystal moves within a scan and from scan to scan, and which scans are no good."""

from .assembly import Assembly, assemble
from .between import Motion, Peak, find_peak, find_peaks, motion_between, seen_as
from .disorder import Disorder
from .following import Followed, ScanRecord, follow, record_scan
from .outliers import ScanFacts, outliers, scan_facts, unusable
from .prediction import Expected, Prediction, Seen, View, predict, seen_at
from .refine import refine_angles
from .regrid import regrid
from .rolls import Roll
from .scan import track_scan

__all__ = [
    "Assembly",
    "Disorder",
    "Expected",
    "Followed",
    "Motion",
    "Peak",
    "Prediction",
    "Roll",
    "ScanFacts",
    "ScanRecord",
    "Seen",
    "View",
    "assemble",
    "find_peak",
    "find_peaks",
    "follow",
    "motion_between",
    "outliers",
    "predict",
    "record_scan",
    "refine_angles",
    "regrid",
    "scan_facts",
    "seen_as",
    "seen_at",
    "track_scan",
    "unusable",
]
