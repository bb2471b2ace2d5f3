"""A registry with a history: events at known instants, restores in between, and the moments of all of it."""

from __future__ import annotations

import shutil

import orjson

from eventvault.database.values import ScanQuery
from eventvault.events.event import recorded_of
from eventvault.past.values import PastView
from eventvault.restore.values import Moment
from eventvault.store.ports.store import Store
from eventvault.store.service import StoreService
from tests.restoring import drafts


def post(store: Store, prefix: str, count: int = 1) -> int:
    """Append events and return the recorded time of the last one."""
    store.append(drafts(count, prefix))
    last = store.scan(ScanQuery(limit=1)).last_sequence
    return recorded_of(store.scan(ScanQuery(after=last - 1, limit=1)).events[0])


def ids_at(store: Store, moment: Moment) -> list[str]:
    """The ids of all events of a moment, up to a thousand."""
    return ids_of(store, store.resolve_moment(moment))


def ids_of(store: Store, view: PastView) -> list[str]:
    page = store.scan(ScanQuery(generation=view.generation, upto=view.sequence, limit=1000))
    return [orjson.loads(value)["id"] for value in page.events]


def generation_of(store: Store) -> str:
    generation: str = store.status()["store"]["generation"]
    return generation


def restored_mistakenly(service: StoreService) -> tuple[str, int]:
    """Return the superseded generation and the instant of its last event. Both generations share two events."""
    post(service, "shared", 2)
    name = service.create_backup().backup.name
    left, end = generation_of(service), post(service, "left", 3)
    service.restore(name)
    post(service, "since")
    return left, end


def forget_kept(service: StoreService, *, journal: bool = False) -> None:
    """Remove the previous databases, as KEEP_UNDO further restores would. journal: remove the journal too."""
    if journal:
        service.journal.stop()  # otherwise a merge under way writes once more
        for generation in (service.settings.backup_dir / "journal").iterdir():
            if generation.is_dir():
                shutil.rmtree(generation)
    service.past._started_at -= 3600
    service.past._last_used.clear()
    service.previous.drop(service.previous.names())
