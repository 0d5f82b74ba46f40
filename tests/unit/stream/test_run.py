"""A start document either promises all that analysis needs or says at once what is missing."""

import copy

import pytest

from live_bcdi.metadata import scan_metadata
from live_bcdi.stream.fakes import RUN, plan_of, small_scan, start_document
from live_bcdi.stream.run import KEY, is_rocking_run, planned_metadata, run_plan
from live_bcdi.types import ScanError

SCAN = small_scan(num=4, shape=(3, 3))


def test_the_plan_says_what_the_start_document_said():
    plan = plan_of(SCAN)
    assert (plan.run, plan.name, plan.num, plan.start_deg, plan.stop_deg) == (RUN, "small", 4, -0.1, 0.1)


def test_a_run_of_another_plan_is_not_ours():
    assert not is_rocking_run({"uid": RUN, "plan_name": "count"})
    assert is_rocking_run(start_document(SCAN))


def test_every_missing_key_is_named_in_one_error():
    start = copy.deepcopy(start_document(SCAN))
    del start[KEY]["scan"]["geometry"]["energy_kev"]
    del start[KEY]["scan"]["geometry"]["distance_m"]
    start[KEY]["planned"]["num"] = None
    start[KEY]["scan"]["hkl"] = None
    with pytest.raises(ScanError) as error:
        run_plan(start)
    for name in ("energy_kev", "distance_m", "planned.num", "hkl"):
        assert name in str(error.value)


@pytest.mark.parametrize(
    "bad", [{"num": 2}, {"num": 10**13}, {"start_deg": float("nan")}, {"stop_deg": float("inf")}]
)
def test_a_plan_that_cannot_be_is_refused_before_it_starts(bad):
    good = {"num": 10, "start_deg": 0.0, "stop_deg": 1.0}
    with pytest.raises(ScanError, match=r"planned"):
        planned_metadata(scan_metadata(SCAN), **{**good, **bad})


def test_a_foreign_start_document_is_told_which_plans_to_use():
    with pytest.raises(ScanError, match="live_bcdi_plans"):
        run_plan({"uid": RUN})
