"""What is on the page of a result, and how it is kept."""

from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.figure import draw, facts, save_figure
from live_bcdi.phasing.agreement import consensus
from live_bcdi.strain import displacement_angstrom, strain_along
from live_bcdi.types import LabImage, Outcome, Reconstruction, ScanError

pytest.importorskip("matplotlib")
H = np.array([0.0, 0.0, 2.5])  # along z: d_0 = 2.5133 ångström
STRAIN = 4e-4


@pytest.fixture(scope="module")
def result() -> Reconstruction:
    """An upright box of 12 x 16 x 20 voxels of 5 nm whose strain goes from -STRAIN to STRAIN along z."""
    x, y, z = np.meshgrid(*[np.arange(32) - 16] * 3, indexing="ij")
    support = (np.abs(x + 0.5) < 6) & (np.abs(y + 0.5) < 8) & (np.abs(z + 0.5) < 10)
    displacement = STRAIN * (z * 50.0) ** 2 / (2 * 10 * 50)  # ångström; its slope is STRAIN at z = 10 voxels
    density = np.where(support, np.exp(-2.5j * displacement), 0).astype(np.complex64)
    lab = LabImage(
        density=density,
        support=support,
        displacement_angstrom=displacement_angstrom(density, support, 2.5),
        strain=strain_along(density, support, H, 5.0),
        voxel_nm=5.0,
        q_centre_invA=H,
        displacement_std_angstrom=np.where(support, 0.01, np.nan).astype(np.float32),
        strain_std=np.where(support, 2e-5, np.nan).astype(np.float32),
    )
    rng = np.random.default_rng(0)
    starts = [density + 0.1 * rng.standard_normal(density.shape).astype(np.complex64) for _ in range(3)]
    pattern = np.abs(np.fft.fftshift(np.fft.fftn(density))) ** 2
    agreement, resolution = consensus(starts, pattern, np.zeros(pattern.shape, bool), np.eye(3) * 1e-3)
    return Reconstruction(
        density=density,
        support=support,
        chi=0.0123,
        chi_starts=(0.0123, 0.0130),
        metrics={},
        recipe="20*ER + Guide + 20*ER",
        seed=7,
        outcome=Outcome.DONE,
        lab=lab,
        resolution=resolution,
        agreement=agreement,
        provenance={"scan": "S1", "live_bcdi": "0.1.0"},
    )


def words(figure) -> str:
    figure.canvas.draw()
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    return " ".join(texts).replace("\n", " ").replace("\u00a0", " ")


def test_what_a_reader_needs_is_on_the_page(result):
    said = words(draw(result))
    for needed in (
        "60 × 80 × 100 nm",
        "voxel 5 nm",
        "d₀ = 2.5133 Å",
        "χ = 0.0123",
        "20*ER",
        "seed 7",
        "lower limit",
        "PRTF at 1/e",
        "FSC at half-bit",
        "Displacement along +h, zero mean",
        "20 nm",
    ):
        assert needed in said, needed


def test_strain_is_drawn_along_the_named_axes_in_a_symmetric_range(result):
    """At x = 0 the panel has z to the right and y upwards: strain rises from left to right, and not upwards."""
    figure = draw(result)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 5 * 3
    image = panels[3 * 3 + 1].images[0]
    shown = np.ma.filled(np.ma.masked_invalid(image.get_array()), np.nan)
    inside = shown[16][np.isfinite(shown[16])]  # the middle row
    assert (np.diff(inside)[1:-1] > 0).all()
    assert inside[-2] == pytest.approx(
        STRAIN * 1e4 * 8 / 10, rel=0.15
    )  # in units of 1e-4, one row from the surface
    low, high = image.get_clim()
    assert low == -high
    left, right, bottom, top = image.get_extent()
    assert (right - left, top - bottom) == (160.0, 160.0)
    # voxel n//2 has its middle at 0
    assert left + 16.5 * 5 == 0
    assert np.isnan(shown[0, 0])


def test_h_points_along_its_axis(result):
    """h is along z: to the right at x = 0, up at y = 0, a point at z = 0."""
    panels = [axes for axes in draw(result).axes if axes.images][9:12]
    arrows = [next(text for text in axes.texts if getattr(text, "arrow_patch", None)) for axes in panels]
    tails, tips = [np.array(each.xyann) for each in arrows], [np.array(each.xy) for each in arrows]
    ways = [tip - tail for tail, tip in zip(tails, tips)]
    np.testing.assert_allclose(ways, [(0, 0), (0.22, 0), (0, 0.22)], atol=1e-12)


def test_numbers_of_the_page(result):
    told = facts(result)
    assert told["extent_nm"] == [60, 80, 100]
    assert told["d0_angstrom"] == pytest.approx(2 * np.pi / 2.5)
    assert told["strain_uncertainty_median"] == pytest.approx(2e-5)
    assert set(told["fsc_resolution_nm"]) == {"0.5", "1/7", "half-bit"}


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_each_format_is_written_whole(tmp_path, result, suffix):
    starts = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
    path = tmp_path / f"page{suffix}"
    save_figure(result, path)
    assert path.read_bytes().startswith(starts[suffix])
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ScanError, match="--overwrite"):
        save_figure(result, path)


def test_one_start_shows_no_agreement(result):
    lab = replace(result.lab, strain_std=None, displacement_std_angstrom=None)
    alone = replace(
        result, lab=lab, agreement=None, resolution=replace(result.resolution, resolution_nm=float("nan"))
    )
    figure = draw(alone)
    assert len([axes for axes in figure.axes if axes.images]) == 4 * 3
    said = words(figure)
    assert "takes several starts" in said
    assert "lower limit" not in said


def test_what_cannot_be_drawn(tmp_path, result):
    with pytest.raises(ScanError, match="lab frame"):
        draw(replace(result, lab=None))
    with pytest.raises(ScanError, match=r"\.png"):
        save_figure(result, tmp_path / "page.jpg")
    with pytest.raises(ScanError, match="nothing can be written"):
        save_figure(result, tmp_path / "nowhere" / "page.png")
