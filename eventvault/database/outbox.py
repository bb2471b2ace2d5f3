"""The outbox: what is to be published to Kafka and is not known to be there yet.

An event gets a key in the write that appends it, and loses it in a write after the brokers have it. What a restore
takes out of the registry waits with its body instead (`messages`), and so does what is no event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from eventvault.database import keys
from eventvault.database.generation import NO_BOUND
from eventvault.events import event

Runs = Sequence[tuple[int, int]]
"""Consecutive sequences, as the first one and the last one of each run, in order."""

NO_EVENT = 2**64 - 1
"""Stands for the sequence of a message that is no event: it comes behind the events of its instant."""


class Delivered(NamedTuple):
    """What the brokers have. removed: its keys. upto: no event up to this sequence waits any more."""

    removed: Sequence[bytes]
    upto: int

    def remove(self, batch: Any) -> None:
        for key in self.removed:
            batch.delete(key)
        batch.put(keys.META_PUBLISHED, b"%d" % self.upto)


class Outbox:
    """The outbox of an open database. Safe for many threads; only the committer notes what was delivered.

    Reading begins behind what was delivered: LevelDB passes over removed keys one by one.
    """

    def __init__(self, db: Any, last_sequence: int) -> None:
        self._db = db
        noted = db.get(keys.META_PUBLISHED, verify_checksums=True)
        self._is_used = noted is not None
        self.upto = min(int(noted), last_sequence) if noted is not None and noted.isdigit() else 0
        """No event up to this one waits."""
        self.reached = last_sequence, 0
        """The last event, and how many keys came since the database was opened; both change at once."""
        self.removed = 0
        """How many keys went since then."""
        self._before: int | None = None
        """How many keys there were when it was opened, once they are counted."""

    @property
    def backlog(self) -> int | None:
        """How many keys there are; None until they were counted."""
        return None if self._before is None else max(0, self._before + self.reached[1] - self.removed)

    @property
    def is_used(self) -> bool:
        """Whether anything ever was to be published."""
        return self._is_used or next(self.pending(0, NO_BOUND - 1), None) is not None or self.has_messages()

    def appended(self, upto: int, keys_added: int) -> None:
        """Called once events up to `upto` are on disk, with so many keys."""
        self.reached = upto, self.reached[1] + keys_added

    def replayed(self, upto: int) -> None:
        """Called once events up to `upto` are on disk, with keys that nobody counted."""
        self.reached, self._before = (upto, self.reached[1]), None

    def note(self, delivered: Delivered) -> None:
        """Called once that is on disk."""
        self._is_used, self.upto = True, max(self.upto, delivered.upto)
        self.removed += len(delivered.removed)

    def counted(self, keys_there: int, added: int, removed: int) -> None:
        """Record how many keys there were when so many had been added and removed since the opening.

        It is not known if some were removed meanwhile: they may have been counted or not.
        """
        if self.removed == removed:
            self._before = keys_there - added + removed

    def published(self, last: int) -> int | None:
        """Return up to which event, of those up to `last`, none waits; None if nothing was ever to be published."""
        first = next(self.pending(0, last), None)
        if first is not None:
            return first - 1
        return last if self._is_used or self.has_messages() else None

    def pending(self, after: int, upto: int) -> Iterator[int]:
        """Yield the sequences of the events that wait, of those beyond `after` up to `upto`, in order."""
        start, stop = keys.outbox_key(max(after, self.upto) + 1), keys.outbox_key(upto + 1)
        if start >= stop:
            return
        rows = self._db.iterator(start=start, stop=stop, include_value=False, verify_checksums=True)
        with rows as pending:
            for key in pending:
                yield keys.sequence_of(key)

    def messages(self, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys and bodies of the messages that wait, of those behind the key `after`, in their order."""
        start = max(after, keys.MESSAGE)
        with self._db.iterator(start=start, stop=keys.OUTBOX, include_start=False, verify_checksums=True) as rows:
            yield from rows

    def message_keys(self, after: bytes) -> Iterator[bytes]:
        """`messages` without their bodies."""
        start = max(after, keys.MESSAGE)
        with self._db.iterator(start=start, stop=keys.OUTBOX, include_start=False, include_value=False) as rows:
            yield from rows

    def has_messages(self) -> bool:
        return next(self.messages(), None) is not None


def runs_of(sequences: Iterable[int], *, apart: int = 1) -> list[tuple[int, int]]:
    """Return sequences, which are in order, as runs. apart: by how much the next one of a run is greater at most."""
    runs: list[tuple[int, int]] = []
    for sequence in sequences:
        if runs and sequence - runs[-1][1] <= apart:
            runs[-1] = runs[-1][0], sequence
        else:
            runs.append((sequence, sequence))
    return runs


def within(runs: Runs, after: int, upto: int) -> Iterator[int]:
    """Yield the sequences of runs beyond `after` up to `upto`."""
    for first, last in runs:
        yield from range(max(first, after + 1), min(last, upto) + 1)


def puts_of(runs: Runs, after: int, upto: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of the events that wait, of those beyond `after` up to `upto`."""
    return ((keys.outbox_key(sequence), b"") for sequence in within(runs, after, upto))


def remove_after(db: Any, batch: Any, upto: int) -> None:
    """Remove the keys of the events after `upto`: nothing that comes with their sequences is published yet."""
    _remove(db, batch, upto + 1, NO_BOUND)
    noted = db.get(keys.META_PUBLISHED, verify_checksums=True)
    if noted is not None and noted.isdigit():
        batch.put(keys.META_PUBLISHED, b"%d" % min(int(noted), upto))


def note_published(db: Any, upto: int) -> None:
    """Remove the keys of the events up to `upto`, as they are published. For a private copy."""
    batch = db.write_batch()
    _remove(db, batch, 0, upto)
    batch.put(keys.META_PUBLISHED, b"%d" % upto)
    batch.write()


def _remove(db: Any, batch: Any, first: int, last: int) -> None:
    start, stop = keys.outbox_key(first), keys.outbox_key(last + 1)
    with db.iterator(start=start, stop=stop, include_value=False, verify_checksums=True) as rows:
        for key in rows:
            batch.delete(key)


def message_of(body: bytes) -> tuple[bytes, bytes]:
    """Return the key and value of an event, as it was recorded, that waits with its body."""
    return keys.message_key(event.recorded_of(body), event.sequence_of(body)), body
