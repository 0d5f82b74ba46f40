"""Where the measurement goes next: pure decisions from what was counted so far. No devices, no sockets, no clock.

What a plan follows is an `Advice` that `acceptable` lets through.
"""

from .advice import Advice, Limits, acceptable
from .centre import Eucentric, fit_eucentric
from .dose import Resolved, ShellSignal, dose_for, resolved, signal_by_shell, signal_of_halves, thinned
from .exposure import Attenuation, choose_attenuation, split_exposure
from .peak import Look, Maximise, Next, Top, next_look
from .rocking import PreScan, RockingAdvice, RockingRange, Wanted, advise_range, advise_rocking, revisit
from .search import Found, Lost, Search, Sweep, Swept, next_sweep
from .spots import Spot, find_spots, shells_of
from .stopping import StoppingRule, Verdict, decide, parse_rule

__all__ = [
    "Advice",
    "Attenuation",
    "Eucentric",
    "Found",
    "Limits",
    "Look",
    "Lost",
    "Maximise",
    "Next",
    "PreScan",
    "Resolved",
    "RockingAdvice",
    "RockingRange",
    "Search",
    "ShellSignal",
    "Spot",
    "StoppingRule",
    "Sweep",
    "Swept",
    "Top",
    "Verdict",
    "Wanted",
    "acceptable",
    "advise_range",
    "advise_rocking",
    "choose_attenuation",
    "decide",
    "dose_for",
    "find_spots",
    "fit_eucentric",
    "next_look",
    "next_sweep",
    "parse_rule",
    "resolved",
    "revisit",
    "shells_of",
    "signal_by_shell",
    "signal_of_halves",
    "split_exposure",
    "thinned",
]
