"""The time left is of all that there is to do, by the pace that was measured."""

from live_bcdi.dynamical import progress
from live_bcdi.dynamical.progress import TimeLeft


def test_seconds_left_are_of_all_parts_by_the_pace_since_it_was_told_first(monkeypatch):
    now, told = [100.0], []
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    whole = TimeLeft(lambda share, text: told.append((share, text)))
    first, second = whole.part(2, 4, "third, "), whole.part(3, 4, "fourth, ")
    first(0.2, "epoch 1")  # two parts, and what came of this one, were done by who was killed
    now[0] += 10.0
    first(0.6, "epoch 3")
    second(1.0, "epoch 5")
    assert told[0] == (0.55, "third, epoch 1")
    assert told[1] == (0.65, "third, epoch 3, 35 s left")  # a tenth of all took 10 s, and 0.35 are left
    assert told[2] == (1.0, "fourth, epoch 5, 0 s left")
