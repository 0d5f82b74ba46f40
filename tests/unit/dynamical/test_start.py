"""From a retrieval to the model's grid: in the weak limit its frames are the pattern that was retrieved; and the
whole refinement of a scan, from an object that a retrieval could have found."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy import fft, ndimage

from live_bcdi.config import Preprocessing
from live_bcdi.dynamical import Characteristics, Settings, Susceptibilities, along_diffracted, refine_scan, start
from live_bcdi.dynamical import scan as searching
from live_bcdi.dynamical.detector import departures, pixel_momenta
from live_bcdi.dynamical.objective import Crystal, Objective
from live_bcdi.dynamical.start import frames_of, in_the_lab, placed, refraction_divided_out, twin_of
from live_bcdi.geometry import q_lab_invA, q_steps_invA, rocking_circle, with_rocking_angle
from live_bcdi.preprocess import as_phased
from live_bcdi.types import (
    DiffractionVolume,
    Geometry,
    Outcome,
    Reconstruction,
    RockingScan,
    Rotation,
    ScanError,
    StorageError,
)

GEOMETRY = Geometry(
    energy_kev=9.0,
    distance_m=0.5,
    pixel_um=(110.0, 110.0),
    arm_pixel=(12.0, 16.0),
    beam_direction=(0.0, 0.0, 1.0),
    row_direction=(0.0, -1.0, 0.0),
    column_direction=(1.0, 0.0, 0.0),
    sample=(Rotation(motor="theta", axis=(0.0, 1.0, 0.0), angle_deg=17.0),),
    arm=(
        Rotation(motor="delta", axis=(0.0, 1.0, 0.0), angle_deg=32.1),
        Rotation(motor="gamma", axis=(-1.0, 0.0, 0.0), angle_deg=12.6),
    ),
    rocking="theta",
)
SHAPE, PEAK, STEP_DEG = (24, 24, 32), (11.0, 17.0), 0.02
MIDDLE = 12
GOLD = Susceptibilities(chi_0=-7e-5 + 5e-6j, chi_h=5.5e-5 - 4e-6j, chi_hbar=5.5e-5 - 4e-6j)
WEAK = {"chi_0": 0j, "chi_h": 1e-9 + 0j, "chi_hbar": 1e-9 + 0j}


def retrieved(seed=0):
    """An irregular, strained crystal on the conjugate grid of a scan whose volume is off the detector's middle."""
    rng = np.random.default_rng(seed)
    r, c, k = np.indices(SHAPE) - np.reshape([n // 2 for n in SHAPE], (3, 1, 1, 1))
    support = (np.abs(r + 0.4) < 4.5) & (np.abs(c - 0.3 * k) < 4.5) & (np.abs(k) < 5.5) & (r + c < 5)
    phase = ndimage.gaussian_filter(rng.normal(size=SHAPE), 3)
    density = np.asarray(support * np.exp(1j * phase / phase.std() + 0.3j * k), np.complex64)
    angle = rocking_circle(GEOMETRY).angle_deg
    volume = DiffractionVolume(
        intensity=np.asarray(np.abs(fft.fftshift(fft.fftn(fft.ifftshift(density)))) ** 2, np.float32),
        mask=np.zeros(SHAPE, bool),
        centre=(MIDDLE, *PEAK),
        q_centre_invA=q_lab_invA(GEOMETRY, *PEAK),
        q_steps_invA=q_steps_invA(GEOMETRY, STEP_DEG, *PEAK),
    )
    angles = angle + STEP_DEG * (np.arange(SHAPE[0]) - MIDDLE)
    intensity = np.zeros((SHAPE[0], 30, 40))
    intensity[:, :23, 1:33] = volume.intensity[:, 1:, :]  # row 11 of the detector is row 12 of the volume
    scan = RockingScan(name="weak", intensity=intensity, angles_deg=angles, geometry=GEOMETRY)
    result = Reconstruction(
        density=density, support=support, chi=0.0, chi_starts=(0.0,), metrics={}, recipe="", seed=0,
        outcome=Outcome.DONE, volume=volume,
    )  # fmt: skip
    return scan, result


def correlation(a, b):
    return float(np.corrcoef(np.sqrt(a).ravel(), np.sqrt(b).ravel())[0, 1])


@pytest.mark.parametrize("other", [False, True])
def test_the_placed_object_has_the_pattern_that_was_retrieved(other):
    """The amplitudes correlate to 1 less a percent: the steps of q are those of the middle, the Ewald sphere its
    tangent plane, and the window of pixels one row short. The conjugate, a sign wrong, is far from that."""
    scan, result = retrieved()
    crystal = twin_of(placed(scan, result, GOLD.chi_0)) if other else placed(scan, result, GOLD.chi_0)
    frames, far = frames_of(scan, crystal)
    assert frames.counts.shape == (24, 23, 32) and frames.used.all()
    beams = along_diffracted(crystal.frame.wavelength_m, crystal.frame.two_theta, **WEAK)
    passage = Characteristics(beams, crystal.edges_m).march(crystal.density, crystal.s0, frames.delta_q)
    assert correlation(far.intensities(passage.eh), frames.counts) > 0.98
    turned = far.intensities(
        Characteristics(beams, crystal.edges_m).march(np.conj(crystal.density), crystal.s0, frames.delta_q).eh
    )
    assert correlation(turned, frames.counts) < 0.9


@pytest.mark.parametrize(("first", "last"), [(0, 24), (8, 24), (0, 14)])
@pytest.mark.parametrize("columns", [slice(0, 40), slice(12, 40)])
def test_no_momentum_that_is_measured_folds(first, last, columns):
    """Wherever the peak lies in the scan and on the detector, all that a pixel of a frame sees is within the
    voxels' band: a period of theirs away, a strong frame would be taken for a weak one."""
    scan, result = retrieved()
    counts = np.zeros((last - first, 30, 40))
    counts[:, :, columns] = 1
    scan = replace(scan, intensity=counts, angles_deg=scan.angles_deg[first:last])
    volume = replace(result.volume, centre=(MIDDLE - first, *PEAK))
    crystal = placed(scan, replace(result, volume=volume), -1e-6)
    rows = np.arange(30)[crystal.rows], np.arange(40)[crystal.columns]
    pixels = pixel_momenta(crystal.geometry, crystal.peak, *np.meshgrid(*rows, indexing="ij")).reshape(-1, 2)
    turned = departures(crystal.geometry, *crystal.peak, scan.angles_deg)
    across = np.abs(pixels[:, None] - turned[None, :, :2]).max(axis=(0, 1))
    seen = np.array([*across, np.abs(turned[:, 2]).max()]) * crystal.edges_m / np.pi
    assert (seen < 0.81).all() and seen.max() > 0.79  # and no finer than asked


def test_the_twin_is_the_inverted_conjugate():
    scan, result = retrieved()
    crystal = placed(scan, result, GOLD.chi_0)
    other = twin_of(crystal)
    np.testing.assert_array_equal(
        other.density[1:, 1:, 1:], np.conj(crystal.density[1:, 1:, 1:][::-1, ::-1, ::-1])
    )
    np.testing.assert_array_equal(other.s0[1:, 1:, 1:], crystal.s0[1:, 1:, 1:][::-1, ::-1, ::-1])


def test_refraction_is_divided_out():
    """Of a block whose faces the beams go through: k chi_0 / 2 times the two lengths, to half a voxel of each."""
    scan, result = retrieved()
    crystal = placed(scan, result, GOLD.chi_0)
    s0 = np.zeros(crystal.s0.shape, np.float32)
    s0[:, 4:-4, 6:-6] = 1
    block = replace(crystal, s0=s0, density=np.asarray(s0, np.complex64))
    chi = {"chi_0": GOLD.chi_0, "chi_h": GOLD.chi_h, "chi_hbar": GOLD.chi_hbar}
    beams = along_diffracted(block.frame.wavelength_m, block.frame.two_theta, **chi)
    phase = np.angle(refraction_divided_out(block, beams).density)
    nx, ny, nz = s0.shape
    column = phase[nx // 2 + 4, ny // 2]  # far from the sides that the transmitted beam comes through
    dz, inside = block.edges_m[2], np.arange(6, nz - 6)
    lengths = (nz - 6 - inside - 0.5) + (inside - 6 + 0.5) / np.cos(block.frame.two_theta)
    expected = -0.5 * beams.wave_number * GOLD.chi_0.real * lengths * dz
    slack = 0.5 * beams.wave_number * abs(GOLD.chi_0) * dz
    reach = np.flatnonzero(inside - 6 < nx // 2 - 6)  # deeper, the beam entered beside the volume
    np.testing.assert_allclose(np.unwrap(column[inside])[reach], expected[reach], atol=slack)


def test_counts_come_with_mask_monitor_and_flat_field():
    scan, result = retrieved()
    crystal = placed(scan, result, GOLD.chi_0)
    bad = np.zeros((30, 40), bool)
    bad[5, 7] = True
    flat = np.full((30, 40), 1.0)
    flat[6, 8] = 2.0
    have = np.ones(24, bool)
    have[3] = False
    monitor = np.full(24, 1e6)
    monitor[9] = 5e5
    told = replace(scan, bad_pixels=bad, flatfield=flat, have=have, monitor=monitor)
    frames, _ = frames_of(told, crystal, 0.25)
    assert not frames.used[:, 5, 6].any() and not frames.used[3].any()
    assert frames.used.sum() == 23 * (23 * 32 - 1)
    np.testing.assert_allclose(frames.response[12, 6, 7] / frames.response[12, 6, 8], 2)
    np.testing.assert_allclose(frames.response[9, 0, 0] / frames.response[12, 0, 0], 0.5)
    assert (frames.background == 0.25).all()


def dynamical_scan(gold=GOLD):
    """The scan of `retrieved`'s crystal as the two beams see it, and a result with refraction left in it."""
    scan, result = retrieved()
    crystal = placed(scan, result, gold.chi_0)
    frames, far = frames_of(scan, crystal)
    s0 = np.minimum(np.abs(crystal.density), 1)
    passage = march_of(crystal, gold).march(crystal.density, s0, frames.delta_q)
    found = far.intensities(passage.eh)
    counts = np.zeros(scan.intensity.shape)
    counts[:, crystal.rows, crystal.columns] = np.random.default_rng(4).poisson(found * 1e7 / found.sum())
    return replace(scan, intensity=counts), result, crystal


def march_of(crystal, gold=GOLD):
    chi = {"chi_0": gold.chi_0, "chi_h": gold.chi_h, "chi_hbar": gold.chi_hbar}
    beams = along_diffracted(crystal.frame.wavelength_m, crystal.frame.two_theta, **chi)
    return Characteristics(beams, crystal.edges_m)


@pytest.mark.parametrize("background", ["given", "constant"])
def test_flat_field_and_monitor_take_from_the_background_what_they_take_from_the_crystal(background):
    """Photons that each is counted with the response of its pixel and frame are Poisson's, of so much of the mean.
    The truth is as far from them as counting noise alone, 1/4 a pixel by Anscombe."""
    scan, _, crystal = dynamical_scan()
    flat, monitor = np.ones((30, 40)), np.full(24, 1e6)
    flat[:, ::3], monitor[::2] = 0.5, 5e5
    random = np.random.default_rng(7)
    photons = scan.intensity.astype(int) + random.poisson(40, scan.intensity.shape)
    seen = random.binomial(photons, flat * monitor[:, None, None] / 1e6)
    told = replace(scan, intensity=seen.astype(float), flatfield=flat, monitor=monitor)
    counted, level = as_phased(told, Preprocessing(background=30.0))  # of 40, by the mean monitor
    frames, far = frames_of(counted, crystal, level if background == "given" else 0.0)
    s0 = np.minimum(np.abs(crystal.density), 1)
    settings = Settings(background=background, smoothing=1e-9)
    objective = Objective(frames, far, march_of(crystal), s0, settings)
    truth = Crystal(density=crystal.density, support=s0 > 0, offsets_rad=np.zeros(24))
    found, misfit, free = objective.judged(truth)
    assert found.background == pytest.approx(30 if background == "constant" else 0, rel=0.01)
    assert misfit == pytest.approx(0.25, rel=0.05)
    assert free == pytest.approx(0.25, rel=0.2)
    assert objective.slope(found, slice(None)).value == pytest.approx(misfit, rel=1e-6)


@pytest.mark.parametrize("other", [False, True])
def test_the_right_twin_is_taken_and_refined(other):
    # five times gold, as this crystal of 0.3 um is too thin for gold itself to tell the twins apart
    dense = Susceptibilities(chi_0=5 * GOLD.chi_0, chi_h=5 * GOLD.chi_h, chi_hbar=5 * GOLD.chi_hbar)
    scan, result, crystal = dynamical_scan(dense)
    if other:
        density = np.conj(result.density[::-1, ::-1, ::-1])
        both = (np.roll(each, 1, axis=(0, 1, 2)) for each in (density, result.support[::-1, ::-1, ::-1]))
        density, support = both
        result = replace(result, density=density, support=support)
    found = refine_scan(scan, result, dense, Settings(epochs=15, history=15), smoothings=(6.0, 1.0))
    assert found.twin == other
    right, wrong = sorted(min(list(found.free_misfits.values())[at : at + 2]) for at in (0, 2))
    assert len(found.free_misfits) == 4 and wrong > 5 * right
    ratio = (found.crystal.density * np.conj(crystal.density))[np.abs(crystal.density) > 0.5]
    off = np.angle(ratio * np.exp(-1j * np.angle(ratio.sum())))
    assert np.std(off) < 0.15
    image = found.lab
    assert image.density.shape == image.strain.shape and image.voxel_nm == pytest.approx(
        1e9 * crystal.edges_m.min(), rel=1e-6
    )
    there = in_the_lab(crystal, result.volume)
    assert image.support.sum() == pytest.approx(there.support.sum(), rel=0.1)


def test_a_twin_that_fails_does_not_end_it(monkeypatch, caplog):
    scan, result, _ = dynamical_scan()
    settings, shares = Settings(epochs=2, history=2), []
    refine, wrong = searching.refine, ScanError("nothing of the crystal is left")

    def failing(*given, **more):
        label = more["checkpoint"]._prefix
        if label.startswith(bad):
            raise wrong
        return refine(*given, **more)

    monkeypatch.setattr(searching, "refine", failing)
    bad = "twin"
    kept = pytest.MonkeyPatch()
    with kept.context() as now:
        now.setattr(searching.Checkpoint, "save", lambda self, prefix, arrays, *, now: None)
        ways = {"smoothings": (6.0, 2.0), "checkpoint": "never written"}
        found = refine_scan(scan, result, GOLD, settings, progress=lambda at, text: shares.append(at), **ways)
        assert list(found.free_misfits) == ["retrieved, smoothing 6", "retrieved, smoothing 2"]
        assert not found.twin and "given up: nothing of the crystal is left" in caplog.text
        assert shares == sorted(shares) and shares[-1] == 1
        bad = ""
        with pytest.raises(ScanError, match="nothing of the crystal is left"):
            refine_scan(scan, result, GOLD, settings, **ways)
        bad, wrong = "twin", StorageError("no room")
        with pytest.raises(StorageError, match="no room"):
            refine_scan(scan, result, GOLD, settings, **ways)


def test_a_checkpoint_is_of_what_was_placed_and_not_of_its_last_bits(tmp_path, monkeypatch):
    scan, result, _ = dynamical_scan()
    ways = {"smoothings": (6.0,), "checkpoint": tmp_path / "kept.npz"}
    found = refine_scan(scan, result, GOLD, Settings(epochs=1), **ways)
    place = searching.placed

    def rounded(*given):
        crystal = place(*given)
        return replace(crystal, density=crystal.density * np.complex64(1 + 1e-6j))

    monkeypatch.setattr(searching, "placed", rounded)
    again = refine_scan(scan, result, GOLD, Settings(epochs=1), **ways)
    assert again.refined.density.tobytes() == found.refined.density.tobytes()
    volume = replace(result.volume, centre=(MIDDLE, PEAK[0] + 1e-9, PEAK[1]))
    for other in (
        replace(result, density=result.density * np.complex64(1j)),
        replace(result, support=result.support & (np.indices(SHAPE)[0] != 8)),
        replace(result, volume=volume),
    ):
        with pytest.raises(ScanError, match="other data or settings"):
            refine_scan(scan, other, GOLD, Settings(epochs=1), **ways)


def test_a_large_crystal_is_placed_some_slices_at_a_time(monkeypatch):
    """To the same values as at once, to finufft's accuracy. On 1.7e6 voxels S and s0 take 20 MB, and what is
    between less than as much; at once it was 170 MB more."""
    scan, result = retrieved()
    monkeypatch.setattr(start, "_edges", lambda *given: np.array([2.5e-9] * 3))
    peaks, made = [], []
    for at_once in (2**30, 2**16):
        monkeypatch.setattr(start, "_AT_ONCE", at_once)
        tracemalloc.start()
        made.append(placed(scan, result, GOLD.chi_0))
        peaks.append(tracemalloc.get_traced_memory()[1] / made[-1].density.size)
        tracemalloc.stop()
    np.testing.assert_array_equal(made[1].s0, made[0].s0)
    np.testing.assert_allclose(made[1].density, made[0].density, atol=2e-6)
    assert made[0].density.size > 1.5e6 and peaks[1] < 30 < 80 < peaks[0]


def test_what_cannot_be_used():
    scan, result = retrieved()
    with pytest.raises(ScanError, match="where its pattern was"):
        refine_scan(scan, replace(result, volume=None), GOLD)
    with pytest.raises(ScanError, match="no polarisation 'circular'"):
        refine_scan(scan, result, GOLD, polarisation="circular")
    with pytest.raises(ScanError, match="at least one weight"):
        refine_scan(scan, result, GOLD, smoothings=())
    with pytest.raises(ScanError, match="empty"):
        refine_scan(scan, replace(result, density=0 * result.density), GOLD)
    backwards = with_rocking_angle(
        replace(GEOMETRY, arm=(Rotation(motor="delta", axis=(0, 1, 0), angle_deg=120.0),)), 60
    )
    with pytest.raises(ScanError, match=r"two_theta is 1\S+ degrees"):
        refine_scan(replace(scan, geometry=backwards), result, GOLD)
    with pytest.raises(ScanError, match=r"background \(3,\) does not go"):
        refine_scan(scan, result, GOLD, background=np.zeros(3))
