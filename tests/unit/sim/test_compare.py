"""The comparison finds what it should: nothing where there is nothing, and the error that was put in."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from live_bcdi.geometry import direct_basis_nm
from live_bcdi.sim import compare_with_truth, phase_error_rad, simulate_scan
from live_bcdi.sim.scattering import diffraction_amplitude, scan_steps
from live_bcdi.types import LabImage, Outcome, Reconstruction, ScanError

VOXEL_NM = 12.0
EDGE = 56
SHAPE = (48, 64, 64)


@pytest.fixture(scope="module")
def known(config):
    return simulate_scan(config=config, shape=SHAPE, strain="medium", seed=1)


@pytest.fixture(scope="module")
def truth(known):
    return known[1]


def positions_nm(shift=(0.0, 0.0, 0.0)):
    axis = (np.arange(EDGE) - EDGE // 2) * VOXEL_NM
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1) - np.asarray(shift)


def reconstruction(density, support=None, *, lab=True) -> Reconstruction:
    density = density.astype(np.complex64)
    support = np.abs(density) > 0.5 if support is None else support
    nothing = np.zeros(density.shape, np.float32)
    image = LabImage(
        density=density,
        support=support,
        displacement_angstrom=nothing,
        strain=nothing,
        voxel_nm=VOXEL_NM,
        q_centre_invA=np.ones(3),
    )
    return Reconstruction(
        density=density,
        support=support,
        chi=0.0,
        chi_starts=(0.0,),
        metrics={},
        recipe="ER",
        seed=0,
        outcome=Outcome.DONE,
        lab=image if lab else None,
    )


def twin_of(density):
    """Conjugate and inverted about n//2."""
    return np.roll(density[::-1, ::-1, ::-1], 1, axis=(0, 1, 2)).conj()


@pytest.mark.parametrize("twin", [False, True])
def test_shift_ramp_phase_and_twin_do_not_count(truth, twin):
    """The image is the truth at voxel centres; the truth it is compared with is a mean over each voxel, so the
    amplitudes differ in the surface voxels (a sixth of them), the phases hardly."""
    where = positions_nm(shift=(7.0, -31.0, 18.5))
    density = truth.density_at(where) * np.exp(1j * (2.0 + where @ [0.012, -0.003, 0.02]))
    found = compare_with_truth(reconstruction(twin_of(density) if twin else density), truth)
    assert found["twin"] is twin
    assert found["amplitude_correlation"] > 0.98
    assert found["phase_correlation"] > 0.995
    assert found["phase_rms_rad"] < 0.03


