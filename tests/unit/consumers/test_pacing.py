"""How often the estimate may be refreshed."""

import math

import pytest

from live_bcdi_consumers.pacing import Pace


def test_a_refresh_is_paid_for_by_what_it_worked_not_by_what_it_waited():
    pace = Pace(share=0.25)
    assert pace.allows(0.0, math.inf), "the first has nothing to wait for"
    pace.took(began_s=10.0, ended_s=10.5, worked_s=0.5)
    assert not pace.allows(11.9, math.inf) and pace.allows(12.0, math.inf)
    pace.took(began_s=20.0, ended_s=23.0, worked_s=0.5)
    assert not pace.allows(22.9, math.inf) and pace.allows(23.0, math.inf)


@pytest.mark.parametrize(("last_in_s", "allowed"), [(0.6, True), (0.4, False), (-0.1, True), (math.inf, True)])
def test_none_begins_that_would_not_be_over_by_the_last_frame(last_in_s, allowed):
    pace = Pace()
    pace.took(began_s=0.0, ended_s=0.5, worked_s=0.1)
    assert pace.allows(100.0, last_in_s) is allowed
