"""A batch does what is not done, says what cannot be done, and stops for nothing but a full disk."""

import errno
import os
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.batch import analyse, run_batch, settings_key
from live_bcdi.cli import config_path
from live_bcdi.config import load_config
from live_bcdi.jobs import SchedulerAway
from live_bcdi.sim import simulate_scan
from live_bcdi.transport.archive import Source
from live_bcdi.transport.hdf5 import read_result, write_scan
from live_bcdi.types import ScanError, StorageError


class Here:
    """Jobs in this process, at once; `happens` says, by the name of a file, what a job ends with instead."""

    def __init__(self, *, alone_helps=True, **happens):
        self.alone_helps, self.happens, self.begun = alone_helps, happens, []

    def places(self):
        return 2

    def submit(self, job, source, *arguments):
        self.begun.append(source.path.stem)
        future = Future()
        what = self.happens.get(source.path.stem, [])
        try:
            if what and (error := what.pop(0)):
                raise error
            future.set_result(job(source, *arguments))
        except Exception as error:  # noqa: BLE001
            future.set_exception(error)
        return future


@pytest.fixture(scope="module")
def config():
    phasing = {"recipe": "2*ER", "starts": 1, "threads": 1}
    return load_config(config_path("34idc")).changed(phasing=phasing)


@pytest.fixture(scope="module")
def scans(tmp_path_factory, config):
    """Three scans of small crystals, a, b and c."""
    folder = tmp_path_factory.mktemp("scans")
    for seed, name in enumerate("abc"):
        scan, _ = simulate_scan(shape=(16, 16, 16), photons=1e5, strain="weak", seed=seed, config=config)
        write_scan(folder / f"{name}.h5", scan)
    return [Source(path=folder / f"{name}.h5") for name in "abc"]


def ran(scans, folder, config, jobs=None):
    told = []
    outcome = run_batch(scans, folder, config, jobs or Here(), lambda count, last: told.append(count))
    assert told == list(range(1, outcome.count + 1)), "each scan is told once"
    return outcome


def states(outcome):
    return len(outcome.done), len(outcome.skipped), len(outcome.failed)


def test_what_is_done_is_skipped_and_new_settings_are_new_results(scans, tmp_path, config):
    assert states(ran(scans[:1], tmp_path, config)) == (1, 0, 0)
    assert states(ran(scans, tmp_path, config)) == (2, 1, 0)
    assert states(ran(scans, tmp_path, config)) == (0, 3, 0)
    assert states(ran(scans, tmp_path, config.changed(phasing={"threads": 2}))) == (0, 3, 0)
    assert states(ran(scans, tmp_path, config.changed(phasing={"seed": 1}))) == (3, 0, 0)
    assert len(list(tmp_path.iterdir())) == 6


def test_results_are_those_of_the_scan(scans, tmp_path, config):
    (told,) = ran(scans[:1], tmp_path, config).done
    result = read_result(Path(told["file"]))
    assert (told["source"], result.recipe) == (str(scans[0].path), "2*ER")
    assert result.chi == told["chi"]


@pytest.mark.parametrize(
    "change",
    [
        {"phasing": {"recipe": "3*ER"}},
        {"phasing": {"starts": 2}},
        {"phasing": {"device": "cpu"}},
        {"preprocess": {"aliens": True}},
        {"crystal": {"threshold": 0.4}},
        {"sample": {"formula": "Au"}},
        {"sample": {"cif": "absent.cif"}},
        {"sample": {"hkl": (0, 0, 2)}},
        {"dynamical": {"tolerance": 0.1}},
        {"diffractometer": {"polarisation": "y+"}},
    ],
)
def test_every_setting_of_the_numbers_is_in_the_key(config, change):
    assert settings_key("5", config.changed(**change)) != settings_key("5", config)


def test_settings_that_change_no_number_are_not_in_the_key(config):
    changed = config.changed(phasing={"threads": 7}, jobs={"workers": 3}, live={"page_hz": 1})
    assert settings_key("5", changed) == settings_key("5", config) != settings_key("6", config)


