"""The double of the past reader: a moment is a prefix of a generation's events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eventvault.database.values import ScanQuery
from eventvault.errors import EventNotFound
from eventvault.operations.operation import Operation, current
from eventvault.past.copy_into_present import copy_events_to_present
from eventvault.past.diff import diff_page
from eventvault.past.exports import Exports
from eventvault.past.values import CopyResult, DiffPage, DiffQuery, Exported, PastView
from eventvault.restore.values import Moment
from eventvault.store.memory import moments
from eventvault.store.memory.event_log import MemoryEventLog
from eventvault.store.memory.state import MemoryState, common_length, sequences_of
from eventvault.store.ports.past_reader import PastReader


class MemoryPastReader(PastReader):
    def __init__(self, state: MemoryState, event_log: MemoryEventLog, exports: Exports) -> None:
        self._state = state
        self._event_log = event_log
        self._exports = exports

    def resolve_moment(self, moment: Moment) -> PastView:
        with self._state.lock:
            if moment.archive is not None:
                return self._open_archive(moment.archive)
            return PastView(*moments.find(self._state, moment))

    def _open_archive(self, name: str) -> PastView:
        events = self._state.generations[f"archive-{name}"] = self._state.archives.events(name)
        return PastView(f"archive-{name}", len(events), self._state.archives.entry(name).generation)

    def last_common(self, one: str, other: str) -> int | None:
        with self._state.lock:
            generations = self._state.generations
            if not {one, other} <= generations.keys():
                return None
            return common_length(generations[one], generations[other])

    def diff(self, query: DiffQuery) -> DiffPage:
        with self._state.lock:
            one, other = (_Events(self._state.generations[view.generation]) for view in (query.one, query.other))
            return diff_page(query, one, other, 0)

    def copy_events_to_present(self, query: ScanQuery) -> CopyResult:
        return copy_events_to_present(query, self._event_log, current())

    def check_export(self, query: ScanQuery) -> None:
        self._exports.check_room(query)

    def export_events(self, query: ScanQuery, *, operation: Operation | None = None) -> Exported:
        return self._exports.write(query, query.generation, operation or Operation())

    def export_path(self, operation_id: str) -> str:
        return str(self._exports.path(operation_id))


class _Events:
    """Events in a list, read as `diff_page` reads a registry."""

    encoded_upto = 0

    def __init__(self, values: Sequence[bytes]) -> None:
        self._values = values
        self._sequences = sequences_of(values)

    def events(self, after: int, upto: int) -> Iterator[tuple[int, bytes]]:
        return ((number + 1, self._values[number]) for number in range(after, min(upto, len(self._values))))

    def find(self, event_id: str, source: str | None = None) -> int:
        if (source, event_id) not in self._sequences:
            raise EventNotFound(f"there is no event with the id {event_id!r}", hint="GET /api/events lists them")
        return self._sequences[str(source), event_id]

    def at(self, sequence: int) -> bytes:
        return self._values[sequence - 1]
