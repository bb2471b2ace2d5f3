"""Reads the past from the current database, from previous ones and from copies that `eventvault.past` makes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from eventvault.database.bus import EventBus
from eventvault.database.values import ScanQuery
from eventvault.operations.operation import Operation
from eventvault.past.copy_into_present import copy_events_to_present
from eventvault.past.exports import Exports
from eventvault.past.values import CopyResult, DiffPage, DiffQuery, Exported, PastView
from eventvault.past.views import Views
from eventvault.restore.values import Moment
from eventvault.store.lifecycle import Lifecycle
from eventvault.store.ports.event_log import EventLog
from eventvault.store.ports.past_reader import PastReader


class PastReaderOwner(PastReader):
    """on_copied: called with the query once all its events were appended to the registry."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        bus: EventBus,
        views: Views,
        event_log: EventLog,
        exports: Exports,
        on_copied: Callable[[ScanQuery], None],
    ) -> None:
        self._lifecycle = lifecycle
        self._bus = bus
        self._views = views
        self._event_log = event_log
        self._exports = exports
        self._on_copied = on_copied

    def resolve_moment(self, moment: Moment) -> PastView:
        self._lifecycle.check_readable()
        return self._views.resolve_moment(moment)

    def last_common(self, one: str, other: str) -> int | None:
        self._lifecycle.check_readable()
        with self._bus.using() as registry:
            return registry.identity.last_common(one, other)

    def diff(self, query: DiffQuery) -> DiffPage:
        self._lifecycle.check_readable()
        return self._views.diff(query)

    def copy_events_to_present(self, query: ScanQuery, *, operation: Operation | None = None) -> CopyResult:
        self._lifecycle.check_readable()
        view_or_generation = query.generation or ""
        with self._event_log.lease_generation(view_or_generation):
            self._views.build_again(view_or_generation)  # first: it sets a step, which would end the copy's own step
            result = copy_events_to_present(query, self._event_log, operation or Operation())
        generation = self._views.generation_of(view_or_generation)
        self._on_copied(msgspec.structs.replace(query, generation=generation))
        return result

    def check_export(self, query: ScanQuery) -> None:
        self._exports.check_room(query)

    def export_events(self, query: ScanQuery, *, operation: Operation | None = None) -> Exported:
        self._lifecycle.check_readable()
        generation = self._views.generation_of(query.generation or "")
        return self._exports.write(query, generation, operation or Operation())

    def export_path(self, operation_id: str) -> str:
        return str(self._exports.path(operation_id))
