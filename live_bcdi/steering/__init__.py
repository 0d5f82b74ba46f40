"""Where the measurement goes next: pure decisions from what was counted so far. No devices, no sockets, no clock.

What a plan follows is an `Advice` that `acceptable` lets through.
"""

from .advice import Advice, Limits, acceptable
from .dose import Resolved, ShellSignal, dose_for, resolved, signal_by_shell, signal_of_halves, thinned
from .stopping import StoppingRule, Verdict, decide, parse_rule

__all__ = [
    "Advice",
    "Limits",
    "Resolved",
    "ShellSignal",
    "StoppingRule",
    "Verdict",
    "acceptable",
    "decide",
    "dose_for",
    "parse_rule",
    "resolved",
    "signal_by_shell",
    "signal_of_halves",
    "thinned",
]
