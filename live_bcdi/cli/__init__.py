"""The `live-bcdi` command. Verbs only parse, call, and print; what they call lives elsewhere."""

from . import batch, bench, doctor, dynamical, export, keys, live, report, science, series, signs, track, train  # noqa: F401  their verbs
from .app import config_path, main

__all__ = ["config_path", "main"]
