"""Tiled: `raw/<run>` as bluesky writes it, `<kind>/<run>/<version>` as we do. Nothing is overwritten.

A result is a container of arrays with a table; one of phase retrieval has those of `stored.py`. docs/tiled.md
shows the whole tree.
"""

import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tiled.client import from_uri
from tiled.client.container import Container
from tiled.queries import Key

from ..config import Config
from ..metadata import scan_from_metadata
from ..private import require_private, write_private
from ..stream.run import run_plan
from ..types import Reconstruction, RockingScan, ScanError
from .stored import Arrays, result_arrays, result_metadata

REFINED = "refined"
KINDS = (REFINED, "preview", "dynamical", "tracking")  # of results
SERIES = "series"
KEY_FILE = "tiled/api_key"
_UID = re.compile(r"[0-9a-f]{4,8}(-[0-9a-f-]*)?")
_SHOWN = 5  # uids in a message


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
    with tiled_errors(config):
        return from_uri(server_uri(config), api_key=key)


def require_answer(config: Config) -> None:
    """Raises ScanError where the server cannot be reached, soon: Tiled's own client tries for half a minute."""
    with tiled_errors(config):
        httpx.get(server_uri(config), timeout=5.0)


@contextmanager
def tiled_errors(config: Config) -> Iterator[None]:
    """What Tiled's client raises where the server is away or refuses, as one ScanError that says what to do."""
    uri, variable = server_uri(config), f"${config.tiled.api_key_env}"
    try:
        yield
    except ScanError:
        raise
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


def store_result(
    root: Container,
    run: str,
    reconstruction: Reconstruction,
    metadata: Mapping[str, Any],
    *,
    kind: str = REFINED,
) -> str:
    """`store` a reconstruction; `metadata` is what there is to say of it besides `result_metadata`."""
    table = {**metadata, **result_metadata(reconstruction)}
    return store(root, (kind, run), result_arrays(reconstruction), table)


def store(
    root: Container, where: tuple[str, str], arrays: Arrays, table: Mapping[str, Any], *, keep: int | None = None
) -> str:
    """Write a result beside those that are there; its path, `<kind>/<run>/<version>`. `where` is one of KINDS and
    the uid of the run, or SERIES and the key of one. Raises ScanError for another kind.

    The metadata key `complete` is set last: a result without it was cut off and is not listed. Who was cut off
    and comes again with the same `table["file"]` does not store it twice; what is there of it goes in the end,
    and its number is not used again, because a server that was killed may have files there that it does not know.
    With `keep`, the newest so many versions stay: for what each version holds as a whole.
    """
    if where[0] not in (*KINDS, SERIES):
        raise ScanError(f"{where[0]!r} is no kind of result; they are {', '.join(KINDS)}")
    path = "/".join(where)
    runs = container(root, *where)
    mine = {key: node for key, node in runs.items() if "file" in table and _file(node) == table["file"]}
    for version, node in mine.items():
        if node.metadata.get("complete"):
            return f"{path}/{version}"
    numbers = [int(name) for name in runs]
    version = str(1 + max(numbers, default=0))
    node = runs.create_container(version, metadata={**table, "complete": False})
    for name, (array, about) in arrays.items():
        node.write_array(array, key=name, metadata=about)
    node.update_metadata({"complete": True})
    old = {*mine, *(str(number) for number in numbers if keep is not None and number <= int(version) - keep)}
    if old:
        with suppress(httpx.HTTPError, OSError, RuntimeError):  # halves that stay are not listed
            runs.delete_contents(sorted(old), recursive=True, external_only=False)
    return f"{path}/{version}"


def _file(node: Container) -> object:
    return node.metadata.get("file")


def results(root: Container, run: str | None = None) -> list[tuple[str, Container]]:
    """(path, container) of every complete result of phase retrieval, oldest first; of one run where its uid starts
    with `run`."""
    if REFINED not in root:
        return []
    found = []
    for uid, runs in root[REFINED].items():
        if run is None or uid.startswith(run):
            found += [(f"{REFINED}/{uid}/{version}", node) for version, node in whole(runs).items()]
    return sorted(found, key=lambda item: str(item[1].metadata.get("finished", "")))


def versions(root: Container, kind: str, uid: str) -> dict[str, Container]:
    """The complete results of one kind of a run, by their version, in order; empty where there are none."""
    return whole(root[kind, uid]) if kind in root and uid in root[kind] else {}


def whole(runs: Container) -> dict[str, Container]:
    """The complete ones of a run's results, by their version, in order."""
    nodes = dict(runs.search(Key("complete") == True).items())  # noqa: E712  Tiled builds a query of it
    return {version: nodes[version] for version in sorted(nodes, key=int)}


def is_run(source: str) -> bool:
    """Whether `source` means a run in Tiled: it looks like a uid, or its beginning, and there is no such file."""
    return _UID.fullmatch(source) is not None and not Path(source).exists()


def find_run(root: Container, run: str) -> str:
    """The uid of the run that begins with `run`, among those with frames or a result.

    Raises ScanError where there is no such run, or several.
    """
    return _one(run, [root[name] for name in ("raw", *KINDS) if name in root])


def newest_run(root: Container) -> str:
    """The uid of the run that was refined last for the first time. Raises ScanError where none has been."""
    if REFINED not in root or not len(root[REFINED]):
        raise ScanError("no run in Tiled has been refined yet; `live-bcdi demo` measures a simulated crystal")
    return str(root[REFINED].keys().last())


def _one(run: str, folders: Sequence[Container]) -> str:
    if not run:
        raise ScanError("give the uid of a run, or the beginning of it")
    if any(run in folder for folder in folders):  # all of them take long to list
        return run
    found = sorted({uid for folder in folders for uid in folder if uid.startswith(run)})
    if not found:
        raise ScanError(f"0 runs in Tiled begin with {run!r}; `live-bcdi results` lists those with a result")
    if len(found) > 1:
        shown = ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        raise ScanError(f"{len(found)} runs in Tiled begin with {run!r}: {shown}; give the uid of one")
    return str(found[0])


def read_raw_scan(root: Container, run: str) -> RockingScan:
    """The frames and angles of a run under `raw/`, by its uid or the beginning of it.

    Raises ScanError where there is no such run, several, or one that was not measured by our plans.
    """
    uid = _one(run, [root["raw"]] if "raw" in root else [])
    node = root["raw"][uid]
    plan = run_plan(node.metadata["start"])
    stream = node.get("primary", {})
    frames = [key for key in stream if f"{key}-angle" in stream]
    if len(frames) != 1:
        raise ScanError(
            f"run {uid[:8]} has no frames with angles in Tiled; give the recorder's file, "
            f"frames/*_{uid[:8]}.h5 in the storage folder"
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
