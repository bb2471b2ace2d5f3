"""Looks up which identities are stored, mostly without the disk: those that sort last are held in memory.

The ids of many senders grow with time, such as EventVault's own and other UUIDs of version 7: a new one belongs behind
the last ones or among them. Ids in random order are looked up in LevelDB, which takes a microsecond or two for each.
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
    """The identities of a database, for the thread that appends to it and says what it has `added`."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self._older: set[bytes] = set()
        self._newer: set[bytes] = set()
        self._beginning: bytes | None = None
        """All stored identities from here on are in one of the sets; None: that is not known yet."""

    def stored(self, identities: Sequence[bytes]) -> list[bytes | None]:
        """Return the value of each identity, None of one that is not stored. Raises plyvel.Error."""
        if self._beginning is None:
            self._begin()
        get, beginning, older, newer = self._db.get, self._beginning, self._older, self._newer
        if beginning is None:
            return [get(identity, verify_checksums=True) for identity in identities]
        if _are_behind(identities, beginning) and older.isdisjoint(identities) and newer.isdisjoint(identities):
            return [None] * len(identities)
        return [
            None
            if identity >= beginning and identity not in older and identity not in newer
            else get(identity, verify_checksums=True)
            for identity in identities
        ]

    def added(self, identities: Collection[bytes]) -> None:
        """Note what was written since `stored` returned None for it."""
        beginning = self._beginning
        if beginning is None:
            return
        if not _are_behind(identities, beginning):
            identities = [identity for identity in identities if identity >= beginning]
        self._newer.update(identities)
        if len(self._newer) >= FULL:
            self._drop_older()

    def _begin(self) -> None:
        """Hold the last identity. If it cannot be read, none is held: look-ups name the damage that they meet."""
        with (
            suppress(plyvel.Error),
            self._db.iterator(prefix=keys.IDENTITY, reverse=True, include_value=False, verify_checksums=True) as rows,
        ):
            self._newer = set(islice(rows, 1))
            self._beginning = max(self._newer, default=keys.IDENTITY)

    def _drop_older(self) -> None:
        """Hold the newer ones only: they are all that are stored behind the older ones."""
        if self._older and self._beginning is not None:
            self._beginning = max(self._beginning, max(self._older) + b"\x00")
        self._older, self._newer = self._newer, set()


def _are_behind(identities: Collection[bytes], beginning: bytes) -> bool:
    return not identities or min(identities) >= beginning
