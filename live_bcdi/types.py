"""What flows through live_bcdi: frozen, keyword-only, units in the field names.

Axis order is (rocking, row, column) for everything on the detector and (x, y, z) for everything in the
laboratory frame. A mask is True where a value must not be used, as in :mod:`numpy.ma`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = tuple[float, float, float]
FloatArray: TypeAlias = NDArray[np.floating[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]
ComplexArray: TypeAlias = NDArray[np.complexfloating[Any, Any]]
FrameArray: TypeAlias = NDArray[np.integer[Any]] | FloatArray


UNIT_TOLERANCE = 1e-6  # six digits, as people write directions into files


class ScanError(ValueError):
    """A scan, file or setting that cannot be used; the message says what is wrong and what to do."""


class StorageError(ScanError):
    """A file that could not be written now; with room on the disk the same will work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotation:
    """One circle of a diffractometer: right-handed by `angle_deg` about the unit lab vector `axis`."""

    motor: str
    axis: Vector
    angle_deg: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """Where the beam, the sample and the detector were.

    `sample` and `arm` list the circles outermost first. `row_direction` and `column_direction` are the lab
    directions of increasing row and column with the arm at zero; `arm_pixel` (row, column) is the pixel that
    the arm points at. `rocking` names the circle of `sample` that the scan turns.
    """

    energy_kev: float
    distance_m: float
    pixel_um: tuple[float, float]
    arm_pixel: tuple[float, float]
    beam_direction: Vector
    row_direction: Vector
    column_direction: Vector
    sample: tuple[Rotation, ...]
    arm: tuple[Rotation, ...]
    rocking: str

    def __post_init__(self) -> None:
        for name in ("energy_kev", "distance_m"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ScanError(f"geometry: {name} must be positive, not {getattr(self, name)}")
        for circle in (*self.sample, *self.arm):
            if not np.isfinite(circle.angle_deg):
                raise ScanError(f"geometry: motor {circle.motor!r} has no finite position")
            _check_unit(f"the axis of motor {circle.motor!r}", circle.axis)
        if self.rocking not in [circle.motor for circle in self.sample]:
            names = ", ".join(circle.motor for circle in self.sample)
            raise ScanError(f"geometry: rocking motor {self.rocking!r} is not a sample circle; they are {names}")
        self._check_detector()

    def _check_detector(self) -> None:
        if not (np.isfinite(self.pixel_um).all() and min(self.pixel_um) > 0):
            raise ScanError(f"geometry: both pixel_um must be positive, not {self.pixel_um}")
        if not np.isfinite(self.arm_pixel).all():
            raise ScanError(f"geometry: arm_pixel must be two finite numbers, not {self.arm_pixel}")
        directions = (self.row_direction, self.column_direction, self.beam_direction)
        for name, vector in zip(("row_direction", "column_direction", "beam_direction"), directions, strict=True):
            _check_unit(name, vector)
        if abs(np.linalg.det(directions)) < UNIT_TOLERANCE:
            raise ScanError(
                "geometry: row_direction, column_direction and beam_direction lie in one plane, so that the"
                f" detector would be a line seen along the beam: {directions}"
            )


def _check_unit(what: str, vector: Vector) -> None:
    length = float(np.linalg.norm(vector))
    if not abs(length - 1) <= UNIT_TOLERANCE:
        raise ScanError(f"geometry: {what} must be a vector of length 1, not {vector}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One detector frame on its way in: `image` is (row, column); `monitor` is NaN where there is none."""

    run: str
    index: int
    angle_deg: float
    monitor: float
    timestamp_s: float
    image: FrameArray


@dataclass(frozen=True, kw_only=True, slots=True)
class RockingScan:
    """A whole scan: `intensity` (rocking, row, column) counts, one angle and monitor reading a frame.

    `have` is False for frames that never came (their intensity is zero); `bad_pixels` (row, column) is True
    for pixels that must not be used; `saturation_counts` is the highest trustworthy count of one frame.
    `flatfield` (row, column) is each pixel's response relative to the median pixel: counts are divided by it.
    `angular_blur_deg` is how far the axis turned during a frame; None where it stood.
    """

    name: str
    intensity: FrameArray
    angles_deg: FloatArray
    geometry: Geometry
    monitor: FloatArray | None = None
    timestamps_s: FloatArray | None = None
    have: BoolArray | None = None
    bad_pixels: BoolArray | None = None
    flatfield: FloatArray | None = None
    saturation_counts: float | None = None
    exposure_s: float | None = None
    angular_blur_deg: float | None = None
    hkl: Vector | None = None
    sample: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.intensity.ndim != 3:
            raise ScanError(f"{self.name}: frames must be (rocking, row, column), not {self.intensity.shape}")
        count = len(self.intensity)
        for name in ("angles_deg", "monitor", "timestamps_s", "have"):
            values = getattr(self, name)
            if values is not None and np.shape(values) != (count,):
                raise ScanError(f"{self.name}: {count} frames but {name} has shape {np.shape(values)}")
        for name in ("bad_pixels", "flatfield"):
            values = getattr(self, name)
            if values is not None and values.shape != self.intensity.shape[1:]:
                raise ScanError(f"{self.name}: {name} is {values.shape}, frames are {self.intensity.shape[1:]}")


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffractionVolume:
    """What phase retrieval sees: `intensity` float32 with the peak at n//2 of each axis, `mask` beside it.

    `centre` is the raw (rocking, row, column) position of the voxel n//2; `q_centre_invA` (3,) the scattering
    vector there and `q_steps_invA` (3, 3) the change of it a voxel, one column an axis, both in the lab frame
    with the rocking circle at the centre's angle, in inverse ångström with the 2 pi in.
    """

    intensity: NDArray[np.float32]
    mask: BoolArray
    centre: Vector
    q_centre_invA: NDArray[np.float64]
    q_steps_invA: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingResult:
    """What the frames of one scan say of the crystal's motion; all arrays (frames,), NaN where there is no frame.

    `angles_deg` is where the crystal stood: the file's angles plus `offset_steps` rocking steps, zero where
    `corrected` is False; `found_steps` is what was found either way, `std_steps` its standard deviation. Offset
    and stretch of the whole scan cannot be seen and are the file's. `gain` is the frame's intensity relative to
    model and monitor, which is smoothed where it scatters less than counting noise. `row` and `column` are the
    centroid in the detector's pixels. `jitter_steps` is the root mean square motion that explains the frames best
    and `log_evidence` the logarithm of how much better than none.

    The others are None before `refine_angles`. `row_shift` and `column_shift` are how far the pattern lies on
    the detector from where the crystal has it at this angle, in pixels, less a straight line over the scan, which
    looks like another crystal. With the angle they say what the crystal did: `rotation_mdeg` and its std
    (frames, 2) are rotations about the axes of `tracking.Motion`, `strain` and its std are Δd/d; NaN where the
    rocking axis lies along h.
    """

    angles_deg: NDArray[np.float64]
    offset_steps: NDArray[np.float64]
    found_steps: NDArray[np.float64]
    std_steps: NDArray[np.float64]
    gain: NDArray[np.float64]
    row: NDArray[np.float64]
    row_std: NDArray[np.float64]
    column: NDArray[np.float64]
    column_std: NDArray[np.float64]
    step_deg: float
    cutoff: float
    jitter_steps: float
    log_evidence: float
    corrected: bool
    reason: str
    row_shift: NDArray[np.float64] | None = None
    row_shift_std: NDArray[np.float64] | None = None
    column_shift: NDArray[np.float64] | None = None
    column_shift_std: NDArray[np.float64] | None = None
    rotation_mdeg: NDArray[np.float64] | None = None
    rotation_std_mdeg: NDArray[np.float64] | None = None
    strain: NDArray[np.float64] | None = None
    strain_std: NDArray[np.float64] | None = None


class Outcome(Enum):
    """How a retrieval ended; the value is what the user reads."""

    DONE = "finished as asked"
    BUDGET = "stopped by the time budget; the best object so far is returned"
    DIVERGED = "no start gave a finite object; check the mask and the counts"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabImage:
    """The crystal on cubic voxels in the lab frame (x, y, z), the support's centre of mass at n//2.

    `density` is complex; `displacement_angstrom` is along +h and `strain` is d u_h / d x_h, both zero-mean
    inside `support` and NaN outside it; `q_centre_invA` (3,) is the scattering vector h in the lab frame.
    `origin_nm` is where voxel n//2 lies, from voxel n//2 of the array in the detector's frame. The two `_std` are
    standard deviations over the starts of a retrieval, NaN outside `support`; None where there was one start.
    """

    density: NDArray[np.complex64]
    support: BoolArray
    displacement_angstrom: NDArray[np.float32]
    strain: NDArray[np.float32]
    voxel_nm: float
    q_centre_invA: NDArray[np.float64]
    origin_nm: Vector = (0.0, 0.0, 0.0)
    displacement_std_angstrom: NDArray[np.float32] | None = None
    strain_std: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """Phase retrieval transfer function by shell: `prtf` against `q_invA`; `resolution_nm` is the full period
    2 pi / q where it falls below 1/e and `half_nm` that where it falls below 0.5 (NaN with a single start; the
    array's limit where it never falls)."""

    q_invA: NDArray[np.float64]
    prtf: NDArray[np.float64]
    resolution_nm: float
    half_nm: float = float("nan")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShellCorrelation:
    """Fourier shell correlation of two halves: `correlation` and the number of `voxels` by shell at `q_invA`.

    `resolution_nm` has, for "0.5", "1/7" and "half-bit", the full period 2 pi / q where the correlation first
    falls below that threshold; the array's limit where it never does.
    """

    q_invA: NDArray[np.float64]
    correlation: NDArray[np.float64]
    voxels: NDArray[np.int64]
    resolution_nm: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far the starts of a retrieval agree, on the detector's conjugate grid (rocking, row, column).

    `mode` is their first orthogonal mode, with the phase of the best start and the size of a start; `weights`
    (n,) are those of all modes, falling, 1 in sum. Over the starts, each scaled to the best: `amplitude_std`,
    relative to the mean object's maximum, and `phase_std_rad` about the mean object's phase (of wrapped
    differences, NaN where that object is zero). `correlation` is there where the geometry is known. Starts that
    guided each other are not independent: all this is then a lower limit of what is uncertain.
    """

    mode: NDArray[np.complex64]
    weights: NDArray[np.float64]
    amplitude_std: NDArray[np.float32]
    phase_std_rad: NDArray[np.float32]
    correlation: ShellCorrelation | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconstruction:
    """What a retrieval gives: `density` (rocking, row, column) on the detector's conjugate grid, centred.

    `chi` is the modulus error of `density` (docs/explanation.md), `chi_starts` that of every
    start that went to the end: guidance may have dropped some.
    `lab` and `resolution` are there where the geometry is known, `agreement` where several starts ended.
    """

    density: NDArray[np.complex64]
    support: BoolArray
    chi: float
    chi_starts: tuple[float, ...]
    metrics: Mapping[str, float]
    recipe: str
    seed: int
    outcome: Outcome
    volume: DiffractionVolume | None = None
    lab: LabImage | None = None
    resolution: Resolution | None = None
    agreement: Agreement | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
