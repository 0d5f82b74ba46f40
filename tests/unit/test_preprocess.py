import numpy as np
import pytest

from live_bcdi import preprocess
from live_bcdi.config import Preprocessing
from live_bcdi.geometry import q_lab_invA, with_rocking_angle
from live_bcdi.types import Geometry, RockingScan, Rotation, ScanError

GEOMETRY = Geometry(
    energy_kev=9.0,
    distance_m=0.5,
    pixel_um=(55.0, 55.0),
    arm_pixel=(20.0, 24.0),
    beam_direction=(0.0, 0.0, 1.0),
    row_direction=(0.0, -1.0, 0.0),
    column_direction=(1.0, 0.0, 0.0),
    sample=(Rotation(motor="theta", axis=(0.0, 1.0, 0.0), angle_deg=10.0),),
    arm=(Rotation(motor="delta", axis=(0.0, 1.0, 0.0), angle_deg=30.0),),
    rocking="theta",
)
PEAK = (21, 18, 27)


def counts(shape=(40, 40, 48), peak=PEAK, width=3.0, height=2000.0, background=1.0, seed=0):
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    distance = np.linalg.norm(index - np.reshape(peak, (3, 1, 1, 1)), axis=0)
    expected = height * np.exp(-0.5 * (distance / width) ** 2) + background
    return np.random.default_rng(seed).poisson(expected).astype(np.int32)


def scan(intensity=None, **changes):
    intensity = counts() if intensity is None else intensity
    known = {"angles_deg": 10 + 0.005 * np.arange(len(intensity)), "geometry": GEOMETRY, "name": "test"}
    return RockingScan(intensity=intensity, **{**known, **changes})


def test_a_steady_monitor_is_smoothed():
    """Scatter below Poisson's: what is left of it after the smoothing is less than a third."""
    rng = np.random.default_rng(0)
    drift = 1000 * (1 + 0.05 * np.linspace(-1, 1, 200))
    scale, beam = preprocess.monitor_scale(drift + rng.normal(0, 15, 200), np.ones(200, bool))
    assert beam.all()
    np.testing.assert_allclose(scale * drift / np.mean(scale * drift), 1, atol=0.015)
    assert np.diff(scale).std() < 15e-3 / 3


def test_a_volume_is_not_divided_frame_by_frame_by_a_steady_monitor():
    """1.5 % of scatter in the monitor, half of Poisson's, is 0.5 % at most in what frames are scaled by."""
    monitor = 1000 + np.random.default_rng(0).normal(0, 15, 40)
    settings = Preprocessing(shape=(32, 32, 32))
    plain, scaled = (preprocess.diffraction_volume(scan(monitor=each), settings) for each in (None, monitor))
    lit = plain.intensity.sum(axis=(1, 2)) > 0
    ratios = scaled.intensity.sum(axis=(1, 2))[lit] / plain.intensity.sum(axis=(1, 2))[lit]
    assert ratios.std() < 0.005
    assert np.diff(ratios).std() < 0.002


def test_a_jumping_beam_is_followed_frame_by_frame():
    rng = np.random.default_rng(0)
    beam = 1e5 * rng.uniform(0.7, 1.3, 200)
    scale, _ = preprocess.monitor_scale(beam, np.ones(200, bool))
    np.testing.assert_allclose(scale * beam, beam.mean())


def test_frames_without_beam_are_masked_and_those_without_a_reading_are_not():
    monitor = np.full(40, 1000.0)
    monitor[11], monitor[30] = 3.0, np.nan
    mask = preprocess.diffraction_volume(scan(monitor=monitor), Preprocessing(shape=(32, 32, 32))).mask
    frame = 11 - PEAK[0] + 16
    assert mask[frame].all()
    assert not mask[30 - PEAK[0] + 16].all()


def test_centre_is_the_peaks_and_not_a_hot_voxels():
    intensity = counts().astype(float)
    intensity[2, 3, 4] = 1e4
    centre = preprocess.find_centre(intensity, np.zeros(intensity.shape, bool))
    np.testing.assert_allclose(centre, PEAK, atol=0.2)


def test_crop_pads_with_masked_voxels_and_rolls_nothing():
    intensity = np.arange(6 * 5 * 4).reshape(6, 5, 4)
    volume, free = preprocess.crop_centred(intensity, np.zeros(intensity.shape, bool), (1, 2, 3), (4, 4, 4))
    assert volume[2, 2, 2] == intensity[1, 2, 3]
    assert free[0].all() and free[:, :, 3].all()
    assert not volume[free].any()
    np.testing.assert_array_equal(volume[1:, :, :3], intensity[0:3, 0:4, 1:4])
    assert not free[1:, :, :3].any()


