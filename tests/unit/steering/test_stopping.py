import math

import numpy as np
import pytest

from live_bcdi.steering.dose import ShellSignal
from live_bcdi.steering.stopping import StoppingRule, decide, parse_rule
from live_bcdi.types import ScanError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15 nm resolution or 5 minutes", {"resolution_nm": 15, "seconds": 300}),
        ("5 min or 15nm or better", {"resolution_nm": 15, "seconds": 300}),
        ("1e7 counts, 0.5 h", {"counts": 1e7, "seconds": 1800}),
        ("120 Å", {"resolution_nm": 12}),
        ("90 s", {"seconds": 90}),
    ],
)
def test_a_rule_is_read_as_people_write_it(text, expected):
    rule = parse_rule(text)
    for name, value in expected.items():
        assert getattr(rule, name) == pytest.approx(value)
    assert sum(value is not None for value in (rule.resolution_nm, rule.seconds, rule.counts)) == len(expected)


@pytest.mark.parametrize(
    "text", ["", "good", "15", "nm", "15 kg", "-5 nm", "0 s", "1e999 s", "1.2.3 s", "5 nm and 3 s"]
)
def test_what_is_not_understood_is_said(text):
    with pytest.raises(ScanError, match="not understood"):
        parse_rule(text)


def test_the_same_thing_twice_is_refused():
    with pytest.raises(ScanError, match="twice"):
        parse_rule("5 s or 3 min")


def power_law(dose, known=0.01):
    """s = dose (0.01 / q)^4, `known` within a hundredth: CC* is 0.5 where that is 1/3."""
    q = np.linspace(0.002, 0.1, 50)
    signal = dose * (0.01 / q) ** 4
    return ShellSignal(q_invA=q, signal=signal, std=known * signal, voxels=np.full(50, 1000), end_invA=0.1)


def test_it_goes_on_until_the_resolution_is_reached_and_says_what_that_takes():
    rule = StoppingRule(text="", resolution_nm=20.0)
    need = (2 * np.pi / 200 / 0.01) ** 4 / 3
    before = decide(rule, seconds=10.0, counts=1.0, signal=power_law(need / 3))
    assert not before.stop
    assert before.dose_ratio == pytest.approx(3.0, rel=0.05)
    assert before.seconds_left == pytest.approx(20.0, rel=0.08)
    assert before.resolution_nm == pytest.approx(20.0 * 3**0.25, rel=0.02)
    after = decide(rule, seconds=30.0, counts=1.0, signal=power_law(1.2 * need))
    assert after.stop and "reached" in after.why and after.seconds_left == 0.0


def test_a_resolution_is_reached_with_its_error_bar():
    """What is known within 30 % a shell is not reached yet where its middle only just is."""
    need = (2 * np.pi / 200 / 0.01) ** 4 / 3
    rule = StoppingRule(text="", resolution_nm=20.0)
    assert decide(rule, seconds=1.0, counts=1.0, signal=power_law(1.02 * need)).stop
    unsure = decide(rule, seconds=1.0, counts=1.0, signal=power_law(1.02 * need, known=0.3))
    assert not unsure.stop and unsure.resolution_nm < 20.0 < unsure.resolution_nm + unsure.std_nm


def test_time_and_counts_stop_it_whatever_is_known():
    rule = parse_rule("1 nm or 60 s or 1000 counts")
    assert decide(rule, seconds=60.0, counts=1.0, signal=None).stop
    assert decide(rule, seconds=1.0, counts=1000.0, signal=power_law(1.0)).stop
    going = decide(rule, seconds=1.0, counts=1.0, signal=power_law(1.0))
    assert not going.stop and math.isinf(going.dose_ratio) and "beyond" in going.why
    assert not decide(rule, seconds=1.0, counts=1.0, signal=None).stop