def test_from_the_pattern_to_the_lab_without_a_twin(known, truth):
    """Inverse FFT of the noise-free amplitude, taken to the lab by the conjugate basis alone: it is the crystal
    where the truth says, with the truth's phase, not its twin. Conventions of all modules meet here."""
    geometry = known[0].geometry
    steps = scan_steps(geometry)
    amplitude = diffraction_amplitude(truth, steps, SHAPE)
    density = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(amplitude)))
    fractions = positions_nm() @ np.linalg.inv(direct_basis_nm(steps, SHAPE)).T
    indices = np.moveaxis(fractions, -1, 0) + (np.array(SHAPE) // 2)[:, None, None, None]
    lab = map_coordinates(density.real, indices, order=3) + 1j * map_coordinates(density.imag, indices, order=3)
    found = compare_with_truth(reconstruction(lab, np.abs(lab) > 0.4 * np.abs(lab).max()), truth)
    assert found["twin"] is False
    # limited by the 20 nm voxels of the rocking axis against 12 nm here
    assert found["amplitude_correlation"] > 0.985
    assert found["phase_correlation"] > 0.99
    assert found["phase_rms_rad"] < 0.05


def test_phase_noise_is_measured(truth):
    """0.2 rad in every voxel: the surface adds hardly, 5% for what the alignment takes up and for chance."""
    noise = np.random.default_rng(0).normal(0, 0.2, (EDGE,) * 3)
    found = compare_with_truth(reconstruction(truth.density_at(positions_nm()) * np.exp(1j * noise)), truth)
    assert found["phase_rms_rad"] == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("twin", [False, True])
def test_the_phase_error_is_given_voxel_by_voxel(truth, twin):
    """Noise that was put in comes back in its place; of the twin's image, conjugate and inverted as that is."""
    noise = np.random.default_rng(1).normal(0, 0.2, (EDGE,) * 3)
    density = truth.density_at(positions_nm()) * np.exp(1j * noise)
    image = reconstruction(twin_of(density) if twin else density)
    found = phase_error_rad(image, truth)
    known = np.isfinite(found)
    assert not known[~image.lab.support].any()
    assert known[image.lab.support].mean() > 0.9
    put_in = -twin_of(noise + 0j).real if twin else noise
    # what differs is what alignment takes up, a mean and a slope, and the truth's mean over a voxel
    assert np.std(found[known] - put_in[known]) < 0.03


def test_a_missing_half_lowers_the_amplitude_correlation(truth):
    """Where a part f of the voxels is left, the sum is f n, the norms sqrt(f n) and sqrt(n), so sqrt(f); the
    truth's surface voxels, which are part full, change it by some percent."""
    where = positions_nm()
    density = truth.density_at(where)
    kept = np.where(where[..., 1] < 0, density, 0)
    found = compare_with_truth(reconstruction(kept), truth)
    part = (kept != 0).sum() / (density != 0).sum()
    assert found["amplitude_correlation"] == pytest.approx(np.sqrt(part), abs=0.02)


def test_a_wrong_crystal_is_seen(config, truth):
    _, other = simulate_scan(config=config, shape=SHAPE, strain="strong", seed=9)
    found = compare_with_truth(reconstruction(other.density_at(positions_nm())), truth)
    assert found["amplitude_correlation"] < 0.95
    assert found["phase_correlation"] < 0.9


def test_without_strain_there_is_no_phase_to_correlate(config):
    _, plain = simulate_scan(config=config, shape=SHAPE, strain="none", seed=1)
    found = compare_with_truth(reconstruction(plain.density_at(positions_nm())), plain)
    assert np.isnan(found["phase_correlation"])
    assert found["phase_rms_rad"] < 0.02


@pytest.mark.parametrize("kind", ["screw", "edge"])
def test_a_dislocation_is_found_where_the_phase_winds(config, kind):
    """As it is and as its twin (whose phase winds the same way about the inverted line); not in the crystal
    without it, nor with the Burgers vector turned round."""
    _, truth = simulate_scan(config=config, shape=SHAPE, strain="weak", seed=1, kind=kind)
    (line,) = truth.dislocations
    opposite = replace(line, burgers_angstrom=tuple(-b for b in line.burgers_angstrom))
    right = truth.density_at(positions_nm())
    images = {
        "right": right,
        "twin": twin_of(right),
        "smooth": replace(truth, dislocations=()).density_at(positions_nm()),
        "opposite": replace(truth, dislocations=(opposite,)).density_at(positions_nm()),
    }
    found = {name: compare_with_truth(reconstruction(image), truth) for name, image in images.items()}
    assert [found[name]["line_found"] for name in images] == [1, 1, 0, 0]
    assert [found[name]["twin"] for name in ("right", "twin")] == [False, True]
    assert max(found[name]["phase_rms_rad"] for name in ("right", "twin")) < 0.05


def test_the_phase_at_a_wall_is_not_compared(config):
    """Voxels near the wall get a phase that is 1 rad off. Counted, a share f of them makes an rms of sqrt(f); not
    counted, they still turn the mean phase that is taken out, by about f."""
    _, truth = simulate_scan(config=config, shape=SHAPE, strain="weak", seed=1, kind="fault")
    where = positions_nm()
    near = truth.defect_distance_nm(where) < 0.8 * VOXEL_NM
    share = near[truth.inside(where)].mean()
    assert share > 0.03
    found = compare_with_truth(reconstruction(truth.density_at(where) * np.exp(1j * near)), truth)
    assert found["phase_rms_rad"] < 1.5 * share < 0.5 * np.sqrt(share)
    assert "line_found" not in found


def test_a_hollow_crystal_is_not_a_full_one(config):
    """The void is a part f of the volume, so the correlation of amplitudes is sqrt(1 - f)."""
    _, truth = simulate_scan(config=config, shape=SHAPE, strain="weak", seed=1, kind="hollow")
    full = replace(truth, voids=())
    hollow, whole = (np.abs(each.density_at(positions_nm())).sum() for each in (truth, full))
    found = compare_with_truth(reconstruction(full.density_at(positions_nm())), truth)
    assert found["amplitude_correlation"] == pytest.approx(np.sqrt(hollow / whole), abs=0.02)


def test_nothing_to_compare(truth):
    density = truth.density_at(positions_nm())
    with pytest.raises(ScanError, match="no lab image"):
        compare_with_truth(reconstruction(density, lab=False), truth)
    with pytest.raises(ScanError, match="empty support"):
        compare_with_truth(reconstruction(density, np.zeros(density.shape, bool)), truth)