def test_binning_sums_and_spreads_the_mask():
    volume = np.ones((4, 4, 4), np.float32)
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 1, 3] = True
    summed, free = preprocess.bin_volume(volume, mask, (2, 1, 2))
    assert summed.shape == (2, 4, 2)
    assert free.sum() == 1 and free[0, 1, 1] and summed[0, 1, 1] == 0
    assert (summed[~free] == 4).all()
    with pytest.raises(ScanError, match="multiple"):
        preprocess.bin_volume(volume, mask, (3, 1, 1))


def test_volume_is_centred_and_placed_in_reciprocal_space():
    found = preprocess.diffraction_volume(scan(), Preprocessing(shape=(32, 32, 32)))
    assert found.centre == PEAK
    assert found.intensity[16, 16, 16] == counts()[PEAK]
    at_peak = with_rocking_angle(GEOMETRY, 10 + 0.005 * PEAK[0])
    np.testing.assert_allclose(found.q_centre_invA, q_lab_invA(at_peak, PEAK[1], PEAK[2]), rtol=1e-12)
    # a pixel subtends 55 um / 0.5 m, and k = 2 pi / lambda = 4.5609 per ångström at 9 keV
    expected = 4.5609 * 55e-6 / 0.5
    np.testing.assert_allclose(np.linalg.norm(found.q_steps_invA[:, 1:], axis=0), expected, rtol=1e-3)
    # rocking by 0.005 deg turns q about y: |q_perp| times the angle
    q = found.q_centre_invA
    np.testing.assert_allclose(
        np.linalg.norm(found.q_steps_invA[:, 0]), np.hypot(q[0], q[2]) * np.deg2rad(0.005), rtol=1e-3
    )


def test_binning_makes_the_steps_larger_and_the_place_stays():
    whole = preprocess.diffraction_volume(scan(), Preprocessing(shape=(32, 32, 32)))
    binned = preprocess.diffraction_volume(scan(), Preprocessing(shape=(16, 16, 32), binning=(2, 2, 1)))
    np.testing.assert_allclose(binned.q_steps_invA, whole.q_steps_invA * [2, 2, 1], atol=1e-7)
    # the centre of a block of two is half a voxel further; half a rocking step turns the frame of q along
    half = whole.q_steps_invA @ [0, 0.5, 0]
    np.testing.assert_allclose(binned.q_centre_invA, whole.q_centre_invA + half, atol=2e-6)
    assert binned.intensity.sum() == pytest.approx(whole.intensity.sum())


def test_saturated_negative_missing_and_bad_are_masked():
    intensity = counts()
    intensity[PEAK] = 70000
    intensity[21, 20, 30] = -2
    have = np.ones(40, bool)
    have[25] = False
    bad = np.zeros((40, 48), bool)
    bad[17, 26] = True
    angles = np.where(have, 10 + 0.005 * np.arange(40), np.nan)
    found = preprocess.diffraction_volume(
        scan(intensity, have=have, bad_pixels=bad, saturation_counts=65535, angles_deg=angles),
        Preprocessing(shape=(32, 32, 32)),
    )
    centre = np.array([16, 16, 16]) - np.round(found.centre).astype(int)
    for raw in (PEAK, (21, 20, 30), (25, 18, 27), (20, 17, 26)):
        assert found.mask[tuple(np.array(raw) + centre)], raw
    assert np.isfinite(found.intensity).all()
    assert found.mask[25 + centre[0]].all()


def test_flat_field_is_divided_out_and_a_blind_pixel_masked():
    flat = np.full((40, 48), 1.0, np.float32)
    flat[:, 24:] = 0.8
    flat[18, 29] = 0.01
    found = preprocess.diffraction_volume(scan(flatfield=flat), Preprocessing(shape=(32, 32, 32)))
    assert found.intensity[16, 16, 16] == pytest.approx(counts()[PEAK] / 0.8, rel=1e-6)
    assert found.mask[:, 16, 18].all()


