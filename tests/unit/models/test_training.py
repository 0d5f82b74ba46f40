"""Training: that it learns, that it can be stopped and resumed, and what is written at its end."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from live_bcdi.types import ScanError
from live_bcdi_models.training import CHECKPOINT, PRESETS, Training, begun, chosen
from live_bcdi_models.weights import load_weights

_TINY = replace(PRESETS["tiny"], seconds=130, half=False)


def _steps() -> itertools.count:  # type: ignore[type-arg]
    """A clock by which a step takes a second: a test must not depend on the machine."""
    return itertools.count()


def test_a_tiny_training_beats_the_untrained_network() -> None:
    training = Training(replace(_TINY, batch=2), seed=3)  # enough to see it learn
    before = training.scores()
    clock = _steps()
    assert training.run(clock=lambda: float(next(clock)), every_s=26)
    after = training.scores()
    losses = [loss for _, _, loss in training.progress.losses]
    assert losses[-1] < losses[0]
    # 48 crystals of families that it never saw, the same before and after
    assert after["all"] > before["all"] + 0.02


def test_resumed_training_is_the_same_training(tmp_path: Path) -> None:
    preset = replace(_TINY, seconds=4, batch=2)
    whole, clock = Training(preset, seed=1), _steps()
    whole.run(clock=lambda: float(next(clock)))
    part, clock = Training(preset, seed=1, folder=tmp_path), _steps()
    stops = iter([False, False, True])
    assert not part.run(clock=lambda: float(next(clock)), stopped=lambda: next(stops))
    assert part.progress.steps == 2
    rest, clock = begun(preset, seed=1, folder=tmp_path), _steps()
    assert rest.progress.steps == 2
    assert rest.run(clock=lambda: float(next(clock)))
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, rest.network.state_dict()[name]), name


def test_time_in_which_the_process_was_stopped_does_not_count() -> None:
    training = Training(replace(_TINY, seconds=100, batch=1), seed=1)
    times = iter([0.0, 1.0, 3600.0, 3601.0])
    stops = iter([False, False, False, True])
    training.run(clock=lambda: next(times), stopped=lambda: next(stops))
    assert training.progress.seconds == pytest.approx(22)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    Training(_TINY, seed=1, folder=tmp_path).save()
    with pytest.raises(ScanError, match="another network or seed"):
        begun(_TINY, seed=2, folder=tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"cut off")
    with pytest.raises(ScanError, match="cannot be read"):
        begun(_TINY, seed=1, folder=tmp_path)


def test_unknown_presets_and_networks_and_a_missing_gpu_are_refused() -> None:
    with pytest.raises(ScanError, match="h200-25min, cpu-1h, tiny"):
        chosen("gpu")
    with pytest.raises(ScanError, match="unknown network"):
        Training(chosen("tiny", network="transformer"))
    if not torch.cuda.is_available():
        with pytest.raises(ScanError, match="cpu-1h"):
            Training(chosen("h200-25min"))


def test_weights_come_back_with_their_card_and_damage_is_found(tmp_path: Path) -> None:
    training = Training(replace(_TINY, held_out=6), seed=1)
    path = tmp_path / "w" / "preview.safetensors"
    card = training.finish(path, name="tiny", command="live-bcdi train --preset tiny")
    network, read = load_weights(path)
    assert read == card
    for name, value in training.network.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-3, atol=1e-4)  # half precision
    assert "SHA-256" in path.with_suffix(".md").read_text()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ScanError, match="checksum"):
        load_weights(path)
    table = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**table, "colour": "red"}))
    with pytest.raises(ScanError, match="no card"):
        load_weights(path)
    with pytest.raises(ScanError, match="no weights"):
        load_weights(tmp_path / "other.safetensors")
