"""The benchmark measures what it says; how fast that is, is not a test's business."""

import sys
from pathlib import Path

import numpy as np
import pytest

from live_bcdi import bench, peer
from live_bcdi.config import load_config
from live_bcdi.phasing import Pattern, Start, parse, retrieve
from live_bcdi.sim import simulate_scan
from live_bcdi.types import ScanError

STEPS = {"ER", "HIO", "RAAR", "HIO+SW every", "HIO+SW tenth"}


def test_every_backend_and_step_is_measured():
    rows = bench.phasing([(16, 16, 16)], repeats=1)
    assert {row.backend for row in rows} == set(bench.backends())
    for row in rows:
        assert set(row.steps_ms) == STEPS
        assert row.pair_ms == row.pairs_ms[row.fft] == min(row.pairs_ms.values()) > 0
        assert row.ratios()["HIO"] == pytest.approx(row.steps_ms["HIO"] / row.pair_ms)


def test_starts_abreast_are_compared_with_as_many_single_ones(monkeypatch):
    asked = []
    monkeypatch.setattr(bench, "_apply", lambda state, *operators: asked.append((len(state.density), operators)))
    found = bench.abreast((16, 16, 16), "cpu", starts=3, repeats=1)
    assert {(starts, len(operators)) for starts, operators in asked} == {(3, 1), (1, 3)}
    assert found.together_ms > 0 and found.one_by_one_ms > 0


def test_memory_counts_at_least_the_two_volumes_that_must_be_there():
    """Object and projection. Both ways of counting see them; the system counts in pages, and sees more."""
    found = bench.memory((64, 64, 64))
    assert found.volumes > 2
    assert found.resident is None or found.resident > 2


def test_the_curve_has_every_new_best_chi_and_time_goes_on():
    scan, _ = simulate_scan(seed=0, config=load_config(Path(__file__).parents[2] / "config" / "34idc.toml"))
    curve = bench.chi_curve(scan)
    chis = [point.chi for point in curve]
    assert chis == sorted(chis, reverse=True) and len(set(chis)) == len(chis) > 2
    assert (np.diff([point.wall_s for point in curve]) > 0).all()


def test_watched_kernels_follow_the_same_iterations_bit_by_bit():
    pattern = bench._pattern((16, 16, 16))
    recipe, start = parse("25*HIO + ShrinkWrap + 5*ER"), Start(seed=3)
    watch = bench._Watch()
    plain = retrieve(pattern, recipe, start=start)
    seen = retrieve(
        pattern,
        recipe,
        start=start,
        kernels=lambda amplitude, threads: bench._WatchedKernels(amplitude, threads, watch, pattern.total_counts),
    )
    assert np.array_equal(plain.density, seen.density)
    assert len(watch.points) == 3  # of 30 updates
    stopped = retrieve(pattern, parse("20*HIO"), start=start)
    assert watch.points[1].chi == pytest.approx(stopped.chi, rel=1e-6)  # as if it had been stopped there


def test_chi_of_an_object_of_cohere_is_that_of_its_conjugate_at_any_scale():
    pattern = bench._pattern((16, 16, 16))
    found = retrieve(pattern, parse("20*HIO + 30*ER"), start=Start(seed=1))
    # ER ends at a scale that is nearly, not exactly, the best one
    assert peer.chi_of(np.conj(found.density) / 7, pattern) == pytest.approx(found.chi, rel=0.01)
    assert peer.chi_of(np.conj(found.density) / 7, pattern) <= found.chi * (1 + 1e-5)
    assert peer.chi_of(found.density, pattern) > 2 * found.chi


def test_an_interpreter_without_cohere_is_refused(tmp_path):
    with pytest.raises(ScanError, match="does not run"):
        peer.find_cohere(tmp_path / "python")
    if peer.find_cohere(None) is None:
        with pytest.raises(ScanError, match="cannot import cohere_core"):
            peer.find_cohere(Path(sys.executable))


def test_cohere_that_fails_is_one_sentence():
    if peer.find_cohere(None) is not None:
        pytest.skip("cohere_core is installed here, and would not fail")
    pattern = Pattern(intensity=np.ones((16, 16, 16), np.float32), mask=np.zeros((16, 16, 16), bool))
    with pytest.raises(ScanError, match="cohere ended with status 1: ModuleNotFoundError"):
        peer.run_cohere(Path(sys.executable), pattern)
