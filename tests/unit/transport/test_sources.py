"""`[stream] source` gives the source that it names."""

import pytest

from live_bcdi.config import StreamConfig, parse_config
from live_bcdi.stream.inline import DocumentSource
from live_bcdi.transport.pvaccess import PvaSource
from live_bcdi.transport.sources import frame_source, require_source
from live_bcdi.transport.stream2 import Stream2Source
from live_bcdi.transport.swmr import SwmrSource
from live_bcdi.types import ScanError

KINDS = {
    "stream2": (Stream2Source, "tcp://127.0.0.1:1"),
    "pvaccess": (PvaSource, "NO:SUCH:PV"),
    "hdf5": (SwmrSource, "tcp://127.0.0.1:1"),
    "documents": (DocumentSource, "tcp://127.0.0.1:1"),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_named_source_is_made(name, monkeypatch):
    monkeypatch.setenv("EPICS_PVA_AUTO_ADDR_LIST", "NO")  # ask nobody on the network of whoever runs this
    kind, frames = KINDS[name]
    source = frame_source(StreamConfig(source=name, frames=frames), print)
    assert type(source) is kind
    source.close()


def test_our_own_form_needs_no_source():
    with pytest.raises(ScanError, match="need no recorder"):
        frame_source(StreamConfig(), print)


def test_another_name_is_refused_with_those_there_are():
    table = {
        "beamline": "x",
        "diffractometer": {"rocking": "theta", "sample": [{"motor": "theta", "axis": "y+"}]},
        "detector": {"pixel_um": [55, 55], "arm_pixel": [3, 2], "rows": "y-", "columns": "x+"},
        "stream": {"source": "stream3"},
    }
    with pytest.raises(ScanError, match=r"stream\.source: .*'stream2', 'pvaccess', 'documents' or 'hdf5'"):
        parse_config(table)


def test_an_address_that_is_none_is_said_before_anything_starts():
    require_source(StreamConfig(source="stream2", frames="tcp://dcu.beamline:31001"))
    with pytest.raises(ScanError, match="no address of stream2"):
        require_source(StreamConfig(source="stream2", frames="dcu.beamline"))
