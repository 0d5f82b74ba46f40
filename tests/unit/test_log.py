"""A record on disk is one JSON object that says when, who, which run and what."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from live_bcdi import log
from live_bcdi.types import ScanError


@pytest.fixture(autouse=True)
def restore_logging():
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)


def records(folder):
    return [json.loads(line) for line in (folder / "log" / "live.jsonl").read_text().splitlines()]


def test_a_record_carries_service_and_run(tmp_path):
    log.configure("live", tmp_path, stderr=False)
    log.about_run("live", "uid-1").info("stop: %d frames", 201)
    logging.getLogger("live").warning("no run here")
    first, second = records(tmp_path)
    assert (first["service"], first["run"], first["message"]) == ("live", "uid-1", "stop: 201 frames")
    assert first["level"] == "INFO"
    assert "run" not in second


def test_an_exception_is_kept_on_one_line(tmp_path):
    log.configure("live", tmp_path, stderr=False)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("live").exception("failed")
    (record,) = records(tmp_path)
    assert "ValueError: two\nlines" in record["exception"]


def test_numbers_are_fields_and_not_only_words(tmp_path):
    """What a log shipper reads: numbers as they are, NaN as null; `message` and `run` stay ours."""
    log.configure("live", tmp_path, stderr=False)
    numbers = {
        "received": np.int64(20),
        "age_s": float("nan"),
        "lost": [3, 4],
        "message": "theirs",
        "run": "theirs",
    }
    log.about_run("live", "uid-1").info("stop: %d of %d frames", 20, 22, extra={"fields": numbers})
    (record,) = records(tmp_path)
    assert (record["received"], record["age_s"], record["lost"]) == (20, None, [3, 4])
    assert (record["message"], record["run"]) == ("stop: 20 of 22 frames", "uid-1")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_costs_lines_and_no_tracebacks(tmp_path, capsys):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "full.jsonl").symlink_to("/dev/full")
    log.configure("full", tmp_path)
    logging.getLogger("full").error("it goes on")
    logging.getLogger("full").error("%d", "wrong")
    said = capsys.readouterr().err
    assert "full: it goes on" in said
    assert "No space left" not in said
    assert "TypeError" in said, "what is wrong with a record is still said"


def test_a_folder_that_takes_no_log_is_one_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ScanError, match="no log can be written in"):
        log.configure("live", tmp_path / "file")
