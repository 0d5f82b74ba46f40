"""Where the measurement goes next: pure decisions from what was counted so far. No devices, no sockets, no clock.

What a plan follows is an `Advice` that `acceptable` lets through.
"""

from .advice import Advice, Limits, acceptable
from .dose import Resolved, ShellSignal, dose_for, resolved, signal_by_shell, signal_of_halves, thinned
from .exposure import Attenuation, choose_attenuation, split_exposure
from .rocking import PreScan, RockingAdvice, RockingRange, Wanted, advise_range, advise_rocking, revisit
from .stopping import StoppingRule, Verdict, decide, parse_rule

__all__ = [
    "Advice",
    "Attenuation",
    "Limits",
    "PreScan",
    "Resolved",
    "RockingAdvice",
    "RockingRange",
    "ShellSignal",
    "StoppingRule",
    "Verdict",
    "Wanted",
    "acceptable",
    "advise_range",
    "advise_rocking",
    "choose_attenuation",
    "decide",
    "dose_for",
    "parse_rule",
    "resolved",
    "revisit",
    "signal_by_shell",
    "signal_of_halves",
    "split_exposure",
    "thinned",
]
