"""What a report says is what the result holds; it stands alone, and leaves out what there is not."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from live_bcdi import open_run
from live_bcdi.catalogue import Run
from live_bcdi.config import Preprocessing, load_config
from live_bcdi.figure import resolution, resolutions
from live_bcdi.offline import phase_to_file
from live_bcdi.panels import STYLE, new_sheet, power
from live_bcdi.preprocess import diffraction_volume
from live_bcdi.report import material, write_report
from live_bcdi.report.charts import draw_histogram
from live_bcdi.report.content import CHART_IN
from live_bcdi.report.data import overview
from live_bcdi.report.methods import _begun, masked_only
from live_bcdi.report.pdf import _broken
from live_bcdi.report.retrieval import misfit_formula, phasing_section
from live_bcdi.sim.scattering import simulate_scan
from live_bcdi.strain import extent_nm
from live_bcdi.transport.hdf5 import read_result, write_result, write_scan
from live_bcdi.transport.stored import result_metadata
from live_bcdi.types import Outcome, ScanError

CONFIG = load_config(Path(__file__).parents[2] / "config" / "34idc.toml")
NAME = '<b>S & "1"</b> $x'
SAMPLE = "<script>alert('gold')</script>"
RUN = "abcdef01-2345-4678-9abc-def012345678"


def configured(folder, **phasing):
    settings = {"recipe": "10*ER + Guide + 10*ER + ShrinkWrap + 5*ER", "starts": 3, **phasing}
    return CONFIG.changed(phasing=settings, storage={"directory": folder})


@pytest.fixture(scope="module")
def scan():
    found, _ = simulate_scan(config=CONFIG, shape=(24, 32, 32), seed=1)
    bad = np.zeros((32, 32), bool)
    bad[3, 4:7] = True
    return replace(found, name=NAME, sample=SAMPLE, bad_pixels=bad, exposure_s=0.25)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, scan):
    """A scan and its result."""
    here = tmp_path_factory.mktemp("report")
    write_scan(here / "scan.h5", scan)
    phase_to_file(str(here / "scan.h5"), here / "scan.cxi", configured(here))
    return here


@pytest.fixture(scope="module")
def page(folder):
    write_report(str(folder / "scan.cxi"), folder / "report.html", configured(folder))
    return (folder / "report.html").read_text(encoding="utf-8")


class Seen(HTMLParser):
    """The text between tags, the tags, and what they refer to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags, self.asked, self.heads = "", set(), [], []
        self.feed(page)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.asked += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data):
        if self.lasttag == "h2":
            self.heads.append(data.strip())
        if self.lasttag != "style":
            self.text += data


def spaced(number) -> str:
    return f"{number:,}".replace(",", " ")


def heads(path) -> set[str]:
    return {head for head in Seen(path.read_text(encoding="utf-8")).heads if head}


def test_the_numbers_are_those_of_the_result(folder, page, scan):
    result = read_result(folder / "scan.cxi")
    text = Seen(page).text
    used = scan.intensity[:, ~scan.bad_pixels]
    lab = result.lab
    size = " × ".join(f"{edge:.0f}" for edge in extent_nm(lab.support, lab.voxel_nm))
    free = [result.metrics[f"free_llk_{place}"] for place in range(len(result.chi_starts))]
    for needed in (
        *(f"{place + 1}{chi:.5g}{llk:.5g}" for place, (chi, llk) in enumerate(zip(result.chi_starts, free))),
        f"χ{result.chi:.4g}",
        f"{result.metrics['free_llk']:.5g} (negative",
        f"{result.provenance['free']}, which the retrieval had not seen",
        ", ".join(f"{100 * weight:.2f} %" for weight in result.agreement.weights),
        re.sub(r"\s+", " ", resolution(result)),
        f"{size} nm",
        f"standard deviation of {power(float(lab.strain[lab.support].std()))}",
        f"{power(float(np.nanmedian(lab.strain_std)))} ({np.nanmedian(lab.displacement_std_angstrom):.2g} Å",
        result.recipe,
        result.provenance["input_sha256"],
        "3 begun, 3 to the end; seed 0",
        "from 3 random starts (seed 0) by iterations (25 of error reduction (ER))",
        f"{spaced(used.sum())} counts outside bad pixels, at most {spaced(used.max())} in a voxel",
        "9 keV, wavelength 1.3776 Å",
        "(1 1 1)",
        "0.25 s a frame",
        "3 bad, 0 dead",
        "Masked were 3 bad pixels.",
        "Counts were corrected for the monitor.",
        "Green: 3 pixels bad or without a reading.",
    ):
        assert needed in text, needed


