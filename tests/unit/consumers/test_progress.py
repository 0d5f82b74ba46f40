"""What a job tells of itself, and what is made of it: never less time than its own pace says."""

import json

import pytest

from live_bcdi_consumers.progress import Durations, FileProgress, JobProgress, empty


def job(path, **changes):
    return JobProgress(**{"name": "S1", "run": "r", "frames": 100, "path": path, "began_s": 0.0, **changes})


def say(path, share, text="start 1"):
    path.write_text(json.dumps({"share": share, "text": text}))


def test_a_job_tells_through_a_file(tmp_path):
    path = tmp_path / "r.json"
    one, tell = job(path), FileProgress(path)
    one.look(1.0)
    assert one.fields(2.0, None) | {"seconds": 2.0, "quiet_s": 2.0, "share": None, "text": "", "left_s": None} == (
        one.fields(2.0, None)
    ), "at work, and nothing else is known"
    tell(0.25, "start 2 of 4")
    tell(0.26, "so soon again that nobody reads it")
    one.look(3.0)
    fields = one.fields(5.0, None)
    assert (fields["share"], fields["text"], fields["quiet_s"]) == (0.25, "start 2 of 4", 2.0)
    assert list(tmp_path.iterdir()) == [path]
    one.close()
    one.close()
    assert not path.exists()


def test_nothing_is_left_of_a_job_that_was_ended_while_it_wrote(tmp_path):
    job = JobProgress("a scan", "run", 5, path=tmp_path / "run_1.json", began_s=0.0)
    for name in ("run_1.json", "run_1.77.partial", "run_12.77.partial"):
        (tmp_path / name).write_text("{}")
    job.close()
    assert [path.name for path in tmp_path.iterdir()] == ["run_12.77.partial"]


def test_what_is_left_is_by_the_pace_and_grows_while_nothing_is_said(tmp_path):
    path = tmp_path / "r.json"
    one = job(path)
    say(path, 0.1)
    one.look(20.0)  # imports, reading: not of the pace
    assert one.left_s(20.0, None) is None
    say(path, 0.5)
    one.look(28.0)
    assert one.left_s(28.0, 1000.0) == pytest.approx(8.0 / 0.4 * 0.5)
    assert one.left_s(36.0, None) == pytest.approx(16.0 / 0.4 * 0.5), "silence is no progress"


def test_before_there_is_a_pace_such_runs_say_how_long_it_takes(tmp_path):
    one = job(tmp_path / "none.json", began_s=100.0)
    assert one.left_s(110.0, 60.0) == 50.0
    assert one.left_s(170.0, 60.0) is None, "longer than usual: nothing is promised"


@pytest.mark.parametrize("garbage", ["", "{", "[]", '{"share": "x"}', '{"share": null, "text": 1}', "\x00"])
def test_garbage_is_no_word(tmp_path, garbage):
    path = tmp_path / "r.json"
    one = job(path)
    path.write_text(garbage)
    one.look(1.0)
    assert one.share is None
    say(path, 7.0)
    one.look(2.0)
    assert one.share == 1.0


def test_a_file_that_cannot_be_written_does_not_stop_the_work(tmp_path):
    FileProgress(tmp_path / "not" / "there.json")(0.5, "on")


def test_how_long_runs_of_like_size_took():
    durations = Durations()
    for frames, seconds in [(100, 9.0), (110, 11.0), (100, 10.0), (1000, 500.0), (None, 1.0), (100, "x")]:
        durations.add(frames, seconds)
    assert durations.usual_s(100) == 10.0
    assert durations.usual_s(1000) == 500.0
    assert durations.usual_s(300) is None
    for _ in range(5):
        durations.add(100, 3.0)
    assert durations.usual_s(100) == 3.0, "the machine does less else now"


def test_what_killed_jobs_left_goes_and_no_name_comes_twice(tmp_path):
    (tmp_path / "old.json").write_text("{}")
    name = empty(tmp_path)
    assert not list(tmp_path.iterdir())
    assert name("r") != name("r")
