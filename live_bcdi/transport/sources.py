"""The beamline's frames, from where its configuration says they come."""

import re

from ..config import StreamConfig
from ..stream.inline import DocumentSource
from ..stream.sources import FrameSource, Tell
from ..types import ScanError
from .pvaccess import PvaSource, require_pvaccess
from .stream2 import Stream2Source, require_stream2
from .swmr import SwmrSource


def require_source(stream: StreamConfig) -> None:
    """Raises ScanError where the packages for `[stream] source` are not installed, or `frames` is no address."""
    if stream.source == "stream2":
        require_stream2()
        if not re.fullmatch(r"[a-z]+://.+", stream.frames):  # not by connecting: that would take frames of a run
            raise ScanError(f"[stream] frames {stream.frames!r} is no address of stream2; write tcp://host:31001")
    elif stream.source == "pvaccess":
        require_pvaccess()


def frame_source(stream: StreamConfig, tell: Tell) -> FrameSource:
    """The source of `[stream] source`; `tell` gets one line for each kind of fault in a run.

    Raises ScanError where it is our own form, its package is not installed, or `frames` is no address for it.
    """
    if stream.source == "stream2":
        return Stream2Source(stream.frames, tell, stream.channel, stream.monitor)
    if stream.source == "pvaccess":
        return PvaSource(stream.frames, tell, stream.monitor)
    if stream.source == "documents":
        return DocumentSource(tell, stream.channel, stream.monitor)
    if stream.source == "hdf5":
        return SwmrSource(tell, stream.channel, stream.path_map, stream.monitor)
    raise ScanError("frames of our own form need no recorder: they have a file and say their run themselves")
