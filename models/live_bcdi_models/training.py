"""Training: crystals are made while the network learns from them, until the time is up.

What is random comes from the seed; how many steps fit into the time is the machine's.
"""

import math
import pickle
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from live_bcdi.types import ScanError

from .catalogue import NETWORKS
from .chance import Chance
from .layers import windowed
from .losses import correlation, loss_of
from .measuring import Batch, make_batch
from .networks import Network
from .simulator import HELD_OUT, STRAINS, Spread
from .weights import Card, save_weights

CHECKPOINT = "checkpoint.pt"
_WARM_UP = 0.02  # of the time
_SEEDS = 10_000_019  # steps of one training, at most
_CLIP = 1.0  # of the gradient's norm
_LONGEST_STEP_S = 20.0  # more than this between two steps is a process that was stopped, not one that trained
Say = Callable[[float, int, float], None]  # seconds, crystals, mean loss since the last time
_HELD_OUT_SEED = 1_000_003  # no training has it


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """What is trained, how long and on what: `seconds` of the processor on a CPU, of the wall on a GPU. `half`:
    convolutions in bfloat16; `rate` the largest learning rate."""

    network: str
    seconds: float
    batch: int
    rate: float
    device: str
    half: bool = True
    held_out: int = 96


PRESETS: Mapping[str, Preset] = {
    "h200-25min": Preset(network="alternating", seconds=1500, batch=256, rate=2e-3, device="cuda"),
    "cpu-1h": Preset(network="alternating", seconds=3600, batch=8, rate=1.5e-3, device="cpu"),
    "tiny": Preset(network="alternating", seconds=120, batch=8, rate=2e-3, device="cpu", held_out=48),
}


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far a training is: time, steps and crystals so far, and (seconds, crystals, loss) every now and then."""

    seconds: float = 0.0
    steps: int = 0
    samples: int = 0
    losses: list[tuple[float, int, float]] = field(default_factory=list)


def chosen(name: str, *, minutes: float | None = None, network: str | None = None) -> Preset:
    """A preset by its name, with another length or network where given. Raises ScanError for unknown names."""
    if name not in PRESETS:
        raise ScanError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    preset = PRESETS[name]
    seconds = preset.seconds if minutes is None else 60 * minutes
    return replace(preset, seconds=seconds, network=network or preset.network)


def begun(preset: Preset, *, seed: int = 0, folder: Path) -> "Training":
    """A training with its checkpoints in `folder`, gone on with where there is one."""
    training = Training(preset, seed=seed, folder=folder)
    if (folder / CHECKPOINT).exists():
        training.resume()
    return training


class Training:
    """One training under way; `run` goes on until the time is up or it is told to stop, and can be called
    again."""

    def __init__(self, preset: Preset, *, seed: int = 0, folder: Path | None = None) -> None:
        if preset.network not in NETWORKS:
            raise ScanError(f"unknown network {preset.network!r}; there are {', '.join(NETWORKS)}")
        if preset.device == "cuda" and not torch.cuda.is_available():
            raise ScanError("this preset needs a CUDA device and torch sees none; use --preset cpu-1h")
        torch.manual_seed(seed)  # of the first weights
        self.preset, self.seed, self.folder = preset, seed, folder
        self.network: Network = NETWORKS[preset.network]()
        self.network.to(preset.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=preset.rate, weight_decay=1e-3)
        self.chance = Chance(seed, preset.device)
        self.progress = Progress()

    def run(
        self,
        *,
        stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] | None = None,
        say: Say | None = None,
        every_s: float = 30.0,
    ) -> bool:
        """Trains until the preset's seconds are used, True then, or `stopped` says so. Every `every_s`, and at
        the end, a checkpoint is written and `say` told. On a CPU the clock is the processor's, which others
        may use too, else the wall's."""
        clock = clock or (time.process_time if self.preset.device == "cpu" else time.monotonic)
        self.network.train()
        self.save()  # a folder that cannot be written is found out now
        running: list[float] = []
        before, told = clock(), self.progress.seconds
        while not (over := self.progress.seconds >= self.preset.seconds) and not stopped():
            running.append(self.step())
            now = clock()
            self.progress.seconds += min(now - before, _LONGEST_STEP_S)
            before = now
            if self.progress.seconds - told >= every_s:
                told = self.progress.seconds
                self._note(running, say)
        self._note(running, say)
        self.network.eval()
        return over

    def step(self) -> float:
        """One batch, seen once and never again; its loss. A batch whose gradient is not finite teaches nothing."""
        used = self.progress.seconds / self.preset.seconds
        for group in self.optimiser.param_groups:
            group["lr"] = self.preset.rate * _schedule(used)
        # of what a network draws itself: a training that was resumed draws the same
        torch.manual_seed(self.seed * _SEEDS + self.progress.steps + 1)
        batch = make_batch(self.preset.batch, self.chance)
        with self._precision():
            loss = loss_of(self.network, batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if torch.isfinite(nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)):
            self.optimiser.step()
        self.progress.steps += 1
        self.progress.samples += self.preset.batch
        return float(loss.detach())

    def scores(self) -> dict[str, float]:
        """Correlation with the truth, by strain and of all, on held-out crystals."""
        crystals = held_out(self.preset.held_out, self.preset.device)
        found = {}
        for strain, batch in crystals.items():
            with self._precision():
                found[strain] = score(self.network, batch)
        every = torch.cat(list(found.values()))
        return {"all": float(every.mean()), **{strain: float(each.mean()) for strain, each in found.items()}}

    def save(self) -> None:
        """The checkpoint, whole or not at all."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{CHECKPOINT}.partial"
        torch.save(
            {
                "preset": asdict(self.preset),
                "seed": self.seed,
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "chance": self.chance.generator.get_state(),
                "progress": asdict(self.progress),
            },
            partial,
        )
        partial.replace(self.folder / CHECKPOINT)

    def resume(self) -> None:
        """Goes on where the checkpoint in the folder ended. Raises ScanError where it is another training's."""
        assert self.folder is not None
        path = self.folder / CHECKPOINT
        try:
            state: dict[str, Any] = torch.load(path, map_location=self.preset.device, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ScanError(f"{path} cannot be read ({error}); remove it to begin anew") from None
        if state["preset"]["network"] != self.preset.network or state["seed"] != self.seed:
            raise ScanError(f"{path} is of another network or seed; give another --output")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.chance.generator.set_state(state["chance"].cpu())
        self.progress = Progress(**state["progress"])

    def finish(self, path: Path, *, name: str, command: str) -> Card:
        """Writes the weights and their card to `path`."""
        fresh = Training(self.preset, seed=self.seed)
        card = Card(
            network=self.preset.network,
            preset=name,
            command=command,
            data="crystals made on the fly by live_bcdi_models.measuring.make_batch, families TRAINED",
            seconds=round(self.progress.seconds, 1),
            samples=self.progress.samples,
            seed=self.seed,
            hardware=hardware(self.preset.device),
            versions={"python": platform.python_version(), "torch": torch.__version__},
            date=time.strftime("%Y-%m-%d", time.gmtime()),
            scores=self.scores(),
            scores_untrained=fresh.scores(),
            known_failures=KNOWN_FAILURES,
        )
        return save_weights(self.network, card, path)

    def _note(self, running: list[float], say: Say | None) -> None:
        if running:
            told = (self.progress.seconds, self.progress.samples, sum(running) / len(running))
            self.progress.losses.append(told)
            running.clear()
            if say is not None:
                say(*told)
        self.save()

    def _precision(self) -> torch.autocast:
        kind = torch.device(self.preset.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.preset.half)


KNOWN_FAILURES = (
    "It sees 32 voxels an axis of the pattern: what is finer is left to the retrieval that it starts.",
    "Crystals smaller than a sixth of the field (oversampling above 6) or larger than a half were not shown.",
    "Two crystals in the beam, powder rings and saturated peaks were not shown.",
    "Of the twins it gives either one; under weak strain they are nearly the same.",
)


def held_out(count: int, device: str = "cpu") -> dict[str, Batch]:
    """`count` crystals of families that no training sees, in equal parts weakly, medium and strongly strained."""
    return {
        strain: make_batch(
            count // len(STRAINS),
            Chance(_HELD_OUT_SEED + number, device),
            families=HELD_OUT,
            spread=Spread(strain_rad=limits),
        )
        for number, (strain, limits) in enumerate(STRAINS.items())
    }


@torch.no_grad()
def score(network: Network, batch: Batch, together: int = 16) -> Tensor:
    """Correlation with the truth of each crystal, (crystals,)."""
    was, found = network.training, []
    network.eval()
    for start in range(0, len(batch.target), together):
        part = slice(start, start + together)
        guess = network(batch.intensity[part], batch.measured[part], batch.oversampling[part])
        found.append(correlation(guess.density, windowed(batch.target[part])))
    network.train(was)
    return torch.cat(found)


def hardware(device: str) -> str:
    """The machine that trains, in words."""
    if torch.device(device).type == "cuda":
        return f"one {torch.cuda.get_device_name()}"
    threads, kind = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    return f"{threads} thread{'s' * (threads > 1)} of an {platform.machine()} CPU ({kind})"


def _schedule(used: float) -> float:
    """Of the learning rate over the time: up, and down along a cosine."""
    if used < _WARM_UP:
        return max(used, 1e-3) / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (used - _WARM_UP) / (1 - _WARM_UP)))) + 1e-3
