"""What archives take on the disk together: blocks that several of them share count once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from eventvault.backups.entry import BackupEntry

RunsOfArchives = Mapping[str, Mapping[int, int]]
"""Name of an archive → the runs that it shares: number → bytes (`SharedRuns.runs_of_archives`)."""


class SharedSize:
    """The bytes of some archives, while they are removed one after another."""

    def __init__(self, entries: Iterable[BackupEntry], runs: RunsOfArchives) -> None:
        self.bytes = 0
        self._runs = runs
        self._holders: Counter[int] = Counter()
        for entry in entries:
            self.bytes += entry.size - self._shared_with_others(entry)
            self._holders.update(runs.get(entry.name, {}).keys())

    def remove(self, entry: BackupEntry) -> int:
        """Remove an archive from the sum. Returns how many bytes become free."""
        self._holders.subtract(self._runs.get(entry.name, {}).keys())
        freed = entry.size - self._shared_with_others(entry)
        self.bytes -= freed
        return freed

    def _shared_with_others(self, entry: BackupEntry) -> int:
        """Return the bytes of this archive that another one holds too."""
        return sum(size for number, size in self._runs.get(entry.name, {}).items() if self._holders[number] > 0)
