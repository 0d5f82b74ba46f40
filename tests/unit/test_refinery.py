"""`live-bcdi refine-dynamical` whole: a gold crystal measured by the dynamical model, phased, and refined."""

import hashlib
import json
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest

from live_bcdi import catalogue, cli, climbed, climbing, refinery
from live_bcdi.config import Preprocessing, find_config, load_config
from live_bcdi.dynamical import Rung, element, susceptibilities
from live_bcdi.metadata import scan_metadata
from live_bcdi.offline import phase_to_file
from live_bcdi.refinery import refine_dynamical
from live_bcdi.stream.run import planned_metadata
from live_bcdi.transport.hdf5 import read_result, write_scan
from live_bcdi.transport.tiled import store_result
from live_bcdi.types import ScanError

PIXELS, ANGLES = 40, 37
GOLD = susceptibilities(element("Au"), (0, 0, 2), 8.0)
RECIPE = "2*(20*ER + 80*HIO(beta=0.9) + ShrinkWrap(sigma=1.0, threshold=0.15)) + 50*ER"
UID = "ab12cd34-0000"
CONFIG = load_config(find_config("34idc")).changed(
    sample={"formula": "Au", "hkl": (0, 0, 2)},
    phasing={"recipe": RECIPE, "starts": 1, "device": "cpu"},
    preprocess={"binning": (1, 1, 1)},
    dynamical={"epochs": 15, "smoothings": (20.0, 6.0), "rung": "dynamical"},
)


@pytest.fixture(scope="module")
def phased(tmp_path_factory, gold):
    """A folder with scan.h5 and scan_result.cxi of a micrometre of gold, and what phasing said."""
    folder = tmp_path_factory.mktemp("gold")
    write_scan(folder / "scan.h5", gold(1e-6))
    return folder, phase_to_file(str(folder / "scan.h5"), None, CONFIG)


@pytest.fixture
def folder(phased, tmp_path):
    for name in ("scan.h5", "scan_result.cxi"):
        (tmp_path / name).write_bytes((phased[0] / name).read_bytes())
    return tmp_path


def checksum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_phasing_says_which_rung_its_crystal_needs(phased):
    assert phased[1]["rung"].startswith("dynamical: of a perfect crystal of this shape, Au (0 0 2), pi")


def test_a_result_file_is_refined_beside(folder):
    source, before = folder / "scan_result.cxi", checksum(folder / "scan_result.cxi")
    told = []
    table = refine_dynamical(
        str(source), None, CONFIG.changed(dynamical={"rung": "auto"}), progress=lambda *each: told.append(each)
    )
    assert checksum(source) == before
    assert table["file"] == str(folder / "scan_result_dynamical.cxi")
    assert (table["rung"], table["polarisation"]) == ("dynamical", "pi")
    # the variance of a Poisson count's root is 1/4, less where hardly anything is counted; few epochs leave a
    # little
    assert 0.15 < table["free_misfit"] < 0.28
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and all("s left" in text for _, text in told[1:])
    assert not list(folder.glob("*checkpoint*"))
    refined, kinematical = (read_result(folder / name) for name in (table["file"], source.name))
    assert refined.provenance["model"] == "dynamical"
    assert refined.provenance["input_sha256"] == kinematical.provenance["input_sha256"]
    assert refined.chi < 0.6 * kinematical.chi  # this model can say what was measured
    with h5py.File(table["file"]) as file:
        assert file["entry_1/raw"].attrs["kinematical"] == str(source)
        assert file["entry_1/raw/data"].shape == (ANGLES, PIXELS, PIXELS)
    run = catalogue.open_run(table["file"])
    assert run.scan().name == "gold"
    # the object on the detector's grid is that in the lab: its voxels lie where the kinematical one's do
    crystal, before = np.abs(refined.density), np.abs(kinematical.density)
    both = [crystal, before, before[::-1, ::-1, ::-1]]  # retrieved as itself or as its twin
    centred = [
        np.roll(each, [8 - round(c) for c in np.argwhere(each > 0.5 * each.max()).mean(0)], (0, 1, 2))
        for each in both
    ]
    assert max(np.corrcoef(centred[0].ravel(), each.ravel())[0, 1] for each in centred[1:]) > 0.85
    assert refined.support.sum() == pytest.approx(kinematical.support.sum(), rel=0.35)
    with pytest.raises(ScanError, match="exists"):
        refine_dynamical(str(source), None, CONFIG)


