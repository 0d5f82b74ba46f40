"""The beamline's frames, from where its configuration says they come."""

from ..config import StreamConfig
from ..stream.inline import DocumentSource
from ..stream.sources import FrameSource, Tell
from .pvaccess import PvaSource
from .stream2 import Stream2Source
from .zmq import FrameSubscriber


def frame_source(stream: StreamConfig, tell: Tell) -> FrameSource:
    """The source of `[stream] source`; `tell` gets one line for each kind of fault in a run.

    Raises ScanError where the package for it is not installed.
    """
    if stream.source == "stream2":
        return Stream2Source(stream.frames, tell, stream.channel)
    if stream.source == "pvaccess":
        return PvaSource(stream.frames, tell)
    if stream.source == "documents":
        return DocumentSource(tell, stream.channel)
    return FrameSubscriber(stream.frames)
