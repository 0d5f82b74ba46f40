"""Which scans a query means."""

from datetime import UTC, datetime

import numpy as np
import pytest

from live_bcdi.cli import config_path
from live_bcdi.config import load_config
from live_bcdi.stream.fakes import small_scan, start_document
from live_bcdi.transport.archive import Terms, find_scans, search_terms
from live_bcdi.transport.hdf5 import write_result, write_scan
from live_bcdi.types import Outcome, Reconstruction, ScanError


@pytest.fixture(scope="module")
def config():
    return load_config(config_path("34idc"))


@pytest.fixture
def archive(tmp_path):
    """Two scans, a result, a damaged file, and files that are none of ours."""
    (tmp_path / "deep").mkdir()
    write_scan(tmp_path / "b.h5", small_scan(num=3, shape=(8, 8)))
    write_scan(tmp_path / "deep" / "a.CXI", small_scan(num=3, shape=(8, 8)))
    (tmp_path / "damaged.nxs").write_bytes(b"no")
    (tmp_path / ".half.h5").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    result = Reconstruction(
        density=np.zeros((2, 2, 2), np.complex64),
        support=np.zeros((2, 2, 2), bool),
        chi=0.1,
        chi_starts=(0.1,),
        recipe="ER",
        seed=0,
        outcome=Outcome.DONE,
        metrics={},
        provenance={},
    )
    write_result(tmp_path / "b_result.cxi", result, scan_name="b", run="", links={})
    return tmp_path


def names(sources):
    return [source.path.name for source in sources]


def test_a_folder_is_its_scans_with_all_below(archive, config):
    assert names(find_scans(str(archive), config)) == ["b.h5", "damaged.nxs", "a.CXI"]


def test_a_pattern_is_what_it_matches_and_no_result(archive, config):
    assert names(find_scans(f"{archive}/b*", config)) == ["b.h5"]
    assert names(find_scans(f"{archive}/**/a.*", config)) == ["a.CXI"]


@pytest.mark.parametrize("query", ["", "nowhere/*.h5", "no_such_folder"])
def test_a_query_that_means_nothing_says_how_to_write_one(query, archive, config, monkeypatch):
    monkeypatch.chdir(archive)
    with pytest.raises(ScanError, match="means no scan; give a folder"):
        find_scans(query, config)


def test_terms_are_read(monkeypatch):
    terms = search_terms('sample=gold name="S00*" hkl=1,-1,0 since=2026-11-01T00:00Z until="2026-11-02 18:00Z"')
    since, until = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, 18, tzinfo=UTC)
    assert terms == Terms(
        sample="gold", name="S00*", hkl=(1, -1, 0), since_s=since.timestamp(), until_s=until.timestamp()
    )
    assert search_terms("") == Terms()


def test_a_date_is_a_whole_day():
    day = search_terms("since=2026-11-01 until=2026-11-01")
    assert day.until_s - day.since_s == pytest.approx(86400, abs=0.01)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gold", "'gold' is no term of a search; write one of sample, name, hkl, since, until"),
        ("crystal=gold", "is no term"),
        ("hkl=1,1", "write hkl=1,1,1"),
        ("since=yesterday", "write since=2026-11-01"),
        ('name="x', "cannot be understood: No closing quotation"),
    ],
)
def test_terms_that_are_none_say_what_to_write(text, said):
    with pytest.raises(ScanError, match=said):
        search_terms(text)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("sample=gold name=sm*l hkl=1,1,1", True),
        ("sample=silver", False),
        ("name=small?", False),
        ("hkl=1,1,-1", False),
        ("since=2001-09-08 until=2001-09-10", True),
        ("since=2001-09-11", False),
        ("until=2001-09-07", False),
    ],
)
def test_runs_match_by_their_start(text, matches):
    start = start_document(small_scan(num=3, shape=(8, 8)))  # 2001-09-09, gold, (1, 1, 1)
    assert search_terms(text).match(start) is matches


@pytest.mark.parametrize("start", [{}, {"live_bcdi": None}, {"live_bcdi": {"scan": 3}}])
def test_a_run_of_other_plans_is_never_meant(start):
    assert not Terms().match(start)
