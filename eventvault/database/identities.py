"""Looks up which identities are stored, mostly without the disk: the ones that sort last are held in memory.

Many senders' ids grow with time, such as EventVault's own and other UUIDs of version 7: a new id sorts after the last
ones or among them. Ids in random order are looked up in LevelDB, which takes a microsecond or two for each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import plyvel

from eventvault.database import keys

FULL = 16_384
"""Identities in the newer set once the older one is dropped, so that at most twice as many are held."""


class Identities:
    """The identities of a database, for the one thread that appends to it."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self._older: set[bytes] = set()
        self._newer: set[bytes] = set()
        self._beginning: bytes | None = None
        """The sets hold all stored identities from this one on; None: not read yet."""

    def look_up(self, identities: Sequence[bytes]) -> list[bytes | None]:
        """Return the value of each identity, None if it is not stored. Raises plyvel.Error."""
        if self._beginning is None:
            self._hold_last()
        get, beginning, older, newer = self._db.get, self._beginning, self._older, self._newer
        if beginning is None:
            return [get(identity, verify_checksums=True) for identity in identities]
        if _all_from(identities, beginning) and older.isdisjoint(identities) and newer.isdisjoint(identities):
            return [None] * len(identities)
        return [
            None
            if identity >= beginning and identity not in older and identity not in newer
            else get(identity, verify_checksums=True)
            for identity in identities
        ]

    def add(self, identities: Collection[bytes]) -> None:
        """Note identities that were written after `look_up` returned None for them."""
        beginning = self._beginning
        if beginning is None:
            return
        if not _all_from(identities, beginning):
            identities = [identity for identity in identities if identity >= beginning]
        self._newer.update(identities)
        if len(self._newer) >= FULL:
            self._drop_older()

    def _hold_last(self) -> None:
        """Hold the last identity. If it cannot be read, hold nothing: look-ups report the damage that they meet."""
        with (
            suppress(plyvel.Error),
            self._db.iterator(prefix=keys.IDENTITY, reverse=True, include_value=False, verify_checksums=True) as rows,
        ):
            self._newer = set(islice(rows, 1))
            self._beginning = max(self._newer, default=keys.IDENTITY)

    def _drop_older(self) -> None:
        """Hold the newer set only: it has all stored identities that sort after the older set."""
        if self._older and self._beginning is not None:
            self._beginning = max(self._beginning, max(self._older) + b"\x00")
        self._older, self._newer = self._newer, set()


def _all_from(identities: Collection[bytes], beginning: bytes) -> bool:
    return not identities or min(identities) >= beginning
