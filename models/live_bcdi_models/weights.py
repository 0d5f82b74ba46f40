"""A trained network on disk: safetensors with its checksum, and a card that says what it is and where it fails."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from live_bcdi.types import ScanError

from .catalogue import NETWORKS
from .networks import Network

SHIPPED = "preview"  # the name of the weights in this package's `weights`


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """What a network's weights are. `network` names one of `NETWORKS`; `seconds` the training took, `samples` it
    saw; `scores` of held-out crystals by strain; `sha256` of the weights file."""

    network: str
    preset: str
    command: str
    data: str
    seconds: float
    samples: int
    seed: int
    hardware: str
    versions: Mapping[str, str]
    date: str
    scores: Mapping[str, float]
    scores_untrained: Mapping[str, float]
    known_failures: tuple[str, ...] = ()
    sha256: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)


def save_weights(network: Network, card: Card, path: Path) -> Card:
    """Writes `path` (.safetensors, half precision), and beside it the card as .json and .md. The card with the
    checksum in."""
    halves = {name: value.detach().cpu().half().contiguous() for name, value in network.state_dict().items()}
    data = save(halves, metadata={"network": card.network})
    card = replace(card, sha256=hashlib.sha256(data).hexdigest())
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = {".safetensors": data, ".json": _json(card), ".md": _markdown(card, path.name)}
    for suffix, content in contents.items():
        path.with_suffix(f"{suffix}.partial").write_bytes(content)
    for suffix in contents:  # one after the other when all are written: a full disk leaves what was there
        path.with_suffix(f"{suffix}.partial").replace(path.with_suffix(suffix))
    return card


def load_weights(path: Path | None = None, *, device: str = "cpu") -> tuple[Network, Card]:
    """The network of a .safetensors file, by default the one that ships, in single precision and ready to be used,
    and its card. Raises ScanError where the file or its card is not there, damaged, or not the other's."""
    path = path or Path(str(files(__package__) / "weights" / f"{SHIPPED}.safetensors"))
    try:
        table = json.loads(path.with_suffix(".json").read_text())
        card = Card(**{**table, "known_failures": tuple(table["known_failures"])})
        data = path.read_bytes()
    except OSError as error:
        raise ScanError(f"no weights at {path}: {error.strerror}; `live-bcdi train` makes them") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ScanError(f"{path.with_suffix('.json')} is no card of a network: {error}") from None
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise ScanError(f"{path} is not what its card describes: the checksum differs; copy both again")
    if card.network not in NETWORKS:
        raise ScanError(f"{path} is of a network {card.network!r}; there are {', '.join(NETWORKS)}")
    network = NETWORKS[card.network]()
    try:
        network.load_state_dict({name: value.float() for name, value in load(data).items()})
    except (SafetensorError, RuntimeError) as error:
        raise ScanError(f"{path} does not fit this version's {card.network}: {error}") from None
    ready: Network = network.to(device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
    return ready, card


def named(card: Card) -> str:
    """The network, which weights, and how often they were adapted to measured patterns."""
    times = card.notes.get("adapted", {}).get("times", 0)
    return f"{card.network} {card.sha256[:12]}" + (f", adapted {times} time{'s' * (times > 1)}" if times else "")


def _json(card: Card) -> bytes:
    return (json.dumps(asdict(card), indent=2) + "\n").encode()


def _markdown(card: Card, name: str) -> bytes:
    scores = "\n".join(
        f"| {strain} | {card.scores_untrained[strain]:.3f} | {score:.3f} |"
        for strain, score in card.scores.items()
    )
    failures = "\n".join(f"- {failure}" for failure in card.known_failures)
    rows = {
        "Network": f"`{card.network}` (`live_bcdi_models/catalogue.py`), preset `{card.preset}`",
        "Command": f"`{card.command}`",
        "Data": card.data,
        "Time": f"{card.seconds / 60:.1f} minutes, {card.samples:,} crystals, seed {card.seed}",
        "Hardware": card.hardware,
        "Versions": ", ".join(f"{package} {version}" for package, version in card.versions.items()),
        "Date": card.date,
        "SHA-256": f"`{card.sha256}`",
    }
    adapted = ", then adapted to measured scans (`adapted` in its .json)" if "adapted" in card.notes else ""
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return (
        f"# {name}\n\nMade by `live-bcdi train`{adapted}; do not edit.\n\n| | |\n|---|---|\n{table}\n\n"
        "Complex correlation with the truth on held-out families of crystals, by strain:\n\n"
        f"| strain | untrained | trained |\n|---|---|---|\n{scores}\n\n"
        f"## Known failures\n{failures}\n{_told(card)}"
    ).encode()


def _told(card: Card) -> str:
    return "".join(
        f"\n## {title.capitalize()}\n" + "".join(f"- {key}: {value}\n" for key, value in notes.items())
        for title, notes in card.notes.items()
    )
