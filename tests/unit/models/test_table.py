"""The table of the preview is made in pieces and begun again only where the network is another."""

import json
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from live_bcdi.phasing.free import held_out
from live_bcdi.types import ScanError
from live_bcdi_models import table
from live_bcdi_models.judging import likeness
from live_bcdi_models.plain import Iterations
from live_bcdi_models.table import Case, Judge, cases

CASE = Case(family="bend", strain="weak", photons=1e6, number=0)


def test_every_kind_once_before_any_twice():
    wanted = list(cases(2))
    assert len(set(wanted)) == len(wanted) == 2 * 27
    assert {case.number for case in wanted[:27]} == {0}


def test_counts_are_all_that_photons_change():
    (many, truth), (few, same) = (
        Case(family="bend", strain="weak", photons=photons, number=1).crystal(32) for photons in (1e6, 1e4)
    )
    np.testing.assert_array_equal(truth, same)
    assert many.total_counts == pytest.approx(1e6, rel=0.6) and few.total_counts == pytest.approx(1e4, rel=0.6)
    other = Case(family="bend", strain="weak", photons=1e6, number=2).crystal(32)[1]
    assert likeness(other, truth) < 0.95


def test_iterations_find_a_weakly_strained_crystal_in_the_time_they_have():
    pattern, truth = CASE.crystal(32)
    iterations = Iterations(pattern, held_out(pattern, 0.04, 0))
    # on a busy machine 0.2 s are enough for 0.83; the bound is far above what no iteration gives
    assert likeness(iterations.single(1.0), truth) > 0.8
    quick, slow = iterations.several((0.05, 2.0))
    assert likeness(slow, truth) > 0.8 and quick.shape == slow.shape


class Known(Judge):
    """What is measured of a crystal does not matter here, only how often."""

    asked: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, case, edge):
        self.case = case

    def without(self):
        self.asked.append(("without", self.case.strain))
        return {"recipe": {"correlation": 0.5, "free_llk": None, "seconds": 1.0}}

    def with_network(self):
        self.asked.append(("with", self.case.strain))
        return {"preview": {"correlation": 0.75, "free_llk": 0.25, "seconds": 0.3, "refused": False}}


def test_a_table_goes_on_and_keeps_what_the_network_has_no_part_in(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "Judge", Known)
    monkeypatch.setattr(Known, "asked", [])
    monkeypatch.setattr(table, "shipped", lambda device: (None, SimpleNamespace(sha256="a" * 64)))
    for done in (1, 2):
        told = table.measure(1, output=tmp_path, seconds=0)
        assert f"{done} of 27" in next(iter(told))
    assert Known.asked == [(each, "weak") for each in ("without", "with") * 2]
    monkeypatch.setattr(table, "shipped", lambda device: (None, SimpleNamespace(sha256="b" * 64)))
    told = table.measure(1, output=tmp_path, seconds=0)
    assert Known.asked[4:] == [("with", "weak")]
    assert next(iter(told.values())) == {"preview": 0.75, "recipe": 0.5}
    # a table is of one network: what the other one did is not in it
    assert (
        (tmp_path / "table-64.md").read_text().startswith("1 of 27 crystals of 64^3 voxels, network bbbbbbbbbbbb")
    )
    assert len(json.loads((tmp_path / "table-64.json").read_text())) == 2


def test_a_file_that_is_no_table_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "shipped", lambda device: (None, SimpleNamespace(sha256="a" * 64)))
    for text in ("{", '[{"family": "bend"}]', "[3]"):
        (tmp_path / "table-64.json").write_text(text)
        with pytest.raises(ScanError, match="no table"):
            table.measure(1, output=tmp_path)


def test_a_judge_tells_of_every_method_what_it_found(monkeypatch):
    monkeypatch.setattr(table, "SECONDS", (0.1,))
    judge = Judge(CASE, 32)
    told = judge.without() | judge.with_network()
    assert set(told) >= {"network", "network + 20 ER", "preview", "network + recipe", "recipe"} and len(told) == 9
    for name, each in told.items():
        assert 0.3 < each["correlation"] <= 1 and each["seconds"] > 0, name
        assert each["free_llk"] > 0
    assert told["recipe"]["correlation"] > 0.85
    assert judge._told(judge.truth, 0.0)["correlation"] == pytest.approx(1, abs=1e-3)
