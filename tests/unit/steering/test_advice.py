import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_bcdi.steering.advice import Advice, Limits, acceptable
from live_bcdi.types import ScanError

NOW_S = 1.7e9
LIMITS = Limits(ranges={"theta": (10.0, 12.0), "x": (-50.0, 50.0)}, run="abcdef", whats=("move", "done"))
GOOD = Advice(
    what="move", values={"theta": 11.0}, uncertainty={"theta": 0.1}, why="", made_at_s=NOW_S - 1, run="abcdef"
)

anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.floats(), max_size=2)
)
names = st.one_of(st.sampled_from(["theta", "x", "phi", ""]), st.text(max_size=5))


def test_good_advice_is_taken():
    assert acceptable(GOOD, LIMITS, NOW_S) == ""
    assert acceptable(replace(GOOD, values={"theta": 12.0, "x": -50}), LIMITS, NOW_S) == ""
    assert acceptable(replace(GOOD, values={"theta": [10.0, 12.0]}), LIMITS, NOW_S) == ""
    assert acceptable(replace(GOOD, what="done", values={}, uncertainty={}), LIMITS, NOW_S) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"values": {"theta": math.nan}}, "not a finite number"),
        ({"values": {"theta": math.inf}}, "not a finite number"),
        ({"values": {"theta": 10**400}}, "not a finite number"),
        ({"values": {"theta": True}}, "not a finite number"),
        ({"values": {"theta": "11"}}, "not a finite number"),
        ({"values": {"theta": 12.0000001}}, "beyond the limits"),
        ({"values": {"theta": 1e300}}, "beyond the limits"),
        ({"values": {"theta": [11.0, 11.5, math.nan]}}, "not a finite number"),
        ({"values": {"theta": [11.0, 11.5, 13.0]}}, "beyond the limits"),
        ({"values": {"theta": [11.0] * 10_001}}, "a list of more"),
        ({"values": {"phi": 11.0}}, "how far 'phi'"),
        ({"values": None}, "no table"),
        ({"uncertainty": {"theta": math.nan}}, "uncertainty"),
        ({"uncertainty": {"x": 1.0}}, "uncertainty"),
        ({"uncertainty": {"theta": -1.0}}, "uncertainty"),
        ({"run": "another"}, "for run"),
        ({"what": "explode"}, "explode"),
        ({"made_at_s": NOW_S - 61}, "old"),
        ({"made_at_s": NOW_S + 3600}, "clocks"),
        ({"made_at_s": math.nan}, "when"),
        ({"made_at_s": "now"}, "when"),
    ],
)
def test_bad_advice_is_refused_and_told_why(change, reason):
    assert reason in acceptable(replace(GOOD, **change), LIMITS, NOW_S)


def test_repeated_and_overtaken_advice_is_refused():
    taken = replace(LIMITS, after_s=GOOD.made_at_s)
    assert "there before" in acceptable(GOOD, taken, NOW_S)
    assert "there before" in acceptable(replace(GOOD, made_at_s=GOOD.made_at_s - 1), taken, NOW_S)
    assert acceptable(replace(GOOD, made_at_s=GOOD.made_at_s + 0.1), taken, NOW_S) == ""


@given(
    what=st.one_of(st.sampled_from(["move", "done"]), anything),
    values=st.one_of(st.dictionaries(names, anything, max_size=4), anything),
    uncertainty=st.one_of(st.dictionaries(names, anything, max_size=4), anything),
    made_at_s=st.one_of(st.floats(NOW_S - 100, NOW_S + 100), anything),
    run=st.one_of(st.just("abcdef"), anything),
)
def test_whatever_comes_no_limit_is_crossed(what, values, uncertainty, made_at_s, run):
    advice = Advice(what=what, values=values, uncertainty=uncertainty, made_at_s=made_at_s, run=run)
    if acceptable(advice, LIMITS, NOW_S):
        return
    for name, value in advice.values.items():
        low, high = LIMITS.ranges[name]
        assert all(low <= number <= high for number in (value if isinstance(value, list) else [value]))


def test_limits_that_are_none_are_refused():
    for pair in ((1.0, 0.0), (math.nan, 1.0), (0.0, math.inf)):
        with pytest.raises(ScanError, match="theta"):
            Limits(ranges={"theta": pair}, run="", whats=())
