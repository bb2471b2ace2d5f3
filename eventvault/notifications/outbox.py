"""The undelivered messages and changes in `STORAGE_DIR/notifications.json`, so that the next store goes on with them.

A change is written before it is forgotten elsewhere, and a message is removed after its delivery, so each is delivered
at least once. If the disk cannot be written, the outbox goes on in memory, and health says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from eventvault import data_folders, small_files
from eventvault.errors import NoSpace
from eventvault.notifications.values import Change, Condition, Message

log = logging.getLogger("BackupManager")

KEEP_MICROSECONDS = 3 * 24 * 3600 * 1_000_000
"""A message that could not be delivered for this long is dropped; health and metrics say so before."""
MOST_MESSAGES = 100
MOST_CHANGES = 1000


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """addresses: without their secrets; `waiting` of a message has their places.

    conditions: the problems that were told. restored: the time of the newest restore that was told, as health shows it.
    changes: in no message yet. burst: when the first of them was found, in microseconds.
    """

    format: Literal[1] = 1
    addresses: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    restored: str | None = None
    burst: int = 0
    changes: tuple[Change, ...] = ()
    messages: tuple[Message, ...] = ()


class NotificationOutbox:
    """For one thread. addresses: without their secrets. problem: why the file cannot be written; None if it can."""

    def __init__(self, storage_dir: Path, addresses: Sequence[str]) -> None:
        self.problem: str | None = None
        self.dropped = 0
        self._path = storage_dir / data_folders.NOTIFICATIONS
        self._file = _File(addresses=tuple(addresses))
        self._is_loaded = False
        self._load()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return self._file.conditions

    @property
    def restored(self) -> str | None:
        return self._file.restored

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages that wait for an address, the oldest first."""
        return self._file.messages

    @property
    def burst(self) -> int | None:
        """When the oldest change was found that is in no message yet, in microseconds."""
        return self._file.burst if self._file.changes else None

    def add(self, changes: Sequence[Change], conditions: tuple[Condition, ...], restored: str | None, at: int) -> None:
        """Add changes that were found at the instant `at`, with the conditions and the newest restore after them."""
        recent = (*self._file.changes, *changes)[-MOST_CHANGES:]
        burst = self._file.burst if self._file.changes else at
        self._save(
            msgspec.structs.replace(self._file, changes=recent, burst=burst, conditions=conditions, restored=restored)
        )

    def close_burst(self, compose: Callable[[Sequence[Change]], Message]) -> None:
        """Make a message of the changes."""
        messages = (*self._file.messages, compose(self._file.changes))
        self.dropped += max(0, len(messages) - MOST_MESSAGES)
        self._save(msgspec.structs.replace(self._file, changes=(), messages=messages[-MOST_MESSAGES:]))

    def delivered(self, message: Message, places: Collection[int]) -> None:
        """Note that these addresses got a message; once all addresses have it, it is removed."""
        remaining = [_without(other, places) if _is_same(other, message) else other for other in self.messages]
        messages = tuple(other for other in remaining if other.waiting)
        if messages != self.messages:
            self._save(msgspec.structs.replace(self._file, messages=messages))

    def drop_old(self, now: int) -> None:
        recent = tuple(message for message in self.messages if now - message.created < KEEP_MICROSECONDS)
        if len(recent) < len(self.messages):
            self.dropped += len(self.messages) - len(recent)
            log.warning("notifications that could not be delivered for days are dropped")
            self._save(msgspec.structs.replace(self._file, messages=recent))

    def _load(self) -> None:
        """Read the file once. If it cannot be read now, a later call tries again; until then it is not written."""
        if self._is_loaded:
            return
        new = self._file
        try:
            saved = self._read(new.addresses)
        except OSError as error:
            self.problem = str(error)
            return
        self._is_loaded = True
        self._file = msgspec.structs.replace(
            saved,
            conditions=new.conditions or saved.conditions,
            restored=new.restored or saved.restored,
            burst=saved.burst if saved.changes else new.burst,
            changes=(*saved.changes, *new.changes)[-MOST_CHANGES:],
            messages=(*saved.messages, *new.messages)[-MOST_MESSAGES:],
        )

    def _read(self, addresses: tuple[str, ...]) -> _File:
        """Return the file; if it is for other addresses, each message waits for all new ones. Raises OSError."""
        file = small_files.read_or_quarantine(self._path, _File) or _File()
        if file.addresses == addresses:
            return file
        everybody = tuple(range(len(addresses)))
        messages = tuple(msgspec.structs.replace(message, waiting=everybody) for message in file.messages)
        return msgspec.structs.replace(file, addresses=addresses, messages=messages)

    def _save(self, file: _File) -> None:
        self._file = file
        self._load()
        if not self._is_loaded:
            return
        try:
            small_files.write(self._path, self._file)
            self.problem = None
        except (OSError, NoSpace) as error:
            self.problem = str(error)


def _is_same(one: Message, other: Message) -> bool:
    """Return whether both are the same message, whichever addresses got it meanwhile."""
    return msgspec.structs.replace(one, waiting=()) == msgspec.structs.replace(other, waiting=())


def _without(message: Message, places: Collection[int]) -> Message:
    return msgspec.structs.replace(message, waiting=tuple(place for place in message.waiting if place not in places))