def test_the_start_that_was_kept_is_marked(folder, page):
    result = read_result(folder / "scan.cxi")
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)[1:]
    kept = [place for place, row in enumerate(rows) if "<td>kept</td>" in row]
    assert kept == [result.chi_starts.index(result.chi)]


def test_it_asks_for_nothing(page):
    seen = Seen(page)
    assert not seen.tags & {"script", "iframe", "object", "embed"}
    assert seen.asked and all(each.startswith("data:") for each in seen.asked)
    assert "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page
    pictures = [each.split("base64,")[1] for each in seen.asked if each.startswith("data:image/svg+xml")]
    assert len(pictures) == 3 + 3 + 1 + 5 + 2
    for picture in pictures:
        svg = base64.b64decode(picture).decode("utf-8")
        assert all(target.startswith(("#", "data:")) for target in re.findall(r'href="([^"]*)"', svg))


def test_markup_in_names_is_text(page):
    seen = Seen(page)
    assert NAME in seen.text and SAMPLE in seen.text
    assert "script" not in seen.tags and "b" not in seen.tags


def test_one_report_is_one_file(folder, page):
    write_report(str(folder / "scan.cxi"), folder / "again.html", configured(folder))
    assert (folder / "again.html").read_text(encoding="utf-8") == page


def test_a_pattern_has_no_crystal_in_the_lab(tmp_path, scan):
    np.save(tmp_path / "pattern.npy", scan.intensity)
    phase_to_file(str(tmp_path / "pattern.npy"), tmp_path / "p.cxi", configured(tmp_path))
    told = write_report(str(tmp_path / "p.cxi"), None, configured(tmp_path), pdf=tmp_path / "p.pdf")
    assert Path(told["file"]) == tmp_path / "p_report.html"
    assert heads(tmp_path / "p_report.html") == {"Phase retrieval", "Resolution", "Methods, to copy", "Provenance"}
    assert told["remark"] is None and "nan" not in told["methods"].lower()


def test_one_start_has_no_uncertainty(tmp_path, folder):
    phase_to_file(str(folder / "scan.h5"), tmp_path / "one.cxi", configured(tmp_path, recipe="5*ER", starts=1))
    told = write_report(str(tmp_path / "one.cxi"), tmp_path / "one.html", configured(tmp_path))
    found = heads(tmp_path / "one.html")
    assert "Crystal" in found and not found & {"Uncertainty", "Resolution"}
    assert "guide" not in told["methods"] and "uncertainty" not in told["methods"]


def test_frames_that_are_gone_or_others_are_left_out_and_it_says_so(tmp_path, folder, scan):
    result = read_result(folder / "scan.cxi")
    links = {"frames": str(tmp_path / "frames.h5")}
    write_result(tmp_path / "r.cxi", result, scan_name="S", run="", links=links)
    told = write_report(str(tmp_path / "r.cxi"), None, configured(tmp_path))
    assert "are not here" in told["remark"] and "frames.h5" in told["remark"]
    other = scan.intensity.copy()
    other[0, 0, 0] += 1
    write_scan(tmp_path / "frames.h5", replace(scan, intensity=other))
    told = write_report(str(tmp_path / "r.cxi"), None, configured(tmp_path), overwrite=True)
    assert "another checksum" in told["remark"]
    page = (tmp_path / "r_report.html").read_text(encoding="utf-8")
    assert "Rocking curve" not in page and "Sum of the volume" in page
    assert "A rocking scan" not in told["methods"]


def test_a_run_of_tiled(tmp_path, folder, scan, monkeypatch):
    """Which result is asked for is that of the report; frames are those of the run."""
    result = read_result(folder / "scan.cxi")

    def stored(version, chi):
        held = open_run(folder / "scan.cxi").result()
        metadata = {**held.metadata, **result_metadata(replace(result, chi=chi))}
        return replace(held, path=f"refined/{RUN}/{version}", version=version, metadata=metadata)

    run = Run(
        uid=RUN,
        name=NAME,
        metadata={},
        results={"refined": {"1": stored("1", 0.5), "2": stored("2", 0.25)}},
        read_scan=lambda: scan,
    )
    monkeypatch.setattr(material, "open_run", lambda source, config: run)
    monkeypatch.chdir(tmp_path)
    told = write_report(RUN[:8], None, configured(tmp_path))
    assert (told["chi"], told["run"], told["result"]) == (0.25, RUN, f"refined/{RUN}/2")
    assert told["remark"] is None
    assert "A rocking scan" in told["methods"]
    assert told["file"] == f"b_S_1_b_x_{RUN[:8]}_2_report.html"
    text = Seen(Path(told["file"]).read_text(encoding="utf-8")).text
    assert f"refined/{RUN}/2 in Tiled" in text and f"raw/{RUN} in Tiled" in text
    assert write_report(RUN[:8], None, configured(tmp_path), version="1")["chi"] == 0.5


