"""Frames that travel inside Event documents, as classic ophyd detectors without a file writer give them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..types import Frame
from .sources import Exposure, Labeller, Tell


class DocumentSource:
    """A `FrameSource` of the one two-dimensional array in the events of the `primary` stream.

    Where there are several, `key` says which. A page of events has as many frames as events.
    """

    socket = None
    rereads = True

    def __init__(self, tell: Tell, key: str | None = None, monitor: str | None = None) -> None:
        self.labels = Labeller(tell, first=1, monitor=monitor, prompt=False)  # events are numbered from 1
        self._wanted = key
        self._keys: dict[str, tuple[str, str | None]] = {}  # descriptor -> data key of its frames, and their dtype

    def document(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take a document, and the frames in it."""
        before = self.labels.run
        self.labels.document(name, doc)
        if self.labels.run != before:
            self._keys.clear()
        if name == "descriptor":
            self._describe(doc)
        elif name == "event":
            self._take(doc, doc.get("seq_num"), lambda values: values)
        elif name == "event_page":
            numbers = doc.get("seq_num")
            for row, number in enumerate(numbers if isinstance(numbers, list | tuple) else ()):
                self._take(doc, number, lambda values, row=row: values[row])

    def _describe(self, doc: Mapping[str, Any]) -> None:
        if doc.get("name") != "primary" or doc.get("run_start") != self.labels.run:
            return
        found = dict(_pictures(doc.get("data_keys")))
        wanted = [key for key in found if self._wanted in (None, key)]
        if len(wanted) == 1:
            self._keys[str(doc.get("uid"))] = (wanted[0], found[wanted[0]])
        else:
            pictures = ", ".join(found) or "none"
            text = f"the events have {len(found)} pictures ({pictures}): set [stream] channel to one"
            self.labels.complaints.say("a choice of pictures", text)

    def _take(self, doc: Mapping[str, Any], number: Any, pick: Any) -> None:
        key, dtype = self._keys.get(str(doc.get("descriptor")), (None, None))
        if key is None:
            return
        try:
            image = np.asarray(pick(doc["data"][key]), dtype).squeeze()
            time_s = float(pick(doc["timestamps"][key]))
            if image.ndim != 2 or image.dtype.kind not in "iuf":
                raise ValueError(f"{image.shape} {image.dtype}")
            self.labels.take(Exposure(number=int(number), timestamp_s=time_s, image=image))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
            text = f"event {number}: {key} is no picture of (rows, columns) counts: {error}"
            self.labels.complaints.say("an event without a usable picture", text)

    def receive(self, timeout_s: float) -> Iterator[Frame]:
        """Frames of the documents so far."""
        return self.labels.ready()

    def late_s(self) -> float:
        return 0.0

    def close(self) -> None:
        """There is nothing to close."""


def _pictures(keys: Any) -> Iterator[tuple[str, str | None]]:
    """Data keys whose values are two-dimensional and inside the events, with their dtype where it is told."""
    for key, about in keys.items() if isinstance(keys, Mapping) else ():
        shape = about.get("shape") if isinstance(about, Mapping) else None
        edges = [edge for edge in shape if edge != 1] if isinstance(shape, list | tuple) else []
        if len(edges) == 2 and not about.get("external"):
            yield key, about.get("dtype_numpy")
