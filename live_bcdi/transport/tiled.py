"""Tiled: `raw/<run>` as bluesky writes it, `refined/<run>/<version>` as we do. Nothing is overwritten.

A result is a container with the arrays in the laboratory frame (x, y, z), the detector-frame density
(rocking, row, column), what the starts agree on, and metadata with units, recipe, seed, chi and provenance.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import numpy as np
from tiled.client import from_uri
from tiled.client.container import Container
from tiled.queries import Key

from ..config import Config
from ..lattice import d_spacing_angstrom, mean_spacing_angstrom, shear_gradients
from ..metadata import scan_from_metadata
from ..private import require_private, write_private
from ..stream.run import run_plan
from ..types import Agreement, LabImage, Reconstruction, RockingScan, ScanError

KEY_FILE = "tiled/api_key"


def api_key(config: Config) -> str:
    """The key from the environment, or the embedded server's from its file under the storage folder.

    Raises ScanError, with where it was looked for, where there is none.
    """
    if key := os.environ.get(config.tiled.api_key_env):
        return key
    if config.tiled.uri is not None:
        raise ScanError(f"no key for Tiled at {config.tiled.uri}: set ${config.tiled.api_key_env}")
    path = _key_file(config)
    try:
        require_private(path)
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ScanError(
            f"no key for Tiled at {server_uri(config)}: {path} cannot be read ({type(error).__name__}); work in"
            f" the folder where `live-bcdi up` was started, or set ${config.tiled.api_key_env}"
        ) from None


def make_api_key(config: Config) -> str:
    """For the embedded server alone: as `api_key`, with a key made (mode 600) where there is none."""
    path = _key_file(config)
    if not os.environ.get(config.tiled.api_key_env) and config.tiled.uri is None and not path.exists():
        write_private(path, secrets.token_hex(32))
    return api_key(config)


def _key_file(config: Config) -> Path:
    return config.storage.directory.absolute() / KEY_FILE


def server_uri(config: Config) -> str:
    """The site's server, or the embedded one."""
    return config.tiled.uri or f"http://127.0.0.1:{config.tiled.port}/api/v1"


def connect(config: Config) -> Container:
    """A client at the root of the catalogue. Raises ScanError where the server cannot be reached, there is no key
    for it, or it refuses the key."""
    require_answer(config)
    key = api_key(config)
    with _clear_errors(config):
        return from_uri(server_uri(config), api_key=key)


def require_answer(config: Config) -> None:
    """Raises ScanError where the server cannot be reached, soon: Tiled's own client tries for half a minute."""
    with _clear_errors(config):
        httpx.get(server_uri(config), timeout=5.0)


@contextmanager
def _clear_errors(config: Config) -> Iterator[None]:
    uri, variable = server_uri(config), f"${config.tiled.api_key_env}"
    try:
        yield
    except httpx.HTTPStatusError as error:
        if error.response.status_code in (401, 403):
            raise ScanError(
                f"Tiled at {uri} refused the key ({error.response.status_code}); set the right one in {variable}"
            ) from None
        raise ScanError(f"Tiled at {uri} answers with an error: {error}") from None
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise ScanError(
            f"Tiled at {uri} cannot be reached ({type(error).__name__}); start it with `live-bcdi up`, or set"
            f" [tiled] uri and the key in {variable}"
        ) from None


def container(root: Container, *path: str) -> Container:
    """The container at `path`, made where it is not there."""
    for name in path:
        root = root[name] if name in root else root.create_container(name)
    return root


def store_result(root: Container, run: str, reconstruction: Reconstruction, metadata: Mapping[str, Any]) -> str:
    """Write a result beside those that are there; its path, `refined/<run>/<version>`.

    The metadata key `complete` is set last: a result without it was cut off and is not listed. Who was cut off
    and comes again with the same `metadata["file"]` does not store it twice; what is there of it goes in the end,
    and its number is not used again, because a server that was killed may have files there that it does not know.
    """
    runs = container(root, "refined", run)
    mine = {key: node for key, node in runs.items() if "file" in metadata and _file(node) == metadata["file"]}
    for version, node in mine.items():
        if node.metadata.get("complete"):
            return f"refined/{run}/{version}"
    version = str(1 + max((int(name) for name in runs), default=0))
    node = runs.create_container(version, metadata={**metadata, "complete": False})
    for name, (array, about) in _arrays(reconstruction).items():
        node.write_array(array, key=name, metadata=about)
    node.update_metadata({"complete": True})
    if mine:
        with suppress(httpx.HTTPError, OSError, RuntimeError):  # halves that stay are not listed
            runs.delete_contents(list(mine), recursive=True, external_only=False)
    return f"refined/{run}/{version}"


def _file(node: Container) -> object:
    return node.metadata.get("file")


_Arrays: TypeAlias = dict[str, tuple[np.ndarray[Any, Any], dict[str, str]]]


def _arrays(result: Reconstruction) -> _Arrays:
    detector = {"axes": "rocking, row, column", "frame": "conjugate to the detector"}
    arrays: _Arrays = {
        "density": (result.density, {**detector, "units": "arbitrary"}),
        "detector_support": (result.support, detector),
    }
    if result.lab is not None:
        arrays |= _lab_arrays(result.lab)
    if result.resolution is not None:
        arrays |= {
            "prtf_q": (result.resolution.q_invA, {"units": "1/angstrom"}),
            "prtf": (result.resolution.prtf, {"units": "1"}),
        }
    if result.agreement is not None:
        arrays |= _agreement_arrays(result.agreement, detector)
    return arrays


