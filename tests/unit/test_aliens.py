"""An alien that was put in is found, its own crystal's fringes are not, and on S0054 there is the one known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.aliens import find_aliens
from live_bcdi.config import Preprocessing, load_config
from live_bcdi.preprocess import as_phased, diffraction_volume, find_centre, prepare
from live_bcdi.sim import simulate_scan
from live_bcdi.transport.spec import read_spec_scan

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (48, 64, 64)


def simulated(strain, photons=1e6, seed=0):
    config = load_config(ROOT / "config" / "34idc.toml")
    return simulate_scan(config=config, shape=SHAPE, photons=photons, strain=strain, seed=seed)[0]


def alien_at(place, counts, width=1.5, seed=3):
    index = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)
    blob = np.exp(-0.5 * ((index - place) ** 2).sum(axis=-1) / width**2)
    return np.random.default_rng(seed).poisson(blob * counts / blob.sum())


@pytest.mark.parametrize("strain", ["none", "weak", "medium"])
@pytest.mark.parametrize("photons", [1e5, 1e7])
def test_a_crystal_alone_has_no_aliens(strain, photons):
    scan = simulated(strain, photons)
    mask = np.zeros(SHAPE, bool)
    found, aliens = find_aliens(scan.intensity, mask, find_centre(scan.intensity, mask))
    assert not found.any()
    assert aliens == ()


@pytest.mark.parametrize("place", [(38, 15, 50), (10, 50, 12)])
def test_an_alien_is_found_where_it_is(place):
    scan = simulated("medium")
    other = alien_at(place, 3000)
    intensity = scan.intensity + other
    mask = np.zeros(SHAPE, bool)
    found, aliens = find_aliens(intensity, mask, find_centre(intensity, mask))
    assert len(aliens) == 1
    np.testing.assert_allclose(aliens[0].centre, place, atol=1)
    # what is left of it: the tail of a Gaussian beyond the blob; what is lost of the crystal: next to nothing
    assert other[~found].sum() < 0.05 * other.sum()
    assert scan.intensity[found].sum() < 2e-3 * scan.intensity.sum()
    # less the brightest box near the mirror point, so on the low side
    assert aliens[0].counts == pytest.approx(3000, rel=0.15)
    assert aliens[0].voxels == found.sum()


def test_without_a_measured_mirror_point_nothing_is_said():
    scan = simulated("weak")
    place = (38, 15, 50)
    intensity = scan.intensity + alien_at(place, 3000)
    centre = find_centre(intensity, np.zeros(SHAPE, bool))
    mask = np.zeros(SHAPE, bool)
    mirror = np.round(2 * np.array(centre) - place).astype(int)
    mask[tuple(slice(k - 8, k + 9) for k in mirror)] = True
    assert find_aliens(intensity, mask, centre)[1] == ()


def test_the_volume_masks_them_when_asked_to():
    scan = simulated("weak")
    intensity = scan.intensity + alien_at((38, 15, 50), 3000)
    with_alien = type(scan)(
        name="alien", intensity=intensity, angles_deg=scan.angles_deg, geometry=scan.geometry, monitor=scan.monitor
    )
    plain = diffraction_volume(with_alien)
    assert diffraction_volume(with_alien, Preprocessing(aliens=True)).mask.sum() > plain.mask.sum() + 50


def test_s0054_has_the_one_that_is_known(s0054):
    """Measured independently: a candidate at frame 162, row 63, column 102."""
    scan = read_spec_scan(s0054, 54, load_config(ROOT / "config" / "34idc.toml"))
    mask = np.broadcast_to(scan.bad_pixels, scan.intensity.shape)
    found, aliens = find_aliens(scan.intensity, mask, find_centre(scan.intensity, mask))
    assert len(aliens) == 1
    np.testing.assert_allclose(aliens[0].centre, (162, 63, 102), atol=3)
    assert found[162, 63, 102]
    # 5e-5 of the scan's counts
    assert aliens[0].counts < 3000


def test_a_model_of_the_counts_is_given_what_phasing_used():
    """All that phasing masks reads -1, aliens and a frame that was read twice too; the background is phasing's
    own, of the corners; what is used stays as it was counted."""
    scan = simulated("medium")
    random = np.random.default_rng(4)
    intensity = scan.intensity + alien_at((38, 15, 50), 3000) + random.poisson(0.3, SHAPE)
    intensity[5] = intensity[4]
    bad = np.zeros(SHAPE[1:], bool)
    bad[7, 9] = True
    scan = replace(scan, intensity=intensity, bad_pixels=bad, flatfield=np.full(SHAPE[1:], 0.5))
    for aliens in (False, True):
        settings = Preprocessing(aliens=aliens, background="corners", flatfield=False)
        counted, level = as_phased(scan, settings)
        _, report = prepare(scan, settings)
        assert level == report.background_counts == pytest.approx(0.3, rel=0.1)
        left_out = counted.intensity < 0
        assert counted.flatfield is None and left_out[:, 7, 9].all()
        assert left_out[36:41, 13:18, 48:53].mean() > 0.5 if aliens else not left_out[38, 15, 50]
        assert (counted.intensity[~left_out] == intensity[~left_out]).all()
        assert report.masked["read twice"] == 1 and left_out[5].all() and not left_out[6].all()


def test_the_background_of_a_model_of_the_counts_is_by_monitor_and_flat_field():
    """As phasing's: half of what falls on pixels that count half, and on frames of half the beam, is no less."""
    scan = simulated("medium")
    flat, monitor = np.ones(SHAPE[1:]), np.full(SHAPE[0], 1e6)
    flat[:, ::2], monitor[::2] = 0.5, 5e5
    random = np.random.default_rng(4)
    photons = scan.intensity.astype(int) + random.poisson(4.0, SHAPE)
    seen = random.binomial(photons, flat * monitor[:, None, None] / 1e6).astype(float)
    scan = replace(scan, intensity=seen, flatfield=flat, monitor=monitor)
    settings = Preprocessing(background="corners")
    counted, level = as_phased(scan, settings)
    assert level == prepare(scan, settings)[1].background_counts == pytest.approx(3, rel=0.1)
    assert (counted.intensity[counted.intensity >= 0] == seen[counted.intensity >= 0]).all()
