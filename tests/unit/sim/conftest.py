"""The beamline that simulations are tested on."""

from pathlib import Path

import pytest

from live_bcdi.config import Config, load_config


@pytest.fixture(scope="session")
def config() -> Config:
    return load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")
