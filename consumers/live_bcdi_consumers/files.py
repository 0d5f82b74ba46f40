"""Where a run's frames lie on disk, from its documents."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlparse

from live_bcdi.transport.hdf5 import DATA_PATH


def frame_file_of(resource: Mapping[str, Any]) -> str | None:
    """The path in a StreamResource document that holds a run's frames; None for other resources."""
    uri = urlparse(str(resource.get("uri", "")))
    dataset = (resource.get("parameters") or {}).get("dataset")
    if uri.scheme != "file" or uri.hostname not in (None, "localhost") or dataset != DATA_PATH:
        return None
    return unquote(uri.path)