def test_a_downward_scan_has_the_opposite_step():
    up = preprocess.diffraction_volume(scan(), Preprocessing(shape=(32, 32, 32)))
    down = preprocess.diffraction_volume(
        scan(counts()[::-1].copy(), angles_deg=(10 + 0.005 * np.arange(40))[::-1].copy()),
        Preprocessing(shape=(32, 32, 32)),
    )
    np.testing.assert_allclose(down.q_steps_invA[:, 0], -up.q_steps_invA[:, 0], rtol=1e-6)
    np.testing.assert_allclose(down.q_centre_invA, up.q_centre_invA, rtol=1e-9)


def test_default_shape_reaches_the_further_edge_and_is_good_for_fft():
    assert preprocess.default_shape((201, 256, 256), (97, 127, 128), (1, 1, 1)) == (128, 128, 128)
    assert preprocess.default_shape((101, 100, 33), (50, 20, 16), (1, 1, 1)) == (100, 128, 32)
    assert preprocess.default_shape((101, 100, 33), (50, 50, 16), (2, 3, 1)) == (50, 36, 32)


def test_good_lengths_are_those_of_small_factors_and_pad_little():
    """Against trial division; nothing that was measured is cut off."""
    for wanted in range(16, 513):
        length = preprocess.good_length(wanted)
        assert wanted <= length <= 1.25 * wanted and length % 2 == 0
        rest = length
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        assert rest == 1


@pytest.mark.parametrize(
    ("centring", "place"), [("robust", PEAK), ("maximum", (25, 18, 27)), ("mass", (21.6, 18.3, 27.4))]
)
def test_each_way_of_centring(centring, place):
    """A lone bright voxel, which is the maximum, and a weak cloud, to which the mass is drawn."""
    intensity = counts(background=0.0).astype(float)
    intensity[25, 18, 27] = 3000
    intensity[26:38, 25:37, 33:45] += 100
    expected = place
    if centring == "mass":
        index = np.stack(np.meshgrid(*[np.arange(n) for n in intensity.shape], indexing="ij"))
        expected = (index * intensity).sum(axis=(1, 2, 3)) / intensity.sum()
        assert np.abs(expected - PEAK).max() > 0.8
    found = preprocess.find_centre(intensity, np.zeros(intensity.shape, bool), centring)
    np.testing.assert_allclose(found, expected, atol=0.3)


def test_settings_reach_the_volume():
    intensity = counts(background=0.0)
    intensity[6, 7, 8] = 3000  # beside it as much: no flash
    intensity[6, 7, 9] = 2000
    flat = np.full((40, 48), 2.0, np.float32)
    beam = np.full(40, 1000.0)
    beam[20] = 3.0
    box = {"shape": (32, 32, 32)}
    full = scan(intensity, flatfield=flat, monitor=beam)
    plain = preprocess.diffraction_volume(full, Preprocessing(**box, flatfield=False, monitor=False))
    np.testing.assert_array_equal(
        plain.intensity, preprocess.diffraction_volume(scan(intensity), Preprocessing(**box)).intensity
    )
    corrected = preprocess.diffraction_volume(full, Preprocessing(**box))
    assert corrected.mask[20 - PEAK[0] + 16].all()
    assert corrected.intensity[16, 16, 16] == pytest.approx(plain.intensity[16, 16, 16] / 2, rel=1e-6)
    moved = preprocess.diffraction_volume(full, Preprocessing(**box, flatfield=False, centring="maximum"))
    assert moved.centre == (6, 7, 8)


def test_the_report_says_what_was_masked_and_where():
    """Each thing put in once, away from the others; what it says is what is in the mask."""
    intensity = counts()
    intensity[:, 3, 40] = 500
    intensity[10:14, 34, 20] = 300
    intensity[:, 30, 9] = 0
    intensity[5, 5, 5] = -1
    intensity[PEAK] = 70000
    intensity[2] = intensity[1]
    bad = np.zeros((40, 48), bool)
    bad[38, 1:4] = True
    have = np.arange(40) != 39
    monitor = np.full(40, 1000.0)
    monitor[38] = 1.0
    full = scan(intensity, bad_pixels=bad, have=have, monitor=monitor, saturation_counts=65535)
    report = preprocess.prepare(full, Preprocessing(shape=(32, 32, 32), background=0.5))[1]
    known = {"bad": 3, "dead": 1, "saturated": 1, "unreadable": 1, "alien": 0, "missing": 1, "without beam": 1}
    known |= {"read twice": 1}
    assert {name: report.masked[name] for name in known} == known
    # hot for four frames of forty: told by the scan's total, and by each of the frames
    assert (report.masked["hot"], report.masked["flashing"]) == (2, 4 + 40 + 1)
    lines = report.lines()
    assert lines["masked"].startswith(
        "3 bad, 1 dead, 2 hot pixels; 45 flashing, 1 saturated, 1 unreadable, 0 alien"
    )
    assert lines["masked"].endswith("1 frames missing, 1 without beam, 1 read twice")
    assert lines["volume"].startswith("32 x 32 x 32 of 40 x 40 x 48, peak at 2")
    assert lines["background"] == "0.5 counts a voxel"
    _, whole = preprocess.prepare(full, Preprocessing(shape=(128, 128, 128)))
    assert whole.kept == pytest.approx(1)
    assert 0.5 < report.kept < 1


