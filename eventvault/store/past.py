"""Generations that a restore left behind, for the scans and exports that began in them.

The swap keeps the old database's folder. A reader that holds its generation is served from a private copy of it
(tables by hard link), so that what is kept is never written to.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eventvault.errors import GenerationLeftBehind
from eventvault.files import remove_durably
from eventvault.store.bus import EventBus
from eventvault.store.generation import StoreIdentity
from eventvault.store.interface import Page, ScanQuery
from eventvault.store.kept import KEPT_PREFIX, beyond, kept
from eventvault.store.paging import scan

COPY_PREFIX = ".past-"
UNHELD_SECONDS = 30.0
"""A reader whose store was taken over has this long to say again what it holds."""


class Past:
    """The databases that were left behind and are kept."""

    def __init__(self, storage_dir: Path) -> None:
        self._storage_dir = storage_dir
        self._lock = threading.Lock()
        self._open: dict[str, EventBus] = {}
        self._holders: dict[object, str] = {}
        self._last_held: dict[str, float] = {}
        self._droppable: set[str] = set()
        self._staying: set[str] = set()
        self._began = time.monotonic()

    def folder(self, generation: str) -> Path:
        return self._storage_dir / f"{KEPT_PREFIX}{generation}"

    def hold(self, generation: str, holder: object) -> None:
        with self._lock:
            self._holders[holder] = generation

    def release(self, holder: object) -> None:
        with self._lock:
            generation = self._holders.pop(holder, None)
            if generation is not None:
                self._last_held[generation] = time.monotonic()

    @contextmanager
    def staying(self, name: str) -> Iterator[None]:
        """The kept database `name` is not removed as long as the context lasts."""
        with self._lock:
            self._staying.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._staying.discard(name)

    def scan(self, identity: StoreIdentity, query: ScanQuery) -> Page | ScanQuery:
        """A page of the generation that `query` names, or the query to ask the present one.

        What the two share is read from the present. Raises GenerationLeftBehind for what lies beyond the fork and
        is not kept, or was not asked for as a fixed range (`upto`).
        """
        generation = query.generation or identity.generation
        common = identity.last_common(generation)
        reach = query.after if query.upto is None else query.upto
        if generation == identity.generation or (common is not None and reach <= common):
            return query
        # A generation that is not known is a caller's text, and no part of a path.
        if query.upto is not None and common is not None and self.folder(generation).is_dir():
            with self._bus(generation).using() as registry:
                return scan(registry, query)
        raise GenerationLeftBehind(
            f"generation {generation} was left behind by a restore, and event {reach} lies beyond the fork",
            hint="begin again without a cursor: GET /api/events",
            generation=identity.generation,
            forkSequence=common,
        )

    def tidy(self) -> None:
        """Close and remove the copies that nobody has read for a while, and what they were made of."""
        with self._lock:
            idle = [generation for generation in self._open if not self._held(generation)]
            buses = [self._open.pop(generation) for generation in idle]
        for bus in buses:
            bus.close()
            remove_durably(bus.database)
        self._drop()

    def kept(self) -> list[str]:
        """The names of the folders that restores left behind."""
        return sorted(folder.name for folder in self._storage_dir.glob(f"{KEPT_PREFIX}*"))

    def drop_beyond(self, most: int, names: Iterable[str]) -> None:
        """Of `names`, remove those that are not among the newest `most` that restores left behind."""
        self.drop_kept(beyond(kept(self._storage_dir), most, names))

    def drop_kept(self, names: Iterable[str]) -> None:
        """Remove what was left behind; what a reader still holds goes once it does not."""
        with self._lock:
            self._droppable.update(names)
        self._drop()

    def _drop(self) -> None:
        with self._lock:
            names = [name for name in self._droppable - self._staying if not self._held(name.removeprefix(KEPT_PREFIX))]
            self._droppable.difference_update(names)
        for name in names:
            remove_durably(self._storage_dir / name)

    def _held(self, generation: str) -> bool:
        recent = max(self._last_held.get(generation, 0.0), self._began)
        return generation in self._holders.values() or time.monotonic() - recent < UNHELD_SECONDS

    def _bus(self, generation: str) -> EventBus:
        with self._lock:
            self._last_held[generation] = time.monotonic()
            if generation not in self._open:
                self._open[generation] = self._opened_copy(generation)
            return self._open[generation]

    def _opened_copy(self, generation: str) -> EventBus:
        """In a folder of its own each time: the one before may still be on its way out."""
        copy = self._storage_dir / f"{COPY_PREFIX}{generation}-{secrets.token_hex(4)}"
        try:
            copy_database(self.folder(generation), copy)
            bus = EventBus(copy)
            bus.init([])
        except BaseException:
            remove_durably(copy)
            raise
        return bus


class Held:
    """A hold in the process that has the databases."""

    def __init__(self, past: Past, holder: object) -> None:
        self._past = past
        self._holder = holder

    def __enter__(self) -> Held:
        return self

    def renew(self) -> None:
        """Nothing to do in the process that holds."""

    def __exit__(self, *_: object) -> None:
        self._past.release(self._holder)


def copy_database(folder: Path, target: Path) -> None:
    """A private, openable copy of a database that nobody has open: tables by hard link, the rest by bytes."""
    remove_durably(target)
    target.mkdir()
    for file in folder.iterdir():
        if file.suffix in (".ldb", ".sst"):
            try:
                (target / file.name).hardlink_to(file)
            except OSError:
                shutil.copyfile(file, target / file.name)
        elif file.name == "CURRENT" or file.name.startswith("MANIFEST-") or file.suffix == ".log":
            shutil.copyfile(file, target / file.name)
