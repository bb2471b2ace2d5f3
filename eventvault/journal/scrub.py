"""The journal's scrub: reads segments again, to find damage while the database still holds their events."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from eventvault.errors import JournalDamaged
from eventvault.journal import segment
from eventvault.journal.folder import JournalFolder
from eventvault.journal.segment import Segment

READ_INTERVAL_SECONDS = 24 * 60 * 60.0


class SegmentScrub:
    """Reads, in each step, the suspects and one segment that was not read for a day.

    A damaged segment is quarantined; the next survey finds its events missing. installation: the owner of the segments.
    A segment that appears after the first step counts as read, because it was just written.
    """

    def __init__(self, folder: JournalFolder, installation: str, now: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._installation = installation
        self._now = now
        self._last_read: dict[Path, float] | None = None

    def step(self) -> None:
        """Read the suspects and one segment that is due. May raise OSError."""
        self._folder.retry_unreadable()
        segments = self._folder.segments_of(self._installation)
        due = self._choose_due(segments)
        for candidate in segments:
            if self._folder.is_suspect(candidate.path) or candidate is due:
                self._check(candidate)

    def _choose_due(self, segments: Sequence[Segment]) -> Segment | None:
        now = self._now()
        before, default = ({}, now - READ_INTERVAL_SECONDS) if self._last_read is None else (self._last_read, now)
        last_read = self._last_read = {segment.path: before.get(segment.path, default) for segment in segments}
        # Ties are broken at random, so that a store that restarts often does not begin with the same segments.
        oldest = min(segments, key=lambda segment: (last_read[segment.path], random.random()), default=None)  # nosec B311
        if oldest is None or last_read[oldest.path] > now - READ_INTERVAL_SECONDS:
            return None
        last_read[oldest.path] = now
        return oldest

    def _check(self, candidate: Segment) -> None:
        try:
            segment.read_lines(candidate)
        except FileNotFoundError:
            pass  # it was merged or removed
        except JournalDamaged as error:
            self._folder.quarantine(error)
        else:
            self._folder.clear_suspect(candidate.path)
