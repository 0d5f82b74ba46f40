"""A crystal refined against its frames through the dynamical forward model.

The scale of the intensities and that of S cannot be told apart: the median of |S| inside is one, and the scale is
what then fits best. Some pixels are free: no gradient sees them, and the result is the state that foretold them
best. After Wu et al. (2025), who have neither free pixels nor angles.
"""

import hashlib
import logging
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..geometry import Floats
from ..types import BoolArray, ComplexArray, FloatArray, ScanError
from .checkpoint import Arrays, Checkpoint, Part
from .detector import FarField
from .frames import Frames, Settings
from .objective import Crystal, Objective
from .optimisers import optimiser
from .progress import Progress, TimeLeft
from .transport import Transport

_LOG = logging.getLogger(__name__)
_SEED_VOXEL = 1e-3  # |S| of a voxel that joins the support: at zero it would have no neighbours in the march


@dataclass(frozen=True, kw_only=True, slots=True)
class Refined:
    """`density` of the round that foretold the free pixels best, `s0` with it; `offsets_rad` (n,) of the rocking
    angles; `scale` of the intensities and `background` in counts as that of `Frames`; `misfits` and `free_misfits`
    a pixel after each round, the first of the start."""

    density: ComplexArray
    s0: FloatArray
    offsets_rad: Floats
    scale: float
    background: float
    misfits: tuple[float, ...]
    free_misfits: tuple[float, ...]


def refine(
    frames: Frames,
    far_field: FarField,
    transport: Transport,
    start: tuple[ComplexArray, FloatArray],
    settings: Settings | None = None,
    *,
    offsets_rad: Floats | None = None,
    progress: Progress | None = None,
    checkpoint: Path | str | Part | None = None,
) -> Refined:
    """S from `start`, (S, s0) on (nx, ny, nz), where S is not zero.

    `offsets_rad` (n,) is how far the rocking angles are thought to be off to begin with; the prior holds them to
    zero all the same, and within two of its standard deviations. `progress` is told the share done and a line
    about it. With `checkpoint`, a file, what was killed goes on there when it is called with the same arguments
    again, to the same result. Raises ScanError for input that cannot be used and for a checkpoint of other input,
    StorageError where one cannot be written.
    """
    chosen = settings or Settings()
    density, s0 = np.asarray(start[0]), np.asarray(start[1])
    if not np.iscomplexobj(density) or density.shape != s0.shape or density.ndim != 3:
        raise ScanError(f"the start is a complex S and s0 of one shape, not {density.shape} and {s0.shape}")
    if not np.any(density):
        raise ScanError("the crystal to start from is empty")
    if not np.isfinite(density).all() or not np.isfinite(s0).all():
        raise ScanError("the crystal to start from must be finite")
    offsets = np.zeros(len(frames.counts)) if offsets_rad is None else np.asarray(offsets_rad, float)
    if offsets.shape != (len(frames.counts),) or not np.isfinite(offsets).all():
        raise ScanError(f"give one finite offset a frame, not an array {offsets.shape}")
    if isinstance(checkpoint, Path | str):
        key = key_of((frames, far_field, transport), (density, s0), chosen, repr(offsets.tolist()))
        checkpoint = Checkpoint(Path(checkpoint), key).part("refine")
    begin = Crystal(density=np.array(density), support=density != 0, offsets_rad=offsets)
    objective = Objective(frames, far_field, transport, s0, chosen)
    tell = progress if isinstance(progress, TimeLeft) else TimeLeft(progress or (lambda share, text: None))
    return _Refinement(objective, chosen, checkpoint, tell).run(begin)


def key_of(
    problem: tuple[Frames, FarField, Transport],
    start: tuple[ComplexArray, FloatArray | BoolArray],
    settings: Settings,
    more: str = "",
) -> str:
    """What a checkpoint belongs to."""
    frames, far_field, transport = problem
    digest = hashlib.sha256(repr((sorted(asdict(settings).items()), transport.identity, more)).encode())
    digest.update(far_field.identity)
    for array in (*(getattr(frames, each.name) for each in fields(frames)), *start):
        values = np.ascontiguousarray(array)
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(values.view(np.uint8).data if values.ndim else values.tobytes())
    return digest.hexdigest()


