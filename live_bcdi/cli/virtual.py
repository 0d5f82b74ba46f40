"""Verbs for the beamline that is not there: ioc; and, hidden, what `demo --operando` starts."""

import asyncio
import json
from typing import Annotated

import typer

from .. import log
from ..config import load_config
from .app import DEFAULT_CONFIG, ConfigOption, app, config_path, screen
from .live import stop_on_sigterm


@app.command()
def ioc(
    prefix: Annotated[str, typer.Option(help="What the names of all PVs begin with.")] = "VB:",
    speed: Annotated[float, typer.Option(help="Simulated seconds a second.")] = 1.0,
    misaligned: Annotated[float, typer.Option(min=0.0, help="Degrees, at most.")] = 0.5,
    misplaced: Annotated[float, typer.Option(min=0.0, help="Micrometres, at most.")] = 10.0,
    rough: Annotated[
        bool, typer.Option("--rough", help="Drift, kicks, backlash, beam trips, neighbours.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Which crystal, which mishaps.")] = 0,
    interface: Annotated[str, typer.Option(help="The address to serve at.")] = "127.0.0.1",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Serve a virtual beamline as EPICS PVs until Ctrl-C: motors, an areaDetector, attenuator, shutter, ring."""
    from ..sim.hazards import ROUGH
    from ..sim.ioc import VirtualIoc
    from ..sim.scenes import virtual_beamline

    beamline = virtual_beamline(
        load_config(config_path(config)),
        misaligned_deg=misaligned,
        misplaced_um=misplaced,
        neighbours=3 if rough else 0,
        powder=rough,
        hazards=ROUGH if rough else None,
        seed=seed,
    )
    server = VirtualIoc(beamline, prefix=prefix, speed=speed)

    def ready() -> None:
        motors = ", ".join(f"{prefix}{motor}" for motor in beamline.axes)
        screen.print(f"motors {motors}; detector {prefix}cam1:, {prefix}HDF1:   (Ctrl-C ends it)", soft_wrap=True)

    with stop_on_sigterm() as leaving:
        leaving.status = 0
        asyncio.run(server.run([interface], ready=ready))


@app.command(hidden=True)
def experiment(
    states: int = 6,
    rate: float = 0.0,
    seed: int = 0,
    config: str = DEFAULT_CONFIG,
) -> None:
    """The beamline's side of `demo --operando`: the virtual beamline, its devices and the RunEngine."""
    from live_bcdi_plans.experiment import experiment as measure

    settings = load_config(config_path(config))
    log.configure("acquire", settings.storage.directory, settings.log_level, stderr=False)
    print(json.dumps({"steps": measure(settings, states=states, rate_hz=rate, seed=seed)}))
