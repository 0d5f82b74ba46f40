"""`live-bcdi keys`: where it puts them, and what it prints."""

import json

import pytest
from typer.testing import CliRunner

from live_bcdi.cli import main  # noqa: F401  all verbs
from live_bcdi.cli.app import app
from live_bcdi.types import ScanError

CONFIG = """
beamline = "test"
[diffractometer]
rocking = "theta"
sample = [{motor = "theta", axis = "y+"}]
[detector]
pixel_um = [55, 55]
arm_pixel = [3, 2]
rows = "y-"
columns = "x+"
[storage]
directory = "runs"
"""


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """The verb in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beamline.toml").write_text(CONFIG)

    def run(*arguments):
        done = CliRunner().invoke(app, ["keys", "--config", "beamline.toml", *arguments])
        if done.exception is not None:
            raise done.exception
        return done.output

    return run


def test_they_lie_under_the_storage_folder_and_no_secret_is_printed(keys, tmp_path):
    told = keys("--json")
    folder = tmp_path / "runs" / "keys"
    assert json.loads(told)["folder"] == str(folder)
    for name in ("server", "client"):
        assert json.loads(told)[name] in (folder / f"{name}.key").read_text()
    theirs = keys("--client", "office")
    secrets = [path.read_text().split('secret-key = "')[1][:40] for path in folder.rglob("*.key_secret")]
    assert len(secrets) == 3
    assert not any(secret in told + theirs for secret in secrets)
    assert (folder / "clients" / "office.key").read_text() == (folder / "office" / "client.key").read_text()
    assert not (folder / "office" / "server.key_secret").exists()


def test_output_says_where_and_comes_before_the_configuration(keys, tmp_path):
    (tmp_path / "beamline.toml").write_text(CONFIG + '[stream]\nkeys = "mine"\n')
    keys()
    assert (tmp_path / "mine" / "server.key_secret").exists()
    keys("--output", "other")
    assert (tmp_path / "other" / "server.key_secret").exists()
    with pytest.raises(ScanError, match="never overwritten"):
        keys()


def test_a_client_needs_a_server(keys):
    with pytest.raises(ScanError, match=r"server\.key .*no such file"):
        keys("--client", "office")


@pytest.mark.parametrize(
    "verb, words", [("keys", "[stream] keys"), ("batch", "[jobs] workers"), ("bench stream", "[live] memory_mb")]
)
def test_help_names_the_tables_of_the_configuration(verb, words):
    told = CliRunner().invoke(app, [*verb.split(), "--help"], env={"COLUMNS": "300"}).output
    assert words in told
