"""The networks that can be trained, by name."""

from collections.abc import Callable, Mapping

from .alternating import Alternating
from .networks import Network, ReciprocalPhase, TwoDecoders, Unsupervised

NETWORKS: Mapping[str, Callable[[], Network]] = {
    "alternating": Alternating,
    "two-decoders": TwoDecoders,
    "unsupervised": Unsupervised,
    "reciprocal-phase": ReciprocalPhase,
}