def _lab_arrays(image: LabImage) -> _Arrays:
    lab = {"axes": "x, y, z", "frame": "laboratory", "voxel_nm": f"{image.voxel_nm:.6g}"}
    zero = {"reference": "zero mean inside the support, NaN outside"}
    spacing = {"reference": f"d_0 = {mean_spacing_angstrom(image):.6g} angstrom where the strain is zero"}
    first, second = shear_gradients(image)
    arrays: _Arrays = {
        "amplitude": (np.abs(image.density), {**lab, "units": "arbitrary"}),
        "phase": (np.angle(image.density), {**lab, "units": "radian", "convention": "phase = -h.u"}),
        "support": (image.support, lab),
        "displacement": (image.displacement_angstrom, {**lab, **zero, "units": "angstrom, along +h"}),
        "strain": (image.strain, {**lab, **zero, "units": "1, d u_h / d x_h"}),
        "d_spacing": (d_spacing_angstrom(image).astype(np.float32), {**lab, **spacing, "units": "angstrom"}),
        "shear_1": (first, {**lab, **zero, "units": "1, d u_h / d x_1, x_1 the part of z across h"}),
        "shear_2": (second, {**lab, **zero, "units": "1, d u_h / d x_2, x_2 = h x x_1"}),
    }
    spread = {"meaning": "standard deviation over the starts, which guide each other"}
    if image.displacement_std_angstrom is not None:
        arrays["displacement_std"] = (image.displacement_std_angstrom, {**lab, **spread, "units": "angstrom"})
    if image.strain_std is not None:
        arrays["strain_std"] = (image.strain_std, {**lab, **spread, "units": "1"})
    return arrays


def _agreement_arrays(agreement: Agreement, detector: Mapping[str, str]) -> _Arrays:
    """The first mode as amplitude and phase: Tiled gives no picture of complex numbers."""
    spread = {**detector, "meaning": "standard deviation over the starts, which guide each other"}
    arrays: _Arrays = {
        "mode_weights": (agreement.weights, {"units": "1", "meaning": "of all modes of the starts"}),
        "mode_amplitude": (np.abs(agreement.mode), {**detector, "units": "arbitrary"}),
        "mode_phase": (np.angle(agreement.mode), {**detector, "units": "radian"}),
        "amplitude_std": (agreement.amplitude_std, {**spread, "units": "1, of the maximum"}),
        "phase_std": (agreement.phase_std_rad, {**spread, "units": "radian"}),
    }
    if agreement.correlation is not None:
        about = {f"resolution_nm {name}": f"{nm:.6g}" for name, nm in agreement.correlation.resolution_nm.items()}
        arrays |= {
            "fsc_q": (agreement.correlation.q_invA, {"units": "1/angstrom"}),
            "fsc": (agreement.correlation.correlation, {**about, "units": "1"}),
        }
    return arrays


def results(root: Container, run: str | None = None) -> list[tuple[str, Container]]:
    """(path, container) of every complete result, oldest first; of one run where its uid starts with `run`."""
    if "refined" not in root:
        return []
    found = []
    for uid, versions in root["refined"].items():
        if run is None or uid.startswith(run):
            complete = versions.search(Key("complete") == True)  # noqa: E712  Tiled builds a query of it
            found += [(f"refined/{uid}/{version}", node) for version, node in complete.items()]
    return sorted(found, key=lambda item: str(item[1].metadata.get("finished", "")))


def read_raw_scan(root: Container, run: str) -> RockingScan:
    """The frames and angles of a run under `raw/`, by its uid or the beginning of it.

    Raises ScanError where there is no such run, several, or one that was not measured by our plans.
    """
    raw = root.get("raw", {})
    uids = [run] if run in raw else [uid for uid in raw if uid.startswith(run)]  # all of them take long to list
    if len(uids) != 1:
        raise ScanError(f"{len(uids)} runs in Tiled begin with {run!r}; give the uid of one")
    node = root["raw"][uids[0]]
    plan = run_plan(node.metadata["start"])
    stream = node["primary"]
    frames = [key for key in stream if f"{key}-angle" in stream]
    if len(frames) != 1:
        raise ScanError(
            f"run {uids[0][:8]} has no frames with angles in Tiled; give the recorder's file, "
            f"frames/*_{uids[0][:8]}.h5 in the storage folder"
        )
    intensity = np.asarray(stream[frames[0]].read())
    intensity = intensity.reshape(-1, *intensity.shape[-2:])
    angles_deg, monitor = (
        np.asarray(stream[f"{frames[0]}-{key}"].read(), float).reshape(-1) for key in ("angle", "monitor")
    )
    whole = min(len(intensity), len(angles_deg), len(monitor))  # a killed detector had written an angle more
    return scan_from_metadata(
        plan.scan,
        intensity=intensity[:whole],
        angles_deg=angles_deg[:whole],
        monitor=monitor[:whole] if np.isfinite(monitor[:whole]).any() else None,
    )
