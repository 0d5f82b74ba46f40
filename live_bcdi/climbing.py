"""From a kinematical result to the one that its crystal needs: which rung, and what it makes of the scan."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from .config import Config, DynamicalConfig, Preprocessing
from .dynamical.constants import Susceptibilities
from .dynamical.frames import Settings
from .dynamical.ladder import Misfits, Rung
from .dynamical.scan import RefinedScan, refine_scan
from .dynamical.start import Placed, frames_of
from .geometry import direct_basis_nm
from .preprocess import as_phased
from .reflection import Reflection, material_of, need_of, sample_of, words
from .refraction import corrected
from .types import (
    BoolArray,
    ComplexArray,
    DiffractionVolume,
    Outcome,
    Reconstruction,
    RockingScan,
    ScanError,
)

Progress = Callable[[float, str], None]

_THRESHOLD = 0.3  # of the median amplitude: what of the detector's grid is crystal


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """The rung for a crystal, and why."""

    rung: Rung
    reflection: Reflection
    misfits: Misfits
    why: str


def needed(scan: RockingScan, result: Reconstruction, config: Config) -> Need:
    """The rung that `[dynamical] rung` says, or, of "auto", the one that this crystal needs. Raises ScanError
    where the material is not known, or there is no image in the lab frame."""
    if result.lab is None:
        raise ScanError("this result has no image in the lab frame: its geometry, or any object, is missing")
    reflection, misfits = need_of(result.lab, scan, config)
    why = words(reflection, misfits, config.dynamical.tolerance)
    return Need(rung=_chosen(misfits, config), reflection=reflection, misfits=misfits, why=why)


def wanted(result: Reconstruction, config: Config) -> Rung | None:
    """The rung of `needed`, by what the result says of itself; None where it does not know."""
    plain, refracted = (result.metrics.get(f"misfit_{model}", np.nan) for model in ("kinematical", "refraction"))
    if not (np.isfinite(plain) and np.isfinite(refracted)):
        return None
    return _chosen(Misfits(kinematical=plain, refraction=refracted), config)


def _chosen(misfits: Misfits, config: Config) -> Rung:
    chosen = config.dynamical.rung
    return misfits.rung(config.dynamical.tolerance) if chosen == "auto" else Rung(chosen)


def climb(
    scan: RockingScan,
    result: Reconstruction,
    need: Need,
    config: Config,
    *,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Reconstruction | None:
    """The crystal on that rung; None where `result` is it already. What phasing did not use (bad pixels, aliens,
    stale frames), took off (background) and corrected by (flat field, monitor) is followed; a dark frame and
    corrected motion are not, nor that the axis turned while frames counted. `checkpoint` is a file that a killed
    refinement goes on from. Raises ScanError for input that cannot be used."""
    if need.rung is Rung.KINEMATICAL:
        return None
    if need.rung is Rung.REFRACTION:
        return _without_refraction(scan, result, need, config)
    prepared = Preprocessing.model_validate_json(result.provenance.get("preprocessing", "{}"))
    counted, level = as_phased(scan, prepared)
    found = refine_scan(
        counted,
        result,
        _constants(need),
        settings_of(config.dynamical, scan, config.phasing.seed),
        smoothings=config.dynamical.smoothings,
        polarisation=need.reflection.polarisation,
        background=level,
        device=config.phasing.device,
        threads=config.phasing.threads,
        checkpoint=checkpoint,
        progress=progress,
    )
    done = _as_result(result, need, found)
    chi = _modulus_error(counted, found, config.dynamical)
    return replace(done, chi=chi, chi_starts=(chi,))


def settings_of(chosen: DynamicalConfig, scan: RockingScan, seed: int) -> Settings:
    """The refinement's, with the prior of the angles in radians."""
    prior = chosen.angle_prior_steps
    steps = np.abs(np.diff(np.sort(scan.angles_deg[np.isfinite(scan.angles_deg)])))
    return Settings(
        epochs=chosen.epochs,
        loss=chosen.loss,
        background=chosen.background,
        angle_prior_rad=None if prior is None else prior * float(np.deg2rad(np.median(steps))),
        seed=seed,
    )


