"""What becomes of the recovery window and of the journal if archives are removed. Nothing is removed here.

The recovery window is what `backups/` alone can restore, as after the loss of `storage/`. Archives hold prefixes of a
history, so the newest one reaches back to its beginning. Older ones matter for generations that a restore replaced.
What only the database would hold of the current generation, the journal writes before an archive is removed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from eventvault.backups.entry import BackupEntry
from eventvault.journal.compaction import find_unneeded
from eventvault.journal.folder import JournalFolder
from eventvault.journal.segment import Segment
from eventvault.restore.moments import plan as plans
from eventvault.restore.moments.family import Extent, Family
from eventvault.restore.moments.locate import MomentLocator
from eventvault.restore.moments.plan import Live, Sources


class RemovalEffect:
    """Describes removals of archives. Raises OSError, or BackupsUnavailable if BACKUP_DIR is missing."""

    def __init__(self, locator: MomentLocator, journal: JournalFolder, installation: str) -> None:
        self._locator = locator
        self._journal = journal
        self._installation = installation

    def describe(self, entries: Sequence[BackupEntry], removed: Collection[str]) -> dict[str, Any]:
        """Return the members `window`, `lost` and `journal` of a plan. entries: all archives."""
        staying = [entry for entry in entries if entry.name not in removed]
        unneeded = self._unneeded(staying)
        return {**self._windows(removed, unneeded), "journal": self._describe_journal(entries, staying, unneeded)}

    def _windows(self, removed: Collection[str], unneeded: Sequence[Segment]) -> dict[str, Any]:
        sources = self._locator.find_sources()
        before = _without_live(self._locator.only_ours(sources))
        paths, current = {segment.path for segment in unneeded}, self._locator.current_generation(sources)
        had = Family(before, current).extents
        after = msgspec.structs.replace(
            before,
            archives=[entry for entry in before.archives if entry.name not in removed],
            segments=[segment for segment in before.segments if segment.path not in paths],
            live=_journaled_before(sources.live, had),
        )
        windows = {"before": self._window(sources, before, current), "after": self._window(sources, after, current)}
        has = Family(after, current).extents
        ends = ((generation, had[generation].reach, has[generation].reach) for generation in before.generations)
        return {
            "window": windows,
            "lost": [
                {"generation": generation, "lastSequence": {"before": first, "after": later}}
                for generation, first, later in ends
                if later < first
            ],
        }

    def _window(self, sources: Sources, available: Sources, generation: str | None) -> dict[str, Any] | None:
        """Return {oldest, newest}, or None if nothing can be recovered. sources: tell the times."""
        if generation is None or not (available.archives or available.segments or available.live):
            return None
        reach = plans.last_reachable(available, generation) if generation in available.generations else 0
        return {"oldest": self._locator.describe_moment(sources, generation, 0),
                "newest": self._locator.describe_moment(sources, generation, reach)}  # fmt: skip

    def _describe_journal(
        self, entries: Sequence[BackupEntry], staying: Sequence[BackupEntry], unneeded: Sequence[Segment]
    ) -> dict[str, Any]:
        """Return how large the journal is and will be, and what the oldest archive that stays holds of it alone."""
        ours = sorted((entry for entry in staying if entry.origin == "created"), key=lambda entry: entry.created)
        total, now = _bytes_of(self._segments()), _bytes_of(self._unneeded(entries))
        after = _bytes_of(unneeded)
        without = _bytes_of(self._unneeded([entry for entry in staying if entry is not ours[0]])) if ours[1:] else after
        return {
            "bytes": total - now,
            "bytesAfter": total - after,
            "oldestBackup": ours[0].name if ours else None,
            "bytesForOldest": max(0, without - after),
        }

    def _segments(self) -> list[Segment]:
        return self._journal.segments_of(self._installation)

    def _unneeded(self, entries: Sequence[BackupEntry]) -> Sequence[Segment]:
        identity = self._locator.identity()
        return find_unneeded(self._journal, self._segments(), entries, identity).segments if identity else ()


def _journaled_before(live: Live | None, had: Mapping[str, Extent]) -> Live | None:
    """Return the open database as far as `backups/` held it: that much the journal writes, if it must."""
    if live is None or live.generation not in had or not had[live.generation].reach:
        return None
    return Live(live.generation, min(live.sequence, had[live.generation].reach))


def _without_live(sources: Sources) -> Sources:
    return msgspec.structs.replace(sources, live=None)


def _bytes_of(segments: Sequence[Segment]) -> int:
    return sum(segment.size for segment in segments)
