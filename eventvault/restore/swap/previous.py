"""The databases that restores left behind and that are kept, so that a restore can be undone.

A swap keeps the old database's folder by renaming it to `STORAGE_DIR/previous-<generation>`: nothing is copied, and
nothing is written there any more. `STORAGE_DIR/kept.json` says what the folders do not show: when each was left and
what took its place. Without it nothing but that is lost.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from eventvault import data_folders
from eventvault.files import remove_durably, rename_durably, write_durably

_OF_GENERATION = re.compile(rf"{data_folders.PREVIOUS_PREFIX}([0-9a-f]{{16}})(-[0-9a-f]{{8}})?")


class PreviousDatabase(msgspec.Struct, frozen=True, kw_only=True):
    """One database that was left behind.

    name: of its folder. generation, events: what it holds, None where that could not be read. left: when it was
    left, in microseconds since the epoch. source: what was restored in its place. by: the generation that took its
    place. brought: how many events that one began with; what is beyond them was posted since. undone: it was brought
    back, so all that it holds is in the registry again, and it may go.
    """

    name: str
    generation: str | None
    left: int
    events: int | None = None
    source: str | None = None
    by: str | None = None
    brought: int = 0
    undone: bool = False


class PreviousDatabases:
    """Lists and removes previous databases, but none that an undo or a reader needs.

    in_use: whether a reader needs the previous database of that name; called with `lock` held.
    """

    def __init__(self, storage_dir: Path) -> None:
        self.lock = threading.Lock()
        """Held while a previous database is removed, and while a reader makes a copy of one."""
        self.in_use: Callable[[str], bool] = lambda name: False
        self._storage_dir = storage_dir
        self._to_drop: set[str] = set()
        self._pinned: set[str] = set()

    def folder(self, generation: str) -> Path:
        return self._storage_dir / f"{data_folders.PREVIOUS_PREFIX}{generation}"

    def events(self, name: str) -> int:
        """How many events the previous database `name` held when it was replaced; 0 if that is not known."""
        return next((database.events or 0 for database in kept(self._storage_dir) if database.name == name), 0)

    def names(self) -> list[str]:
        return sorted(folder.name for folder in self._storage_dir.glob(f"{data_folders.PREVIOUS_PREFIX}*"))

    @contextmanager
    def pinned(self, name: str) -> Iterator[None]:
        """The previous database `name` is not removed as long as the context lasts."""
        with self.lock:
            self._pinned.add(name)
        try:
            yield
        finally:
            with self.lock:
                self._pinned.discard(name)

    def drop_beyond(self, most: int, names: Iterable[str]) -> None:
        """Of `names`, remove those that are not among the newest `most`."""
        self.drop(beyond(kept(self._storage_dir), most, names))

    def drop(self, names: Iterable[str]) -> None:
        """Remove these now, or as soon as nobody needs them (`drop_unused`)."""
        with self.lock:
            self._to_drop.update(names)
        self.drop_unused()

    def drop_unused(self) -> None:
        """Remove what was to be dropped and is in use no longer.

        A folder is renamed first: a removal that is killed half-way leaves nothing that looks like a database.
        """
        renamed: list[Path] = []
        try:
            with self.lock:
                for name in [name for name in self._to_drop - self._pinned if not self.in_use(name)]:
                    if (self._storage_dir / name).is_dir():
                        temporary = self._storage_dir / f"{data_folders.PAST_PREFIX}{secrets.token_hex(4)}"
                        rename_durably(self._storage_dir / name, temporary)
                        renamed.append(temporary)
                    self._to_drop.discard(name)
        finally:
            for folder in renamed:
                remove_durably(folder)


def name_of(generation: str | None) -> str:
    """Of the folder in which a database of that generation is kept; None: of one that cannot be read."""
    return data_folders.PREVIOUS_PREFIX + (generation or f"unread-{secrets.token_hex(4)}")


def kept(storage_dir: Path) -> list[PreviousDatabase]:
    """Those there are, newest first. A folder without a note counts as left when it was last changed."""
    notes = {note.name: note for note in _notes(storage_dir)}
    folders = [folder for folder in storage_dir.glob(f"{data_folders.PREVIOUS_PREFIX}*") if folder.is_dir()]
    found = [notes.get(folder.name) or _unnoted(folder) for folder in folders]
    return sorted(found, key=lambda each: (each.left, each.name), reverse=True)


def note_kept(storage_dir: Path, new: PreviousDatabase | None, undone: str | None = None) -> None:
    """Note the one that was left just now, and the name of the one that was brought back, durably.

    Notes of folders that are gone are dropped. May be done again.
    """
    others = [each for each in kept(storage_dir) if new is None or each.name != new.name]
    marked = [msgspec.structs.replace(each, undone=each.undone or each.name == undone) for each in others]
    present = [new] if new is not None and (storage_dir / new.name).is_dir() else []
    write_durably(storage_dir / data_folders.PREVIOUS_DATABASES, msgspec.json.encode([*marked, *present]))


def beyond(found: Sequence[PreviousDatabase], most: int, candidates: Iterable[str]) -> list[str]:
    """The names in `candidates` that are not among the newest `most` of `found` (newest first)."""
    spared = {each.name for each in [each for each in found if not each.undone][:most]}
    return [name for name in candidates if name not in spared]


def _unnoted(folder: Path) -> PreviousDatabase:
    match = _OF_GENERATION.fullmatch(folder.name)
    return PreviousDatabase(
        name=folder.name, generation=match[1] if match else None, left=folder.stat().st_mtime_ns // 1000
    )


def _notes(storage_dir: Path) -> list[PreviousDatabase]:
    try:
        return msgspec.json.decode(
            (storage_dir / data_folders.PREVIOUS_DATABASES).read_bytes(), type=list[PreviousDatabase]
        )
    except (FileNotFoundError, msgspec.MsgspecError):
        return []
