"""`python -m live_bcdi.cli`."""

from . import main

main()
