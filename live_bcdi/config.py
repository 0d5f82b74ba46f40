"""A beamline as one TOML file, read by models that refuse unknown keys. No I/O beyond reading that file."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from .types import Geometry, Rotation, ScanError, Vector

_UNIT = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def direction(text: str) -> Vector:
    """'y+' or 'x-' as a unit vector of the lab frame. For a circle the sign is the sense of rotation."""
    if len(text) != 2 or text[0] not in _UNIT or text[1] not in "+-":
        raise ValueError(f"{text!r} is not a direction; write an axis and a sign, like 'y+' or 'x-'")
    sign = 1.0 if text[1] == "+" else -1.0
    x, y, z = _UNIT[text[0]]
    return (sign * x, sign * y, sign * z)


def _checked_direction(text: str) -> str:
    direction(text)
    return text


def _checked_polarisation(text: str) -> str:
    if text != "unpolarised":
        direction(text)
    return text


def _checked_background(value: Any) -> Any:
    try:
        good = value == "corners" or 0 <= float(value) < float("inf")
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(f"{value!r} is not a background; give counts a voxel, or 'corners'")
    return value


def _checked_limits(ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] < ends[1]:
        raise ValueError(f"{list(ends)} are not limits; give the lower and then the higher one")
    return ends


def _checked_scheduler(text: str) -> str:
    if not re.fullmatch(r"(tcp|tls|ucx)://[^\s/:]+:\d+|(tcp|tls|ucx)://\[[0-9a-fA-F:]+\]:\d+", text):
        raise ValueError(f"{text!r} is no address of a dask scheduler; write it like 'tcp://host:8786'")
    return text


Direction = Annotated[str, AfterValidator(_checked_direction)]
Polarised = Annotated[str, AfterValidator(_checked_polarisation)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Limits = Annotated[tuple[Finite, Finite], AfterValidator(_checked_limits)]
Scheduler = Annotated[str, AfterValidator(_checked_scheduler)]
Port = Annotated[int, Field(ge=1, le=65535)]
Length = Annotated[int, Field(ge=8)]
Factor = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Background = Annotated[float | Literal["corners"], BeforeValidator(_checked_background)]
Centring = Literal["robust", "maximum", "mass"]
Method = Literal["linear", "fourier"]
Window = Literal["none", "hann", "blackman"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CircleConfig(_Table):
    """One rotation: the name the plans use for its motor, the lab axis it turns about, and its `limits` in
    degrees, beyond which no plan of ours moves it; of a translation of the stage the axis it goes along, and
    micrometres.
    """

    motor: str
    axis: Direction
    limits: Limits | None = None


def _stage(*axes: str) -> tuple[CircleConfig, ...]:
    return tuple(CircleConfig(motor=axis, axis=f"{axis}+") for axis in axes)


class DiffractometerConfig(_Table):
    """Circles from the outermost to the innermost, the beam's direction, and the circle that rocks.

    `stage` has the translations on top of the sample circles, along lab axes with these at zero.
    `polarisation` is where the beam's electric field points, or "unpolarised".
    """

    beam: Direction = "z+"
    polarisation: Polarised = "x+"
    sample: tuple[CircleConfig, ...] = Field(min_length=1)
    stage: tuple[CircleConfig, ...] = _stage("x", "y", "z")
    arm: tuple[CircleConfig, ...] = ()
    rocking: str

    @property
    def axes(self) -> tuple[CircleConfig, ...]:
        """Every motor: circles of the sample, translations of the stage, circles of the arm."""
        return (*self.sample, *self.stage, *self.arm)

    @model_validator(mode="after")
    def _motors_have_names_of_their_own(self) -> Self:
        names = [axis.motor for axis in self.axes]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"two motors are called {', '.join(double)}")
        return self

    @model_validator(mode="after")
    def _rocking_is_a_sample_circle(self) -> Self:
        names = [circle.motor for circle in self.sample]
        if self.rocking not in names:
            raise ValueError(f"rocking motor {self.rocking!r} is not one of the sample circles {names}")
        return self

    @model_validator(mode="after")
    def _field_is_across_the_beam(self) -> Self:
        if self.polarisation[0] == self.beam[0]:
            raise ValueError(
                f"polarisation {self.polarisation!r} is along the beam, {self.beam!r}: light's electric field is"
                " across it"
            )
        return self


class DetectorConfig(_Table):
    """`rows` and `columns`: lab direction of increasing row and column with the arm at zero.

    `saturation_counts` is the limit of one acquisition; a frame that sums n of them holds n times that.
    """

    name: str = "detector"
    pixel_um: tuple[float, float]
    arm_pixel: tuple[float, float]
    rows: Direction
    columns: Direction
    distance_m: float | None = None
    saturation_counts: float | None = None


class SampleConfig(_Table):
    """What is on the stage now; `live-bcdi import --hkl` and a plan's `md` override it.

    With a chemical `formula` (and `density_g_cm3`, unless it is an element) refraction and absorption come off the
    image in the lab frame. `cif` is a file with the crystal's structure, for all but a few elements that are known
    by their formula: it says of what size on a crystal needs the dynamical refinement (docs/dynamical.md), and,
    without a formula, refraction.
    """

    name: str = ""
    hkl: Vector | None = None
    formula: str | None = None
    density_g_cm3: float | None = Field(default=None, gt=0)
    cif: Path | None = None


class SpecConfig(_Table):
    """How the beamline's SPEC files name what we need: motors in #O, counters in #L."""

    motors: Mapping[str, str]
    energy_kev: str
    distance_mm: str
    monitor: str | None = None
    frame_total: str | None = None
    acquisitions_per_frame: int = 1


