"""Played again, a scan is frame for frame what was recorded, however unevenly its axis stood."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.stream.fakes import small_scan
from live_bcdi.transport.hdf5 import read_scan
from live_bcdi.types import ScanError
from live_bcdi_plans import replay as player

NUM = 15
SCAN = small_scan(num=NUM, shape=(6, 5))
STEP_DEG = 0.2 / (NUM - 1)


@pytest.fixture
def play(tmp_path, free_port, monkeypatch):
    """What the detector's file holds after a scan was played with nobody listening."""
    monkeypatch.setattr(player, "wait_for_broker", lambda *_: None)
    monkeypatch.setattr(player, "LISTEN_S", 0.0)
    config = load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")
    stream = config.stream.model_copy(
        update={name: f"tcp://127.0.0.1:{free_port()}" for name in ("documents_in", "documents_out", "frames")}
    )
    storage = config.storage.model_copy(update={"directory": tmp_path})
    config = config.model_copy(update={"stream": stream, "storage": storage})

    def played(scan, **how):
        player.replay(scan, config, **how)
        (path,) = (tmp_path / "frames").glob("*.h5")
        return read_scan(path)

    return played


def jittered(share):
    noise = np.random.default_rng(5).uniform(-share, share, NUM) * STEP_DEG
    return SCAN.angles_deg + noise


def repeated():
    angles = SCAN.angles_deg.copy()
    angles[6] = angles[5]
    return angles


ANGLES = {
    "jitter of 0.45 steps": jittered(0.45),
    "jitter of 2 steps, not one way": jittered(2.0),
    "two equal angles": repeated(),
    "backwards": SCAN.angles_deg[::-1].copy(),
    "in single precision": SCAN.angles_deg.astype(np.float32),
}


@pytest.mark.parametrize("fly", [False, True])
@pytest.mark.parametrize("name", ANGLES)
def test_every_frame_once_and_at_its_angle(play, name, fly):
    scan = replace(SCAN, angles_deg=ANGLES[name])
    written = play(scan, fly=fly, rate_hz=0.0)
    np.testing.assert_array_equal(written.intensity, scan.intensity)
    np.testing.assert_array_equal(written.angles_deg, scan.angles_deg)
    np.testing.assert_array_equal(written.monitor, scan.monitor)


@pytest.mark.parametrize("fly", [False, True])
@pytest.mark.parametrize("blur_deg", [None, 0.003])
def test_a_frame_is_as_blurred_as_it_was_recorded(play, fly, blur_deg):
    """Whatever the axis does while it is played: the run's start document and the file say the same."""
    starts = []
    written = play(
        replace(SCAN, angular_blur_deg=blur_deg),
        fly=fly,
        told=lambda name, doc: starts.append(doc["live_bcdi"]) if name == "start" else None,
    )
    assert written.angular_blur_deg == blur_deg
    assert [table["scan"]["angular_blur_deg"] for table in starts] == [blur_deg]


def test_frames_that_were_never_recorded_are_not_made_up(play):
    have = np.ones(NUM, bool)
    have[[3, 8]] = False
    with pytest.raises(ScanError, match=r"frames \[3, 8\] were never recorded.*live-bcdi phase"):
        play(replace(SCAN, have=have))


def test_a_mask_of_frames_without_a_gap_is_no_hindrance(play):
    assert len(play(replace(SCAN, have=np.ones(NUM, bool))).intensity) == NUM


def test_a_scan_is_not_played_to_a_detector_of_another_kind():
    config = load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")
    with pytest.raises(ScanError, match="set \\[stream\\] source to 'live_bcdi', not 'stream2'"):
        player.replay(SCAN, config.changed(stream={"source": "stream2"}))
