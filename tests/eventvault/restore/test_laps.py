"""The parts of a restore are measured one after the other."""

from __future__ import annotations

from eventvault.restore.laps import Laps


def test_each_part_takes_the_time_since_the_part_before() -> None:
    instants = iter([10.0, 12.5, 13.0, 17.0])
    laps = Laps(lambda: next(instants))

    for part in ("unpack", "verify", "unpack"):
        laps.end(part)

    assert laps.seconds == {"unpack": 6.5, "verify": 0.5}