class FilesConfig(_Table):
    """Where `live-bcdi import` looks, in files without a SPEC file; its options go before, key by key.

    `frames` is a dataset of the HDF5 file, or a pattern of the TIFF files' names; `angles` (of the rocking
    circle) "FIRST:LAST" in degrees, a text file with one a line, or a dataset; `monitor` one of the latter two.
    Of energy, distance and each motor a number or a dataset, which may say its own unit. `bad_pixels` is an image
    (TIFF or .npy) or a dataset, other than 0 where a pixel is bad. A frame
    that sums n acquisitions may hold n times `[detector] saturation_counts`.
    """

    frames: str | None = None
    angles: str | None = None
    energy_kev: float | str | None = None
    distance_m: float | str | None = None
    motors: Mapping[str, float | str] = Field(default_factory=dict)
    monitor: str | None = None
    bad_pixels: str | None = None
    acquisitions_per_frame: int = Field(default=1, ge=1)


class StreamConfig(_Table):
    """0MQ addresses. Documents and updates go through the broker; frames come straight from the detector.

    `source` says in which form: our own, DECTRIS stream2 (`frames` is the detector's address), EPICS pvAccess
    (`frames` names the NTNDArray), inside the documents, or areaDetector's HDF5 file. `channel` is the threshold
    of stream2, the data key of the picture in the documents where there is a choice, or the dataset in the file;
    `path_map` says where folders of the host that writes it are here, and `monitor` is the data key of the beam
    monitor in the events. Frames of another form than our own are taken by the recorder, which keeps them in a
    file and sends them on, in ours, at `relay`. `keys` is a folder of `live-bcdi
    keys`; without one nothing may be opened beyond loopback, unless `open` lets everybody in.
    """

    documents_in: str = "tcp://127.0.0.1:5577"
    documents_out: str = "tcp://127.0.0.1:5578"
    updates_in: str = "tcp://127.0.0.1:5579"
    updates_out: str = "tcp://127.0.0.1:5580"
    frames: str = "tcp://127.0.0.1:5581"
    source: Literal["live_bcdi", "stream2", "pvaccess", "documents", "hdf5"] = "live_bcdi"
    channel: str | None = None
    path_map: Mapping[str, str] = Field(default_factory=dict)
    monitor: str | None = None
    keys: Path | None = None
    open: bool = False
    relay: str = "tcp://127.0.0.1:5584"

    @property
    def recorded(self) -> bool:
        """Whether the recorder takes the frames, instead of a detector that writes our own files."""
        return self.source != "live_bcdi"

    @property
    def own_frames(self) -> str:
        """The address of frames in our own form."""
        return self.relay if self.recorded else self.frames


class TiledConfig(_Table):
    """A site's own server (`uri`, with its key in the environment variable `api_key_env`), or, without a
    `uri`, one embedded on loopback at `port`."""

    uri: str | None = None
    port: Port = 5582
    api_key_env: str = "LIVE_BCDI_TILED_API_KEY"


class PageConfig(_Table):
    """The live page. Where `host` is not loopback it has a key: in `page/key` of the storage folder, made at the
    first start, or in the environment variable `key_env`, which asks for a key on loopback too."""

    host: str = "127.0.0.1"
    port: Port = 5583
    key_env: str | None = None


class StorageConfig(_Table):
    """Where scans, results, the catalogue, keys and spools live; relative to the working directory."""

    directory: Path = Path("runs")


