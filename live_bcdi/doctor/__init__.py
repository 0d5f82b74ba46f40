"""What is wrong with a machine and a beamline's configuration, and what to do about it.

Checks are functions from what they look at to findings. They leave nothing behind, and no sentence has a secret.
"""

from .examination import examine
from .finding import Finding

__all__ = ["Finding", "examine"]
