"""A service without a system: its updates go nowhere, its files to a folder of the test."""

import pytest

from live_bcdi.config import parse_config
from live_bcdi.stream.updates import RecordingSink
from live_bcdi_consumers.service import Service


@pytest.fixture
def service(tmp_path):
    config = parse_config(
        {
            "beamline": "test",
            "diffractometer": {"rocking": "theta", "sample": [{"motor": "theta", "axis": "y+"}]},
            "detector": {"pixel_um": [55, 55], "arm_pixel": [3, 2], "rows": "y-", "columns": "x+"},
            "storage": {"directory": str(tmp_path)},
            "phasing": {"recipe": "2*ER", "starts": 1, "threads": 1},
        }
    )
    made = Service("test", config)
    made.updates.close()
    made.updates = RecordingSink()
    return made