def test_who_is_killed_goes_on_where_he_was(folder):
    source = str(folder / "scan_result.cxi")
    config = CONFIG.changed(dynamical={"epochs": 4, "rung": "refracted-model"})

    class Killed(Exception):
        pass

    heard = []

    def die(share, text):
        heard.append(text)
        if "twin" in text:
            raise Killed

    with pytest.raises(Killed):
        refine_dynamical(source, None, config, progress=die)
    assert (folder / "scan_result_dynamical.checkpoint.npz").exists()
    again = []
    table = refine_dynamical(source, None, config, progress=lambda share, text: again.append(text))
    assert not any(text.startswith("retrieved, ") for text in again), "what was done is not done again"
    assert table["rung"] == "refracted-model"
    assert not (folder / "scan_result_dynamical.checkpoint.npz").exists()


def test_the_third_rung_scatters_nothing_back(folder, monkeypatch):
    """Its constants have no way from the diffracted beam back; those of the fourth do."""
    given = {}

    def noted(scan, result, constants, *rest, **more):
        given[rung] = constants
        assert (more["threads"], more["background"]) == (CONFIG.phasing.threads, 0.5)
        assert scan.flatfield is None
        raise ScanError("enough")

    prepared = Preprocessing(background=0.5, flatfield=False).model_dump_json()
    climb = climbed.climb

    def told(scan, result, *rest, **more):
        scan = replace(scan, flatfield=np.ones((PIXELS, PIXELS)))
        provenance = {**result.provenance, "preprocessing": prepared}
        return climb(scan, replace(result, provenance=provenance), *rest, **more)

    monkeypatch.setattr(climbed, "climb", told)
    monkeypatch.setattr(climbing, "refine_scan", noted)
    for rung in ("refracted-model", "dynamical"):
        with pytest.raises(ScanError, match="enough"):
            refine_dynamical(
                str(folder / "scan_result.cxi"), None, CONFIG.changed(dynamical={"rung": rung}), overwrite=True
            )
    assert given["refracted-model"].chi_hbar == 0 != given["dynamical"].chi_hbar
    assert given["refracted-model"].chi_0 == given["dynamical"].chi_0
    # with C = 1: refine_scan puts in that of pi itself
    assert given["dynamical"].chi_h == pytest.approx(GOLD.chi_h)


def test_refraction_is_divided_out_once(folder):
    source = folder / "scan_result.cxi"
    done = refine_dynamical(str(source), None, CONFIG.changed(dynamical={"rung": "refraction"}))
    assert done["file"] is None, "phasing knew the formula: it is done"
    plain = CONFIG.changed(sample={"formula": None})
    phase_to_file(str(folder / "scan.h5"), None, plain, overwrite=True)
    assert read_result(source).provenance["rung"].startswith("unknown: material unknown")
    table = refine_dynamical(str(source), None, CONFIG.changed(dynamical={"rung": "refraction"}))
    found, before = read_result(folder / table["file"]), read_result(source)
    assert found.provenance["refraction"].startswith("corrected for Au")
    np.testing.assert_array_equal(found.density, before.density)
    inside = before.lab.support
    turned = np.angle(found.lab.density[inside] * before.lab.density[inside].conj())
    assert np.std(turned) > 0.1
    with pytest.raises(ScanError, match="material unknown"):
        refine_dynamical(str(source), None, plain, overwrite=True)