class _Refinement:
    def __init__(self, objective: Objective, settings: Settings, kept: Part | None, progress: Progress) -> None:
        self._objective, self._settings, self._kept, self._progress = objective, settings, kept, progress
        self._done = 0
        self._misfits: list[float] = []
        self._free: list[float] = []

    def run(self, begin: Crystal) -> Refined:
        self._optimiser = optimiser(self._objective, self._settings, begin.density.shape)
        self._crystal = begin
        if not self._resumed():
            self._judge()
        while self._done < self._settings.epochs:
            self._round()
        best = self._best
        return Refined(
            density=best.density,
            s0=np.asarray(self._objective.electrons(best.density)),
            offsets_rad=best.offsets_rad,
            scale=best.scale,
            background=best.background,
            misfits=tuple(self._misfits),
            free_misfits=tuple(self._free),
        )

    def _round(self) -> None:
        epochs = min(self._optimiser.epochs, self._settings.epochs - self._done)
        self._crystal = self._optimiser.round(self._crystal, self._done, epochs, self._tell)
        self._done += epochs
        every = self._settings.shrink_every
        if every and self._done // every > (self._done - epochs) // every and self._drawing():
            self._crystal = shrunk(self._crystal, self._settings)
        self._judge()
        self._optimiser.judged(self._misfits[-1])
        self._save()

    def _drawing(self) -> bool:
        return 4 * self._done <= 3 * self._settings.epochs

    def _judge(self) -> None:
        pinned = replace(self._crystal, density=self._crystal.density / interior(self._crystal.density))
        self._crystal, fitted, free = self._objective.judged(pinned)
        if not self._free or free < min(self._free):
            self._best = self._crystal
        self._misfits.append(fitted)
        self._free.append(free)
        _LOG.debug("epoch %d: misfit %.5g, free %.5g", self._done, fitted, free)

    def _tell(self, epoch: int) -> None:
        total = self._settings.epochs
        misfits = f"misfit {self._misfits[-1]:.4g}, free {self._free[-1]:.4g}"
        self._progress((epoch + 1) / total, f"epoch {epoch + 1} of {total}: {misfits}")

    def _save(self) -> None:
        if self._kept is None:
            return
        arrays: Arrays = {f"optimiser-{name}": each for name, each in self._optimiser.kept().items()}
        done = self._done >= self._settings.epochs
        if done:  # the best is all that is asked of it again
            arrays = {}
        for name, crystal in (("best", self._best), *([] if done else [("now", self._crystal)])):
            arrays |= {f"{name}-{key}": np.asarray(value) for key, value in asdict(crystal).items()}
        arrays |= {"misfits": np.array(self._misfits), "free": np.array(self._free), "done": np.array(self._done)}
        self._kept.save(arrays, now=done)

    def _resumed(self) -> bool:
        arrays = self._kept.load() if self._kept else {}
        if not arrays:
            return False
        self._misfits, self._free = arrays["misfits"].tolist(), arrays["free"].tolist()
        self._done, self._best = int(arrays["done"]), _crystal_of(arrays, "best")
        if self._done >= self._settings.epochs:
            return True
        self._crystal = _crystal_of(arrays, "now")
        prefix = "optimiser-"
        self._optimiser.restore({key[len(prefix) :]: v for key, v in arrays.items() if key.startswith(prefix)})
        return True


def _crystal_of(arrays: Arrays, name: str) -> Crystal:
    return Crystal(
        density=arrays[f"{name}-density"],
        support=arrays[f"{name}-support"],
        offsets_rad=arrays[f"{name}-offsets_rad"],
        scale=float(arrays[f"{name}-scale"]),
        background=float(arrays[f"{name}-background"]),
    )


def interior(density: ComplexArray) -> float:
    """Median |S| of what is not surface: of the voxels above half the median of all that is not zero."""
    modulus = np.abs(density[density != 0])
    if not len(modulus) or not np.isfinite(modulus).all():
        raise ScanError("the refinement diverged, or left nothing of the crystal: take a smaller step")
    return float(np.median(modulus[modulus > 0.5 * np.median(modulus)]))


def shrunk(crystal: Crystal, settings: Settings) -> Crystal:
    """With the support where the smoothed |S| is above the threshold (Marchesini et al. 2003), by no more than a
    voxel beyond the last one."""
    smooth = ndimage.gaussian_filter(np.abs(crystal.density), settings.shrink_sigma)
    level = settings.shrink_threshold * interior(crystal.density)
    support: BoolArray = (smooth > level) & ndimage.binary_dilation(crystal.support)
    if not support.any():
        raise ScanError("nothing of the crystal is left: give a smaller shrink_threshold, or less smoothing")
    seeded = np.where(crystal.density == 0, _SEED_VOXEL, crystal.density)
    density = np.where(support, seeded, 0).astype(crystal.density.dtype)
    return replace(crystal, density=density, support=support)