def test_measured_and_modelled_are_on_one_scale(folder):
    """|F|² by the transform's definition in one voxel; the difference is in standard deviations of counting."""
    result = read_result(folder / "scan.cxi")
    charts = {chart.title: chart for chart in phasing_section(result).charts}
    shown = {}
    for title, chart in charts.items():
        sheet = new_sheet(CHART_IN, chart.height_in)
        chart.draw(sheet)
        shown[title] = [panel.images[0] for panel in sheet.figure.axes if panel.get_xlabel() in ("row", "column")]
    assert list(shown) == ["Measured", "Modelled", "Modelled less measured"]
    limits = {title: shown[title][0].get_clim() for title in shown}
    assert limits["Measured"] == limits["Modelled"] == (0.5, result.volume.intensity.max())
    at = (12, 17, 14)  # rocking n//2, off the peak by one row and two columns
    grid = np.indices(result.density.shape).reshape(3, -1).T - np.array(result.density.shape) // 2
    q = 2 * np.pi * (np.array(at) - np.array(result.density.shape) // 2) / result.density.shape
    power = np.abs(np.sum(result.density.reshape(-1) * np.exp(-1j * grid @ q))) ** 2
    found = {title: float(shown[title][0].get_array()[at[1:]]) for title in shown}
    measured = float(result.volume.intensity[at])
    assert found["Measured"] == pytest.approx(measured)
    assert found["Modelled"] == pytest.approx(power, rel=1e-4)
    assert found["Modelled less measured"] == pytest.approx(2 * (power**0.5 - measured**0.5), rel=1e-3, abs=1e-3)


def test_what_the_detector_saw_of_the_object_is_in_the_formula_and_the_picture(folder):
    result = read_result(folder / "scan.cxi")
    blurred = replace(result, metrics={**result.metrics, "background_counts": 7.0, "coherence_width_row": 0.5})
    assert misfit_formula(result) == "Σ(|F| − √I)²/ΣI"
    assert "γ∗|F|² + b" in misfit_formula(blurred)
    plain, more = (phasing_section(each).charts[1] for each in (result, blurred))
    assert "γ is left out" in more.caption and "γ" not in plain.caption
    values = []
    for chart in (plain, more):
        sheet = new_sheet(CHART_IN, chart.height_in)
        chart.draw(sheet)
        values.append(np.asarray(sheet.figure.axes[0].images[0].get_array(), float))
    np.testing.assert_allclose(values[1] - values[0], 7.0, rtol=1e-3)


def test_the_resolution_at_the_top_is_the_coarsest(folder):
    """A PRTF that the array ends before is no reason to promise more than the halves of the starts agree on."""
    result = read_result(folder / "scan.cxi")
    coarsest = max(resolutions(result), key=lambda each: each.nm)
    page = Seen((folder / "report.html").read_text(encoding="utf-8")).text
    assert f"resolution, {coarsest.criterion}{coarsest.text}".replace("\u00a0", " ") in page


def test_what_is_refused(tmp_path, folder):
    settings = configured(tmp_path)
    source = str(folder / "scan.cxi")
    with pytest.raises(ScanError, match="is not a result"):
        write_report(str(folder / "scan.h5"), tmp_path / "r.html", settings)
    with pytest.raises(ScanError, match=r"something\.html"):
        write_report(source, tmp_path / "r.cxi", settings)
    with pytest.raises(ScanError, match=r"something\.pdf"):
        write_report(source, tmp_path / "r.html", settings, pdf=tmp_path / "r.html")
    (tmp_path / "r.pdf").write_bytes(b"mine")
    with pytest.raises(ScanError, match="--overwrite"):
        write_report(source, tmp_path / "r.html", settings, pdf=tmp_path / "r.pdf")
    assert [path.name for path in tmp_path.iterdir()] == ["r.pdf"]
    with pytest.raises(ScanError, match="nothing can be written"):
        write_report(source, tmp_path / "nowhere" / "r.html", settings)


def test_the_pdf_is_written_whole(tmp_path, folder):
    write_report(str(folder / "scan.cxi"), tmp_path / "r.html", configured(folder), pdf=tmp_path / "r.pdf")
    data = (tmp_path / "r.pdf").read_bytes()
    assert data.startswith(b"%PDF") and data.rstrip().endswith(b"%%EOF")
    pages = int(re.search(rb"/Type /Pages /Kids \[[^\]]*\] /Count (\d+)", data).group(1))
    assert 3 <= pages <= 6
    assert {path.name for path in tmp_path.iterdir()} == {"r.html", "r.pdf"}


def test_lines_are_as_wide_as_asked_for_and_lose_nothing():
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    words = "Staff20-1a_S0054 × 2.3349 Å " + 150 * "x" + " " + "the recipe “20*ER”, " * 12
    lines = _broken(words, 3.0, 7.5)
    assert "".join(lines).replace(" ", "") == words.replace(" ", "")
    with matplotlib.rc_context(STYLE):
        sheet = new_sheet(8, 2)
        renderer = FigureCanvasAgg(sheet.figure).get_renderer()
        widths = [sheet.figure.text(0, 0, line, size=7.5).get_window_extent(renderer).width for line in lines]
    assert max(widths) <= 3.05 * sheet.figure.dpi
    assert np.median(widths) > 2.4 * sheet.figure.dpi


@pytest.mark.parametrize("binning", [(1, 1, 1), (2, 1, 2), (1, 2, 3)])
def test_the_marked_region_is_what_was_phased(scan, binning):
    plain = replace(scan, bad_pixels=None)
    settings = Preprocessing(shape=(8, 12, 8), binning=binning, monitor=False, flatfield=False)
    volume = diffraction_volume(plain, settings)
    (a, b), (c, d), (e, f) = overview(plain, volume).box
    found = plain.intensity[a : b + 1, c : d + 1, e : f + 1]
    blocks = [n for length, factor in zip(found.shape, binning) for n in (length // factor, factor)]
    np.testing.assert_array_equal(
        found.reshape(blocks).sum(axis=(1, 3, 5))[~volume.mask], volume.intensity[~volume.mask]
    )
    assert not volume.mask.any()


def test_codes_for_no_reading_are_no_counts(scan):
    coded = scan.intensity.astype(np.uint32)
    coded[:, 10, :] = 2**32 - 1
    volume = diffraction_volume(scan, Preprocessing())
    seen = overview(replace(scan, intensity=coded, bad_pixels=None, saturation_counts=1e6), volume)
    assert seen.counts.max() == np.delete(scan.intensity, 10, axis=1).max()
    assert not seen.saturated.any()
    np.testing.assert_array_equal(np.flatnonzero(seen.unused.all(axis=1)), [10])


def test_a_retrieval_that_diverged_is_reported_as_that(tmp_path, folder):
    nan = float("nan")
    result = replace(
        read_result(folder / "scan.cxi"),
        chi=nan,
        chi_starts=(nan, nan),
        metrics={},
        outcome=Outcome.DIVERGED,
        lab=None,
        agreement=None,
        resolution=None,
    )
    write_result(tmp_path / "r.cxi", result, scan_name="S", run="", links={})
    told = write_report(str(tmp_path / "r.cxi"), None, configured(tmp_path))
    assert told["methods"].endswith("Outcome: no start gave a finite object; check the mask and the counts.")
    assert "<td>kept</td>" not in (tmp_path / "r_report.html").read_text(encoding="utf-8")


def test_the_histogram_counts_the_crystal(folder):
    lab = read_result(folder / "scan.cxi").lab
    sheet = new_sheet(3.5, 2.3)
    draw_histogram(lab, sheet)
    panel = sheet.figure.axes[0]
    low, high = panel.get_xlim()
    scale = 10.0 ** float(re.search(r"\{(-\d+)\}", panel.get_xlabel()).group(1))
    strain = lab.strain[lab.support] / scale
    bars = [
        patch for patch in panel.patches if hasattr(patch, "get_height") and patch.get_width() < (high - low) / 50
    ]
    assert sum(bar.get_height() for bar in bars) == np.count_nonzero((strain >= low) & (strain <= high))
    assert panel.lines[0].get_xdata()[0] == pytest.approx(strain.mean(), abs=1e-6)
    assert f"std {power(float(lab.strain[lab.support].std()))}" in panel.texts[0].get_text()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "random starts"),
        ({"starts": "1"}, "1 random start"),
        ({"starts": "8", "guessed_starts": "2"}, "2 initial guesses and 6 random starts"),
        ({"starts": "1", "guessed_starts": "1"}, "1 initial guess"),
    ],
)
def test_what_the_starts_began_at(said, words):
    assert _begun(said) == words


def test_what_was_masked():
    line = "263 bad, 0 dead, 2 hot pixels; 0 flashing, 1 alien voxels;"
    line += " 0 frames missing, 10 without beam, 3 read twice"
    said = "263 bad pixels, 2 hot pixels, 1 alien voxels, 10 frames without beam, 3 frames read twice"
    assert masked_only(line) == said
    assert masked_only("0 bad pixels; 0 frames missing, 0 without beam") == masked_only("") == ""
