"""A configuration on free ports, whose storage folder is the test's own."""

import pytest

from live_bcdi.cli import config_path
from live_bcdi.config import Config, load_config


@pytest.fixture
def config(tmp_path, free_port, monkeypatch) -> Config:
    monkeypatch.delenv("LIVE_BCDI_TILED_API_KEY", raising=False)
    streams = ("documents_in", "documents_out", "updates_in", "updates_out", "frames", "relay")
    return load_config(config_path("34idc")).changed(
        storage={"directory": tmp_path},
        stream={name: f"tcp://127.0.0.1:{free_port()}" for name in streams},
        tiled={"port": free_port()},
        page={"port": free_port()},
    )
