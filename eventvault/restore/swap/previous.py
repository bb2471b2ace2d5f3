"""The previous databases: what restores replaced, so that a restore can be undone.

A swap renames the old database's folder to `STORAGE_DIR/previous-<generation>`: nothing is copied, and nothing writes
there any more. `STORAGE_DIR/kept.json` notes what the folders do not show: when a database was replaced and by what. If
that file is lost, only these notes are lost.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from eventvault import clock, data_folders, small_files
from eventvault.files import matching, remove_durably, rename_durably
from eventvault.printable import is_utf8
from eventvault.progress import Turn
from eventvault.restore.values import RestoredMoment

_OF_GENERATION = re.compile(rf"{data_folders.PREVIOUS_PREFIX}([0-9a-f]{{16}})(-[0-9a-f]{{8}})?")


class PreviousDatabase(msgspec.Struct, frozen=True, kw_only=True):
    """A database that a restore replaced.

    name: of its folder. generation, events: what it holds, None if that could not be read. replaced_at: microseconds
    since the epoch. source: what was restored in its place; moment: to which moment, None for a backup and an undo.
    replaced_by: the generation that replaced it. replacement_events: how many events that one began with; later ones
    were posted since. undone: an undo brought it back, so the registry has all its events again, and it may be removed.
    later_than: 0, unless the clock was behind when it was replaced; then the largest `order` of those before it.
    """

    name: str
    generation: str | None
    replaced_at: int = msgspec.field(name="left")
    events: int | None = None
    source: str | None = None
    replaced_by: str | None = msgspec.field(name="by", default=None)
    replacement_events: int = msgspec.field(name="brought", default=0)
    undone: bool = False
    moment: RestoredMoment | None = None
    later_than: int = msgspec.field(name="laterThan", default=0)

    @property
    def order(self) -> int:
        return clock.order_of(self.replaced_at, self.later_than)


class _Notes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`kept.json`. EventVault 0.1.0 wrote the list alone."""

    format: Literal[1]
    databases: tuple[PreviousDatabase, ...]


class PreviousDatabases:
    """Lists and removes previous databases, but none that an undo or a reader needs.

    in_use: returns whether a reader needs the previous database of that name; called with `lock` held.
    """

    def __init__(self, storage_dir: Path) -> None:
        self.lock = Turn("use of previous databases")
        """Held while a previous database is removed, and while a reader makes a copy of one."""
        self.in_use: Callable[[str], bool] = lambda name: False
        self._storage_dir = storage_dir
        self._to_drop: set[str] = set()
        self._pinned: set[str] = set()

    def folder(self, generation: str) -> Path:
        return self._storage_dir / f"{data_folders.PREVIOUS_PREFIX}{generation}"

    def events(self, name: str) -> int:
        """Return how many events the previous database `name` held when it was replaced; 0 if that is not known."""
        return next((database.events or 0 for database in list_previous(self._storage_dir) if database.name == name), 0)

    def names(self) -> list[str]:
        return [folder.name for folder in matching(self._storage_dir, f"{data_folders.PREVIOUS_PREFIX}*")]

    @contextmanager
    def pinned(self, name: str) -> Iterator[None]:
        """Protect the previous database `name` from removal for as long as the context lasts."""
        with self.lock.held():
            self._pinned.add(name)
        try:
            yield
        finally:
            with self.lock.held():
                self._pinned.discard(name)

    def drop_beyond(self, most: int, names: Iterable[str]) -> None:
        """Remove those of `names` that are not among the newest `most`."""
        self.drop(older_than_newest(list_previous(self._storage_dir), most, names))

    def drop(self, names: Iterable[str]) -> None:
        """Remove these now, or as soon as nobody needs them (`drop_unused`)."""
        with self.lock.held():
            self._to_drop.update(names)
        self.drop_unused()

    def drop_unused(self) -> None:
        """Remove the dropped databases that are not in use any more.

        Renames a folder first: a removal that is killed half-way leaves nothing that looks like a database.
        """
        renamed: list[Path] = []
        try:
            with self.lock.held():
                for name in [name for name in self._to_drop - self._pinned if not self.in_use(name)]:
                    if (self._storage_dir / name).is_dir():
                        temporary = self._storage_dir / f"{data_folders.PAST_PREFIX}{secrets.token_hex(4)}"
                        rename_durably(self._storage_dir / name, temporary)
                        renamed.append(temporary)
                    self._to_drop.discard(name)
        finally:
            for folder in renamed:
                remove_durably(folder)


def folder_name(generation: str | None) -> str:
    """Return the folder's name for a previous database. generation: None if it cannot be read."""
    return data_folders.PREVIOUS_PREFIX + (generation or f"unread-{secrets.token_hex(4)}")


def list_previous(storage_dir: Path) -> list[PreviousDatabase]:
    """Return the previous databases, newest first. Without a note, the folder's time is used.

    A folder whose name is not UTF-8 was not made here, and no note can have its name.
    """
    notes = {note.name: note for note in _notes(storage_dir)}
    folders = [folder for folder in matching(storage_dir, f"{data_folders.PREVIOUS_PREFIX}*") if folder.is_dir()]
    folders = [folder for folder in folders if is_utf8(folder.name)]
    databases = [notes.get(folder.name) or _unnoted(folder) for folder in folders]
    return sorted(databases, key=lambda database: (database.order, database.name), reverse=True)


def note_previous(storage_dir: Path, new: PreviousDatabase | None, undone: str | None = None) -> None:
    """Note durably that `new` was just replaced, and that an undo brought back the previous database `undone`.

    Drops the notes of folders that are gone. May be repeated.
    """
    others = [database for database in list_previous(storage_dir) if new is None or database.name != new.name]
    marked = [
        msgspec.structs.replace(database, undone=database.undone or database.name == undone) for database in others
    ]
    if new is not None and (storage_dir / new.name).is_dir():
        later_than = clock.later_than((database.order for database in others), new.replaced_at)
        marked.append(msgspec.structs.replace(new, later_than=later_than))
    small_files.write(storage_dir / data_folders.PREVIOUS_DATABASES, _Notes(1, tuple(marked)))


def older_than_newest(databases: Sequence[PreviousDatabase], count: int, names: Iterable[str]) -> list[str]:
    """Return those of `names` that are not among the newest `count` of `databases` (newest first)."""
    newest = {database.name for database in [database for database in databases if not database.undone][:count]}
    return [name for name in names if name not in newest]


def _unnoted(folder: Path) -> PreviousDatabase:
    match = _OF_GENERATION.fullmatch(folder.name)
    replaced_at = folder.stat().st_mtime_ns // 1000
    return PreviousDatabase(name=folder.name, generation=match[1] if match else None, replaced_at=replaced_at)


def _notes(storage_dir: Path) -> list[PreviousDatabase]:
    path = storage_dir / data_folders.PREVIOUS_DATABASES
    notes = small_files.read_or_quarantine(path, _Notes, earlier=list[PreviousDatabase])
    return list(notes.databases) if isinstance(notes, _Notes) else notes or []