def test_a_frame_that_was_read_twice_is_masked_as_what_it_should_have_shown_is_not_known():
    intensity = counts(background=0.0)
    intensity[[15, 16, 28]] = intensity[[14, 14, 27]]
    intensity[2] = intensity[1] = 0  # two dark frames may well be alike
    have = np.arange(40) != 30
    intensity[31] = intensity[29]  # they follow each other, as the one between never came
    volume, report = preprocess.prepare(scan(intensity, have=have), Preprocessing(shape=(40, 40, 48)))
    first = round(report.centre[0]) - 20
    gone = np.flatnonzero(volume.mask.all(axis=(1, 2))) + first
    assert gone[gone < 40].tolist() == [15, 16, 28, 30, 31]
    assert report.masked["read twice"] == 4


def test_a_background_that_leaves_nothing_is_said():
    with pytest.raises(ScanError, match="leaves nothing"):
        preprocess.prepare(scan(), Preprocessing(background=1e6))


def test_gap_codes_of_unsigned_detectors_are_no_counts():
    intensity = counts().astype(np.uint32)
    intensity[:, 12:14] = 2**32 - 1
    volume, report = preprocess.prepare(scan(intensity), Preprocessing(shape=(32, 32, 32)))
    assert report.masked["unreadable"] == 40 * 2 * 48
    assert volume.mask[:, 12 - PEAK[1] + 16].all()
    np.testing.assert_allclose(report.centre, PEAK, atol=0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"angles_deg": 10 + 0.005 * np.arange(40) ** 1.2}, "even grid"),
        ({"angles_deg": 10 + 0.005 * (np.arange(40) % 20)}, "do not go one way"),
        ({"angles_deg": np.full(40, 10.0)}, "do not go one way"),
        ({"angles_deg": np.where(np.arange(40) == 3, np.nan, 10 + 0.005 * np.arange(40))}, "no angle"),
        ({"have": np.arange(40) < 2}, "at least 3 frames"),
        ({"intensity": np.zeros((40, 40, 48), np.int32)}, "no counts"),
        ({"intensity": np.full((40, 40, 48), np.nan)}, "NaN"),
        ({"monitor": np.full(40, np.nan)}, None),
    ],
)
def test_what_cannot_be_used_is_said(changes, message):
    if message is None:
        assert preprocess.diffraction_volume(scan(**changes)).intensity.any()
        return
    with pytest.raises(ScanError, match=message):
        preprocess.diffraction_volume(scan(**changes))


def test_a_flash_is_masked_and_the_background_goes_when_asked():
    intensity = counts()
    intensity[30, 12, 34] = 900
    found = preprocess.diffraction_volume(scan(intensity), Preprocessing(shape=(32, 32, 32)))
    place = tuple(np.array([30, 12, 34]) - PEAK + 16)
    assert found.mask[place] and found.mask.sum() == 1 + np.count_nonzero(
        preprocess.diffraction_volume(scan(), Preprocessing(shape=(32, 32, 32))).mask
    )
    bare = preprocess.diffraction_volume(scan(intensity), Preprocessing(shape=(32, 32, 32), background="corners"))
    # the background is 1 count a voxel; a corner of 5 x 5 x 6 voxels knows it to 0.08
    assert found.intensity[16, 16, 16] - bare.intensity[16, 16, 16] == pytest.approx(1, abs=0.15)
    fixed = preprocess.diffraction_volume(scan(intensity), Preprocessing(shape=(32, 32, 32), background=2.0))
    assert fixed.intensity[16, 16, 16] == found.intensity[16, 16, 16] - 2
