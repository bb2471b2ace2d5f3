"""What a loss of STORAGE_DIR at this instant would cost (RPO), in events and in seconds."""

from __future__ import annotations

from typing import NamedTuple

from eventvault import clock
from eventvault.database.bus import EventBus
from eventvault.errors import EventVaultError
from eventvault.events import event


class Risk(NamedTuple):
    """events: how many would be lost. seconds: the age of the oldest of them. None if no database is open."""

    events: int | None = None
    seconds: float | None = None


def risk_of(bus: EventBus, generation: str | None, reach: int, now: clock.Clock = clock.now) -> Risk:
    """Return which live events would be lost, if the events up to `reach` of `generation` can be restored.

    Find out `reach` before the call: events that are recorded in between then count as lost, so the answer is never too
    small. generation: None for events that share nothing with the live ones.
    """
    try:
        with bus.using() as registry:
            shared = None if generation is None else registry.identity.last_common(generation)
            restorable, last = min(reach, shared or 0), registry.last_sequence
            if last <= restorable:
                return Risk(0, 0.0)
            oldest = event.recorded_of(registry.at(restorable + 1))
            return Risk(last - restorable, round(max(0.0, (now() - oldest) / 1e6), 3))
    except EventVaultError:
        return Risk()
