"""The soak's own configurations, of any beamline's."""

from live_bcdi.cli import config_path
from live_bcdi.config import load_config
from live_bcdi.faults.material import write_configs

OWN = """
[stream]
source = "hdf5"
path_map = {"/data" = "/mnt/data"}
keys = "keys"
[tiled]
uri = "http://tiled.beamline:8000"
[storage]
directory = "/data/bcdi"
[jobs]
scheduler = "tcp://scheduler:8786"
"""


def test_a_beamline_with_tables_of_its_own_gets_a_system_apart(tmp_path):
    beamline = tmp_path / "mine.toml"
    beamline.write_text(config_path("34idc").read_text(encoding="utf-8") + OWN, encoding="utf-8")
    mine = load_config(beamline)
    services, detector = (load_config(path) for path in write_configs(tmp_path, beamline))
    assert services.diffractometer == mine.diffractometer and services.detector == mine.detector
    assert services.storage.directory == tmp_path / "runs"
    assert (services.tiled.uri, services.jobs.scheduler, services.stream.keys) == (None, None, None)
    assert not services.stream.recorded
    assert detector.stream.frames != services.stream.frames
    assert detector.changed(stream={"frames": services.stream.frames}) == services