def _constants(need: Need) -> Susceptibilities:
    """With no way back from the diffracted beam on the third rung."""
    chi = need.reflection.chi
    back = chi.chi_hbar if need.rung is Rung.DYNAMICAL else 0j
    return Susceptibilities(chi_0=chi.chi_0, chi_h=chi.chi_h, chi_hbar=back)


def _without_refraction(
    scan: RockingScan, result: Reconstruction, need: Need, config: Config
) -> Reconstruction | None:
    if result.provenance.get("refraction", "").startswith("corrected"):
        return None
    done = corrected(result, scan.geometry, material_of(sample_of(config, scan.metadata)))
    provenance = {**done.provenance, "rung": need.why, "model": need.rung.value}
    return replace(done, metrics={**done.metrics, **_misfits(need)}, provenance=provenance)


def _misfits(need: Need) -> dict[str, float]:
    return {"misfit_kinematical": need.misfits.kinematical, "misfit_refraction": need.misfits.refraction}


def _as_result(result: Reconstruction, need: Need, found: RefinedScan) -> Reconstruction:
    """The kinematical result with the refined crystal in its place; what is said of starts goes."""
    assert result.volume is not None
    density, support = on_detector(found.crystal, result.volume)
    refined = found.refined
    attempts = ", ".join(f"{name} {misfit:.4g}" for name, misfit in found.free_misfits.items())
    told = {
        "rung": need.why,
        "model": need.rung.value,
        "refined": f"{need.reflection}; of the retrieval and its twin the {'twin' if found.twin else 'retrieval'};"
        f" smoothing {found.smoothing:g}; free pixels: {attempts}",
        "refraction": f"in the model, chi_0 = {need.reflection.chi.chi_0:.4g}",
    }
    metrics = {
        **_misfits(need),
        "free_misfit": min(refined.free_misfits),
        "background_counts": refined.background,
        "angle_offset_rms_mdeg": 1e3 * float(np.rad2deg(np.sqrt(np.mean(refined.offsets_rad**2)))),
    }
    return replace(
        result,
        density=density,
        support=support,
        metrics=metrics,
        recipe=f"refine_scan({need.rung.value})",
        outcome=Outcome.DONE,
        lab=found.lab,
        resolution=None,
        agreement=None,
        provenance={**result.provenance, **told},
    )


def _modulus_error(scan: RockingScan, found: RefinedScan, settings: DynamicalConfig) -> float:
    """sum (|A| - sqrt I)^2 / sum I over the pixels, as of a retrieval, of the state that was taken; half of the
    deviance, which Poisson's loss sums, is twice that."""
    frames, _ = frames_of(scan, found.crystal)
    best = int(np.argmin(found.refined.free_misfits))
    misfit = found.refined.misfits[best] / (1 if settings.loss == "amplitude" else 2)
    return float(misfit / frames.counts[frames.used].mean())


def on_detector(crystal: Placed, volume: DiffractionVolume) -> tuple[ComplexArray, BoolArray]:
    """S and what of it is crystal on the grid (rocking, row, column) that is conjugate to `volume`."""
    shape = volume.intensity.shape
    basis_m = 1e-9 * crystal.frame.axes @ direct_basis_nm(volume.q_steps_invA, (shape[0], shape[1], shape[2]))
    at = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij"))
    where = np.tensordot(basis_m / crystal.edges_m[:, None], at, axes=1)
    where += np.reshape([n // 2 for n in crystal.density.shape], (3, 1, 1, 1))
    parts = [
        ndimage.map_coordinates(part, where, order=1, cval=0.0)
        for part in (crystal.density.real, crystal.density.imag)
    ]
    density = np.asarray(parts[0] + 1j * parts[1], np.complex64)
    amplitude = np.abs(density)
    return density, amplitude > _THRESHOLD * np.median(amplitude[amplitude > 0.5 * amplitude.max()])
