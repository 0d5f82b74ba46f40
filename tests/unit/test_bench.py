"""The benchmark measures what it says; how fast that is, is not a test's business."""

import pytest

from live_bcdi import bench


def test_every_backend_and_step_is_measured():
    rows = bench.phasing([(16, 16, 16)], repeats=1)
    assert {row.backend for row in rows} == set(bench.BACKENDS)
    for row in rows:
        assert set(row.steps_ms) == {"ER", "HIO", "RAAR", "HIO+SW every", "HIO+SW tenth"}
        assert row.pair_ms > 0
        assert row.ratios()["HIO"] == pytest.approx(row.steps_ms["HIO"] / row.pair_ms)


def test_memory_counts_at_least_the_two_volumes_that_must_be_there():
    assert bench.memory((64, 64, 64)).volumes > 2
