"""The databases that restores left behind and that are kept, so that a restore can be undone.

A swap keeps the old database's folder by renaming it to `STORAGE_DIR/previous-<generation>`: nothing is copied, and
nothing is written there any more. `STORAGE_DIR/kept.json` says what the folders do not show: when each was left and
what took its place. Without it nothing but that is lost.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from eventvault.files import write_durably

KEPT_PREFIX = "previous-"
NOTES_NAME = "kept.json"
_OF_GENERATION = re.compile(rf"{KEPT_PREFIX}([0-9a-f]{{16}})(-[0-9a-f]{{8}})?")


class Kept(msgspec.Struct, frozen=True, kw_only=True):
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


def name_of(generation: str | None) -> str:
    """Of the folder in which a database of that generation is kept; None: of one that cannot be read."""
    return KEPT_PREFIX + (generation or f"unread-{secrets.token_hex(4)}")


def kept(storage_dir: Path) -> list[Kept]:
    """Those there are, newest first. A folder without a note counts as left when it was last changed."""
    notes = {note.name: note for note in _notes(storage_dir)}
    folders = [folder for folder in storage_dir.glob(f"{KEPT_PREFIX}*") if folder.is_dir()]
    found = [notes.get(folder.name) or _unnoted(folder) for folder in folders]
    return sorted(found, key=lambda each: (each.left, each.name), reverse=True)


def note_kept(storage_dir: Path, new: Kept | None, undone: str | None = None) -> None:
    """Note the one that was left just now, and the name of the one that was brought back, durably.

    Notes of folders that are gone are dropped. May be done again.
    """
    others = [each for each in kept(storage_dir) if new is None or each.name != new.name]
    marked = [msgspec.structs.replace(each, undone=each.undone or each.name == undone) for each in others]
    present = [new] if new is not None and (storage_dir / new.name).is_dir() else []
    write_durably(storage_dir / NOTES_NAME, msgspec.json.encode([*marked, *present]))


def beyond(found: Sequence[Kept], most: int, candidates: Iterable[str]) -> list[str]:
    """The names in `candidates` that are not among the newest `most` of `found` (newest first)."""
    spared = {each.name for each in [each for each in found if not each.undone][:most]}
    return [name for name in candidates if name not in spared]


def _unnoted(folder: Path) -> Kept:
    match = _OF_GENERATION.fullmatch(folder.name)
    return Kept(name=folder.name, generation=match[1] if match else None, left=folder.stat().st_mtime_ns // 1000)


def _notes(storage_dir: Path) -> list[Kept]:
    try:
        return msgspec.json.decode((storage_dir / NOTES_NAME).read_bytes(), type=list[Kept])
    except (FileNotFoundError, msgspec.MsgspecError):
        return []