class PhasingConfig(_Table):
    """Retrieval of a finished scan. Without a recipe, or a number of starts, they are chosen from the pattern; the
    rest is `phasing.Plan`'s (docs/explanation.md)."""

    recipe: str | None = None
    starts: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    threads: int = Field(default=2, ge=1)
    free: float | None = Field(default=None, ge=0, le=0.2)
    select: Literal["free_llk", "chi", "sharpness"] = "free_llk"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Preprocessing(_Table):
    """`[preprocess]`: from the counts of a scan to what phase retrieval sees.

    `centring`: the middle of the Bragg peak ("robust"), the brightest voxel, or the centre of mass of all counts.
    `shape` (rocking, row, column) is that of the result, after `binning`; the data choose what is not set.
    `aliens` masks intensity of other crystals; `background` is counts a voxel, or "corners" to take them from the
    scan's own. `flatfield` and `monitor` use what the scan has of them. `dark` is a file (TIFF or .npy) of the
    mean counts of a frame without beam. Of several scans that are summed, those are left out whose correlation
    with the first, less what counting noise explains, is below `least_correlation`. `correct_motion` brings frames
    of a crystal that moved while it was scanned onto even angles, where `tracking.track_scan` is sure of it; off,
    as it does not always make a better result (docs/tracking.md).
    """

    centring: Centring = "robust"
    shape: tuple[Length, Length, Length] | None = None
    binning: tuple[Factor, Factor, Factor] | None = None
    aliens: bool = False
    background: Background = 0.0
    flatfield: bool = True
    monitor: bool = True
    correct_motion: bool = False
    dark: Path | None = None
    least_correlation: float = Field(default=0.97, ge=-1, le=1)


class CrystalConfig(_Table):
    """`[crystal]`: from the object to the crystal in the lab frame.

    `window` apodises the transform, `method` is the way to cubic voxels of `voxel_nm` (the shortest edge of the
    detector's by default), and the crystal is what is above `threshold` of the maximum amplitude.
    """

    method: Method = "linear"
    window: Window = "none"
    voxel_nm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    threshold: float = Field(default=0.3, gt=0, lt=1)


class LiveConfig(_Table):
    """The estimate while frames arrive: longest edge of its volume, iterations of one refresh; and what the
    volumes of the runs under way may take together: where whole frames do not fit, a window around the peak of
    each is kept, of two `edge_voxels` an edge at least. `network`: whether a network makes the estimate, where
    torch and the network's weights are there. `weights`: of another network than the one that ships. `adapt`:
    whether it adapts to the scans, for `adapt_s` seconds after each, where the next one does not begin before.
    `track`: whether motion within and between scans is found when they end (docs/tracking.md)."""

    edge_voxels: int = Field(default=64, ge=16)
    iterations: int = Field(default=40, ge=1)
    network: bool = False
    weights: Path | None = None
    adapt: bool = False
    adapt_s: float = Field(default=20.0, gt=0, le=300)
    track: bool = True
    page_hz: float = Field(default=12.0, gt=0)  # of a detector at 10 Hz no frame waits for its turn
    memory_mb: float = Field(default=1024, gt=0)

    @model_validator(mode="after")
    def _adapts_what_is_asked(self) -> Self:
        if self.adapt and not self.network:
            raise ValueError("adapt = true adapts the network of the live estimate: set network = true too")
        return self


class JobsConfig(_Table):
    """Where finished runs are refined: by `workers` processes here, of `[phasing] threads` each, or by those of
    the dask cluster at `scheduler`. Of more than `waiting` runs the oldest are put off until nothing else waits.
    `network`: whether some starts begin at what a network sees, where torch and the weights are there.
    """

    scheduler: Scheduler | None = None
    workers: int | None = Field(default=None, ge=1)
    waiting: int = Field(default=20, ge=1)
    network: bool = False


class DynamicalConfig(_Table):
    """`[dynamical]`: how `live-bcdi refine-dynamical`, and with `automatic` the refine service, go on from a
    result of phase retrieval (docs/dynamical.md).

    The service does so for results whose crystal needs more than refraction divided out, when it has nothing else
    to do, and gives up what at its pace would take longer than `budget_s`.

    `rung` is "auto", for the cheapest whose pattern of a perfect crystal of this shape is within `tolerance` of
    that of the full theory (a share of the amplitudes), or one of them. The others are those of
    `dynamical.refine_scan`; `angle_prior_steps` says how far the rocking angles may be off, in steps of the scan,
    and without it they stay.
    """

    rung: Literal["auto", "kinematical", "refraction", "refracted-model", "dynamical"] = "auto"
    tolerance: float = Field(default=0.05, gt=0, lt=1)
    epochs: int = Field(default=30, ge=1)
    loss: Literal["amplitude", "poisson"] = "amplitude"
    smoothings: tuple[Weight, ...] = Field(default=(60.0, 20.0, 6.0, 2.0), min_length=1)
    background: Literal["given", "constant"] = "given"
    angle_prior_steps: float | None = Field(default=None, gt=0)
    automatic: bool = True
    budget_s: float = Field(default=600.0, gt=0)


