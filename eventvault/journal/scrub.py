"""Reading segments again: damage that nobody meets before a disk is lost costs what the database still has today."""

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
    """Reads one segment that was not read for a day with each step, and those that were met damaged.

    What is damaged is set aside; the survey that follows finds its events missing. installation: whose segments are
    looked at. One that is first seen after the first step was just written, and read back if it was merged.
    """

    def __init__(self, folder: JournalFolder, installation: str, now: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._installation = installation
        self._now = now
        self._read: dict[Path, float] | None = None

    def step(self) -> None:
        """May raise OSError."""
        self._folder.retry_unreadable()
        there = self._folder.segments_of(self._installation)
        due = self._due(there)
        for each in there:
            if self._folder.is_suspect(each.path) or each is due:
                self._check(each)

    def _due(self, there: Sequence[Segment]) -> Segment | None:
        now = self._now()
        known, unknown = (self._read, now) if self._read is not None else ({}, now - READ_INTERVAL_SECONDS)
        read = self._read = {each.path: known.get(each.path, unknown) for each in there}
        # At random, so that many short lives of a store do not begin with the same ones.
        longest = min(there, key=lambda each: (read[each.path], random.random()), default=None)
        if longest is None or read[longest.path] > now - READ_INTERVAL_SECONDS:
            return None
        read[longest.path] = now
        return longest

    def _check(self, each: Segment) -> None:
        try:
            segment.read_lines(each)
        except FileNotFoundError:
            pass  # it was merged or removed
        except JournalDamaged as error:
            self._folder.quarantine(error)
        else:
            self._folder.clear(each.path)
