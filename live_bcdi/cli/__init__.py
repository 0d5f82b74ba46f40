"""The `live-bcdi` command. Verbs only parse, call, and print; what they call lives elsewhere."""

from . import (  # noqa: F401  their verbs
    batch,
    bench,
    doctor,
    dynamical,
    export,
    keys,
    live,
    report,
    science,
    series,
    signs,
    track,
    train,
    virtual,
)
from .app import config_path, main

__all__ = ["config_path", "main"]
