"""Runs in Tiled as a list, and the image of one result, against a Tiled in this process."""

import numpy as np
import pytest

from live_bcdi.transport.history import find_result, list_runs, read_lab_image
from live_bcdi.transport.stored import result_metadata
from live_bcdi.transport.tiled import store_result
from live_bcdi.types import ScanError

RUNS = 150  # more than Tiled gives in one answer


def start(number: int) -> dict:
    scan = {"name": f"S{number:04d}", "sample": "Gold" if number % 2 else "LiCoO2", "hkl": [1, 1, 1]}
    return {"uid": uid(number), "time": 1e9 + number, "live_bcdi": {"scan": scan, "planned": {"num": 61}}}


def uid(number: int) -> str:
    return f"{number:04x}-run"


@pytest.fixture
def root(empty_tiled, result):
    """150 rocking scans, written in another order than they were measured in, and one run that is none of ours."""
    if "raw" in empty_tiled:
        return empty_tiled
    raw = empty_tiled.create_container("raw")
    for number in np.random.default_rng(0).permutation(RUNS).tolist():
        stop = {"exit_status": "abort" if number == 7 else "success"}
        raw.create_container(uid(number), metadata={"start": start(number), "stop": stop})
    raw.create_container("other", metadata={"start": {"uid": "other", "time": 2e9}})
    for seed in (1, 2):
        store_result(empty_tiled, uid(149), result, {"name": "S0149", "frames": 61, "num": 61, "file": str(seed)})
    empty_tiled["refined", uid(149)].create_container("3", metadata={"complete": False})
    half = empty_tiled["refined"].create_container(uid(148)).create_container
    half("1", metadata={**result_metadata(result), "complete": True}).write_array(
        np.ones((2, 2, 2)), key="amplitude"
    )
    half("2", metadata={**result_metadata(result), "voxel_nm": None, "complete": True})
    store_result(empty_tiled, uid(149), result, {"name": "S0149", "file": "3"}, kind="dynamical")
    empty_tiled["dynamical", uid(149)].create_container("2", metadata={"complete": False})
    empty_tiled["refined"].create_container(uid(147)).create_container("1", metadata={"complete": False})
    return empty_tiled


def test_an_empty_tiled_has_no_runs(tmp_path):
    class Empty(dict):
        pass

    assert list_runs(Empty()) == ([], 0)


def test_pages_from_the_newest_backwards(root):
    rows, total = list_runs(root, count=20)
    assert total == RUNS
    assert [row["name"] for row in rows] == [f"S{149 - k:04d}" for k in range(20)]
    older, _ = list_runs(root, skip=140, count=20)
    assert [row["run"] for row in older] == [uid(9 - k) for k in range(10)]
    assert older[2] == {
        **{"run": uid(7), "name": "S0007", "sample": "Gold", "hkl": [1, 1, 1], "time_s": 1e9 + 7, "num": 61},
        **{"exit_status": "abort", "results": []},
    }
    assert list_runs(root, skip=1000)[0] == []


def test_a_row_has_its_whole_results_only(root, result):
    newest, second, third = list_runs(root, count=3)[0]
    assert [each["version"] for each in newest["results"]] == ["1", "2", "dynamical/1"]
    assert newest["results"][0]["chi"] == pytest.approx(result.chi)
    assert newest["results"][0]["frames"] == 61
    assert [each["version"] for each in second["results"]] == ["1", "2"]
    assert third["results"] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("S0014", [14]),
        ("s001", range(19, 9, -1)),
        ("gold", range(149, 109, -2)),
        (uid(31)[:6], [31]),
        ("nothing such", []),
    ],
)
def test_a_filter_looks_at_name_sample_and_uid(root, text, expected):
    rows, total = list_runs(root, count=20, text=text)
    assert [row["name"] for row in rows] == [f"S{number:04d}" for number in expected]
    assert total == (75 if text == "gold" else len(rows))


def test_a_filtered_list_has_pages_too(root):
    rows, _ = list_runs(root, skip=60, count=20, text="gold")
    assert [row["name"] for row in rows] == [f"S{29 - 2 * k:04d}" for k in range(15)]


def test_the_newest_result_or_the_one_that_is_asked_for(root):
    assert find_result(root, uid(149)) == (uid(149), "2")
    assert find_result(root, uid(149)[:4], "1") == (uid(149), "1")
    assert find_result(root, uid(149), "dynamical/1") == (uid(149), "dynamical/1")


@pytest.mark.parametrize(
    ("run", "version", "sentence"),
    [
        (uid(149), "3", "result 3 of run 0095-run was cut off while it was stored"),
        (uid(149), "8", "run 0095-run has no result 8; it has 1, 2, dynamical/1"),
        (uid(149), "dynamical/2", "result dynamical/2 of run 0095-run was cut off"),
        (uid(148), "dynamical/1", "run 0094-run has no result dynamical/1; it has 1, 2"),
        (uid(147), "", "run 0093-run has no result yet"),
        (uid(147), "1", "result 1 of run 0093-run was cut off"),
        (uid(3), "", "run 0003-run has no result yet"),
        ("zz", "", "0 runs in Tiled begin with 'zz'"),
        ("", "", "give the uid of a run"),
    ],
)
def test_what_is_not_there_is_one_sentence(root, run, version, sentence):
    with pytest.raises(ScanError, match=sentence):
        find_result(root, run, version)


def test_the_image_is_that_of_the_result(root, result):
    lab, metadata = read_lab_image(root, uid(149), "1")
    np.testing.assert_allclose(lab.density, result.lab.density, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(lab.strain, result.lab.strain)
    np.testing.assert_array_equal(lab.strain_std, result.lab.strain_std)
    np.testing.assert_array_equal(lab.q_centre_invA, result.lab.q_centre_invA)
    assert lab.voxel_nm == result.lab.voxel_nm
    assert metadata["name"] == "S0149"


def test_a_result_that_lacks_an_array_says_which(root):
    with pytest.raises(ScanError, match="lacks phase, support, displacement, strain; refine the run again"):
        read_lab_image(root, uid(148), "1")
    with pytest.raises(ScanError, match="has no image in the lab frame"):
        read_lab_image(root, uid(148), "2")
