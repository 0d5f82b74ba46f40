"""`live-bcdi train` as a process: stopped, gone on with, refused."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from live_bcdi_models.training import CHECKPOINT
from live_bcdi_models.weights import load_weights


def _train(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "live_bcdi.cli", "train", "--output", str(folder), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_training_is_stopped_and_gone_on_with(tmp_path: Path) -> None:
    running = _train(tmp_path, "--preset", "tiny", "--minutes", "60")
    deadline = time.monotonic() + 120
    while not (tmp_path / CHECKPOINT).exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate(timeout=120)
    assert running.returncode == 130 and "the same command goes on" in told
    assert not list(tmp_path.glob("*.partial")) and not (tmp_path / "preview.safetensors").exists()

    ended = _train(tmp_path, "--preset", "tiny", "--minutes", "0.01", "--json")
    said, told = ended.communicate(timeout=240)
    assert ended.returncode == 0, told
    _, card = load_weights(tmp_path / "preview.safetensors")
    assert json.loads(said)["sha256"] == card.sha256
    assert card.command.startswith("live-bcdi train --output") and card.preset == "tiny"


@pytest.mark.parametrize(
    ("options", "why"), [(("--preset", "gpu"), "unknown preset"), (("--network", "resnet"), "unknown network")]
)
def test_what_is_not_there_is_refused_in_one_line(tmp_path: Path, options: tuple[str, ...], why: str) -> None:
    refused = _train(tmp_path, *options)
    said, told = refused.communicate(timeout=120)
    assert refused.returncode == 2 and not said
    assert why in told and len(told.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