class OperandoConfig(_Table):
    """`state`, in `unit`, is a key of the start document or a signal of the events (docs/how-to/operando.md); runs
    with the same values of the keys `series` are one series."""

    state: str | None = Field(default=None, min_length=1)
    unit: str = ""
    series: tuple[str, ...] = ("sample", "hkl")


class SteeringConfig(_Table):
    """`[steering]`: whether plans that ask are advised (docs/steering.md), by a service of its own; how long they
    wait for advice before they go on as they were written; and how old it may be."""

    advise: bool = False
    timeout_s: float = Field(default=10.0, gt=0, le=600)
    oldest_s: float = Field(default=60.0, gt=0)


class Config(_Table):
    """One beamline."""

    beamline: str
    diffractometer: DiffractometerConfig
    detector: DetectorConfig
    sample: SampleConfig = SampleConfig()
    spec: SpecConfig | None = None
    files: FilesConfig = FilesConfig()
    stream: StreamConfig = StreamConfig()
    tiled: TiledConfig = TiledConfig()
    page: PageConfig = PageConfig()
    storage: StorageConfig = StorageConfig()
    preprocess: Preprocessing = Preprocessing()
    phasing: PhasingConfig = PhasingConfig()
    jobs: JobsConfig = JobsConfig()
    crystal: CrystalConfig = CrystalConfig()
    dynamical: DynamicalConfig = DynamicalConfig()
    live: LiveConfig = LiveConfig()
    operando: OperandoConfig = OperandoConfig()
    steering: SteeringConfig = SteeringConfig()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def geometry(
        self, positions: Mapping[str, float], *, energy_kev: float, distance_m: float | None = None
    ) -> Geometry:
        """The geometry with the motors at `positions` (degrees). Raises ScanError on a missing motor."""
        circles = self.diffractometer
        wanted = [circle.motor for circle in (*circles.sample, *circles.arm)]
        missing = [motor for motor in wanted if motor not in positions]
        if missing:
            raise ScanError(
                f"no position for motor {', '.join(missing)} of beamline {self.beamline}; "
                f"there are positions for {', '.join(sorted(positions)) or 'none'}"
            )
        distance = distance_m if distance_m is not None else self.detector.distance_m
        if distance is None:
            raise ScanError("no detector distance: give distance_m or set [detector] distance_m")

        def placed(circle: CircleConfig) -> Rotation:
            return Rotation(
                motor=circle.motor, axis=direction(circle.axis), angle_deg=float(positions[circle.motor])
            )

        return Geometry(
            energy_kev=energy_kev,
            distance_m=distance,
            pixel_um=self.detector.pixel_um,
            arm_pixel=self.detector.arm_pixel,
            beam_direction=direction(circles.beam),
            row_direction=direction(self.detector.rows),
            column_direction=direction(self.detector.columns),
            sample=tuple(placed(circle) for circle in circles.sample),
            arm=tuple(placed(circle) for circle in circles.arm),
            rocking=circles.rocking,
        )

    def changed(self, **tables: Mapping[str, Any]) -> "Config":
        """The same with some keys of some tables changed, checked as a file is. Raises ScanError."""
        whole = self.model_dump()
        for name, changes in tables.items():
            whole[name] = {**whole[name], **changes}
        return parse_config(whole, "command line")


def parse_config(table: Mapping[str, Any], source: str = "configuration") -> Config:
    """A checked `Config`. Raises ScanError with one line a problem, unknown keys among them."""
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        lines = [_problem(dict(problem)) for problem in error.errors()]
        raise ScanError(f"{source}: " + "; ".join(lines)) from None


def _problem(error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "top level"
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}"
    if error["type"] == "missing":
        return f"missing key {key!r}"
    return f"{key}: {error['msg'].removeprefix('Value error, ')}"


def shipped_configs() -> dict[str, Path]:
    """The beamlines that ship with the package by their names, in a wheel or in a checkout."""
    here = Path(__file__).parent
    folders = (here.parent / "config", here / "beamlines")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def find_config(name: str) -> Path:
    """The file that a name means: a path, or a beamline that ships with the package. Raises ScanError."""
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    shipped = shipped_configs()
    if name not in shipped:
        names = ", ".join(shipped)
        raise ScanError(f"no beamline {name!r} ships with live_bcdi ({names} do); give the path of a TOML file")
    return shipped[name]


def load_config(path: Path) -> Config:
    """Read a beamline's TOML file. Raises ScanError where it is absent, not TOML, or not a configuration."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ScanError(f"no configuration file {path}; the examples are in config/") from None
    except OSError as error:
        raise ScanError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ScanError(f"{path} is not TOML: {error}") from None
    return parse_config(table, str(path))