def test_a_cif_file_of_other_content_is_another_result(tmp_path, config):
    """The configuration's and that of the run's metadata; where it lies is all the same."""
    first, same, other = (tmp_path / f"{name}.cif" for name in ("first", "same", "other"))
    for path, text in ((first, "gold"), (same, "gold"), (other, "silver")):
        path.write_text(text)
    by_config = [settings_key("5", config.changed(sample={"cif": str(path)})) for path in (first, same, other)]
    by_run = [settings_key("5", config, {"cif": str(path)}) for path in (first, same, other)]
    for keys in (by_config, by_run):
        assert keys[0] == keys[1] != keys[2]
    assert len({*by_config, *by_run, settings_key("5", config)}) == 5


def test_a_dark_frame_of_other_counts_is_another_result(scans, tmp_path, config):
    dark = tmp_path / "dark.npy"
    for counts, expected in ((0.0, (1, 0, 0)), (0.0, (0, 1, 0)), (0.5, (1, 0, 0))):
        np.save(dark, np.full((16, 16), counts))
        outcome = ran(scans[:1], tmp_path / "results", config.changed(preprocess={"dark": str(dark)}))
        assert states(outcome) == expected


def test_bad_files_are_told_and_hold_up_nobody(scans, tmp_path, config):
    (tmp_path / "text.h5").write_text("no HDF5")
    (tmp_path / "cut.h5").write_bytes(scans[0].path.read_bytes()[:-100])
    nan = simulate_scan(shape=(16, 16, 16), photons=1e5, strain="weak", seed=0, config=config)[0]
    object.__setattr__(nan, "angles_deg", np.full(16, np.nan))
    write_scan(tmp_path / "nan.h5", nan)
    bad = [Source(path=tmp_path / f"{name}.h5") for name in ("absent", "text", "cut", "nan")]
    outcome = ran([*bad, scans[0]], tmp_path / "results", config)
    assert states(outcome) == (1, 0, 4)
    reasons = ["there is no such file", "it is not an HDF5 file", "it is truncated", "angle"]
    for problem, source, reason in zip(outcome.failed, bad, reasons):
        assert problem["source"] == str(source.path)
        assert reason in problem["error"]


def test_a_fault_of_ours_is_told_by_its_name(scans, tmp_path, config):
    outcome = ran(scans, tmp_path, config, Here(b=[ZeroDivisionError("division by zero")]))
    assert states(outcome) == (2, 0, 1)
    assert outcome.failed[0]["error"] == "ZeroDivisionError: division by zero"


def test_who_lost_its_process_is_tried_once_more_after_all_others(scans, tmp_path, config):
    jobs = Here(a=[BrokenExecutor("gone")], b=[MemoryError("no room"), MemoryError("no room")])
    outcome = ran(scans, tmp_path, config, jobs)
    assert jobs.begun == ["a", "b", "c", "a", "b"]
    assert states(outcome) == (2, 0, 1)
    assert "ran out of memory (no room); bin or cut the volume" in outcome.failed[0]["error"]


def test_a_cluster_has_tried_enough(scans, tmp_path, config):
    jobs = Here(alone_helps=False, a=[BrokenExecutor("gone")])
    outcome = ran(scans, tmp_path, config, jobs)
    assert jobs.begun == ["a", "b", "c"]
    assert "lost its process" in outcome.failed[0]["error"]


@pytest.mark.parametrize("error", [StorageError("the disk is full"), SchedulerAway("it went away")])
def test_what_the_next_scan_would_meet_too_ends_it(scans, tmp_path, config, error):
    with pytest.raises(type(error), match=str(error)):
        ran(scans, tmp_path, config, Here(a=[error]))


def test_a_folder_that_cannot_be_made_is_said_before_the_work(scans, tmp_path, config):
    (tmp_path / "file").write_text("")
    jobs = Here()
    with pytest.raises(ScanError, match="give another --output"):
        ran(scans, tmp_path / "file" / "results", config, jobs)
    assert jobs.begun == []


def test_nothing_half_written_counts_as_done(scans, tmp_path, config, monkeypatch):
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        with pytest.raises(StorageError):
            analyse(scans[0], tmp_path, config)
    assert list(tmp_path.iterdir()) == []
    assert "chi" in analyse(scans[0], tmp_path, config)


def no_space(_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