def test_a_small_crystal_needs_nothing_more(folder, gold):
    write_scan(folder / "scan.h5", gold(0.12e-6))
    phase_to_file(str(folder / "scan.h5"), None, CONFIG, overwrite=True)
    told = refine_dynamical(
        str(folder / "scan_result.cxi"), None, CONFIG.changed(dynamical={"rung": "auto", "tolerance": 0.1})
    )
    assert (told["rung"], told["file"]) == ("kinematical", None)
    assert not list(folder.glob("*dynamical*"))


def test_of_a_run_it_is_in_tiled_too(folder, gold, empty_tiled, monkeypatch):
    """By its uid, beside the kinematical one and never in its place."""
    scan = replace(gold(1e-6), hkl=(0.0, 0.0, 2.0))
    raw = empty_tiled.create_container("raw")
    counts = planned_metadata(
        scan_metadata(scan), num=ANGLES, start_deg=float(scan.angles_deg[0]), stop_deg=float(scan.angles_deg[-1])
    )
    node = raw.create_container(UID, metadata={"start": {"uid": UID, "time": 1.0, "live_bcdi": counts}})
    primary = node.create_container("primary")
    primary.write_array(scan.intensity[:, None], key="detector")
    primary.write_array(scan.angles_deg, key="detector-angle")
    primary.write_array(np.full(ANGLES, np.nan), key="detector-monitor")
    kinematical = read_result(folder / "scan_result.cxi")
    store_result(empty_tiled, UID, kinematical, {"name": "gold", "file": "a"})
    for module in (catalogue, refinery):
        monkeypatch.setattr(module, "connect", lambda config: empty_tiled)
    monkeypatch.chdir(folder)
    config = CONFIG.changed(dynamical={"epochs": 2})
    table = refine_dynamical("ab12cd34", None, config)
    assert table["tiled"] == f"dynamical/{UID}/1"
    assert table["file"] == "gold_ab12cd34_1_dynamical.cxi"
    run = catalogue.open_run("ab12cd34")
    found = run.result(kind="dynamical")
    assert found.metadata["rung"] == "dynamical" and found.metadata["started_from"] == f"refined/{UID}/1"
    np.testing.assert_array_equal(found.reconstruction().density, read_result(folder / table["file"]).density)
    np.testing.assert_array_equal(run.result().reconstruction().density, kinematical.density)
    assert refine_dynamical("ab12cd34", folder / "b.cxi", config)["tiled"] == f"dynamical/{UID}/2"


def test_sums_and_results_without_a_crystal_are_refused(folder, monkeypatch):
    found = read_result(folder / "scan_result.cxi")
    for changed, why in (
        (replace(found, lab=None), "no image in the lab frame"),
        (replace(found, provenance={**found.provenance, "summed": "a, b"}), "several scans"),
    ):
        monkeypatch.setattr(catalogue.Result, "reconstruction", lambda self, changed=changed: changed)
        with pytest.raises(ScanError, match=why):
            refine_dynamical(str(folder / "scan_result.cxi"), None, CONFIG)


def test_the_command(folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["live-bcdi", "refine-dynamical", *arguments])
        try:
            cli.main()
            status = 0
        except SystemExit as ended:
            status = ended.code or 0
        return (status, *capfd.readouterr())

    gold_002 = ("--formula", "Au", "--hkl", "0", "0", "2")
    status, out, _ = run("scan_result.cxi", *gold_002, "--rung", "dynamical", "--epochs", "1", "--json")
    assert status == 0
    table = json.loads(out)
    assert table["rung"] == Rung.DYNAMICAL.value and table["why"].startswith("dynamical: ")
    assert read_result(folder / table["file"]).provenance["model"] == "dynamical"
    status, out, err = run("scan_result.cxi", *gold_002, "--rung", "quantum")
    assert (status, out) == (2, "") and "dynamical.rung" in err
    status, out, err = run("scan_result.cxi")
    assert status == 2 and "exists" in err
