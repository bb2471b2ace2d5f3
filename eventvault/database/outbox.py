"""The outbox: the events and messages that wait to be published to Kafka.

Consecutive events get one key in the write that appends them. A later write removes the key, once the brokers have
them, and notes how far publishing got: of the events of a key, only later ones still wait. An event that a restore
takes out of the registry waits with its body instead (`messages`), and so does a message that is not an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, takewhile
from typing import Any, NamedTuple

from eventvault.database import keys
from eventvault.database.generation import NO_BOUND
from eventvault.events import event

Run = tuple[int, int]
"""Consecutive sequences: the first one and the last one."""
Runs = Sequence[Run]
"""Runs in ascending order."""

NO_EVENT = 2**64 - 1
"""Stands for the sequence of a message that is not an event, so that it sorts after the events of its instant."""


class Delivered(NamedTuple):
    """What the brokers have. messages: keys of messages with a body. upto: no event up to this sequence waits."""

    messages: Sequence[bytes]
    upto: int


class Removed(NamedTuple):
    """What a write removes from the outbox. number: how many events and messages. upto: as in `Delivered`."""

    number: int
    upto: int


class Outbox:
    """The outbox of an open database. Safe for many threads; only the committer notes deliveries.

    Reading begins after the delivered events, because LevelDB skips removed keys one by one.
    """

    def __init__(self, db: Any, last_sequence: int) -> None:
        self._db = db
        published = _read_published(db)
        self._is_used = published is not None
        self.upto = min(published or 0, last_sequence)
        """No event up to this sequence waits."""
        self.reached = last_sequence, 0
        """The last sequence, and how many waiting events came since the opening. A tuple, so both change at once."""
        self.removed = 0
        """How many events and messages were removed since the opening."""
        self._before: int | None = None
        """How many waited at the opening; None until they are counted."""

    @property
    def backlog(self) -> int | None:
        """How many events and messages wait; None until they are counted."""
        return None if self._before is None else max(0, self._before + self.reached[1] - self.removed)

    @property
    def is_used(self) -> bool:
        """Whether there ever was anything to publish."""
        return self._is_used or next(self.pending(0, NO_BOUND - 1), None) is not None or self.has_messages()

    def note_appended(self, upto: int, waiting: int) -> None:
        """Note that events up to `upto` are on disk, and that `waiting` of them wait."""
        self.reached = upto, self.reached[1] + waiting

    def note_replayed(self, upto: int) -> None:
        """Note that events up to `upto` are on disk. How many of them wait was not counted."""
        self.reached, self._before = (upto, self.reached[1]), None

    def remove(self, batch: Any, delivered: Iterable[Delivered]) -> Removed:
        """Remove in the write `batch` what the brokers have. What was removed before is not counted again."""
        messages, upto = set[bytes](), self.upto
        for delivery in delivered:
            messages.update(delivery.messages)
            upto = max(upto, delivery.upto)
        stored = list(takewhile(lambda run: run[0] <= upto, self._stored(self.upto + 1)))
        for _, last in stored:
            if last <= upto:
                batch.delete(keys.outbox_key(last))
        count = count_of(within(stored, self.upto, upto))
        for key in messages:
            if self._db.get(key, verify_checksums=True) is not None:
                batch.delete(key)
                count += 1
        batch.put(keys.META_PUBLISHED, b"%d" % upto)
        return Removed(count, upto)

    def note_removed(self, removed: Removed) -> None:
        """Note that the write with this removal is on disk."""
        self._is_used, self.upto = True, removed.upto
        self.removed += removed.number

    def note_count(self, waiting: int, added: int, removed: int) -> None:
        """Note that `waiting` events and messages waited after `added` and `removed` ones since the opening.

        Ignored if something was removed during the count, because it may have been counted or not.
        """
        if self.removed == removed:
            self._before = waiting - added + removed

    def published(self, last: int) -> int | None:
        """Return the last sequence, at most `last`, up to which no event waits; None if the outbox was never used."""
        first = next(self.pending(0, last), None)
        if first is not None:
            return first - 1
        return last if self._is_used or self.has_messages() else None

    def pending(self, after: int, upto: int) -> Iterator[int]:
        """Yield the sequences of the waiting events beyond `after`, up to `upto`, in order."""
        return sequences_of(self.runs(after, upto))

    def runs(self, after: int, upto: int) -> Iterator[Run]:
        """Yield the same events as runs, one for each key: the runs of two keys may be consecutive."""
        after = max(after, self.upto)
        return within(self._stored(after + 1), after, upto) if after < upto else iter(())

    def _stored(self, start: int) -> Iterator[Run]:
        """Yield the run of each key that ends at `start` or later."""
        with self._db.iterator(start=keys.outbox_key(start), stop=keys.AFTER_OUTBOX, verify_checksums=True) as rows:
            for key, value in rows:
                yield keys.run_of_outbox(key, value)

    def messages(self, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys and bodies of the waiting messages after the key `after`, in order."""
        start = max(after, keys.MESSAGE)
        with self._db.iterator(start=start, stop=keys.OUTBOX, include_start=False, verify_checksums=True) as rows:
            yield from rows

    def message_keys(self, after: bytes) -> Iterator[bytes]:
        """Yield the keys of `messages` without the bodies."""
        start = max(after, keys.MESSAGE)
        with self._db.iterator(start=start, stop=keys.OUTBOX, include_start=False, include_value=False) as rows:
            yield from rows

    def has_messages(self) -> bool:
        return next(self.messages(), None) is not None


def joined(runs: Iterable[Run], *, apart: int = 1) -> list[Run]:
    """Return the runs, which are in order, with neighbours joined to one run.

    apart: a run is a neighbour if its first sequence exceeds the last one before it by at most this number.
    """
    result: list[Run] = []
    for first, last in runs:
        if result and first - result[-1][1] <= apart:
            result[-1] = result[-1][0], last
        else:
            result.append((first, last))
    return result


def within(runs: Iterable[Run], after: int, upto: int) -> Iterator[Run]:
    """Yield the parts of runs beyond `after`, up to `upto`."""
    for first, last in runs:
        if first > upto:
            return
        if last > after:
            yield max(first, after + 1), min(last, upto)
            after = last
        if last >= upto:
            return


def first_events(runs: Iterable[Run], most: int) -> Iterator[Run]:
    """Yield runs with the first `most` events."""
    for first, last in runs:
        if most <= 0:
            return
        yield first, min(last, first + most - 1)
        most -= last - first + 1


def count_of(runs: Iterable[Run]) -> int:
    return sum(last - first + 1 for first, last in runs)


def sequences_of(runs: Iterable[Run]) -> Iterator[int]:
    return chain.from_iterable(range(first, last + 1) for first, last in runs)


def key_values_of(runs: Iterable[Run], after: int, upto: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the outbox keys and values of the events of `runs` beyond `after`, up to `upto`."""
    return (keys.outbox_put(first, last) for first, last in within(runs, after, upto))


def remove_after(db: Any, batch: Any, upto: int) -> None:
    """Remove the events after `upto` from the outbox: events that will get their sequences are not published yet."""
    with db.iterator(start=keys.outbox_key(upto + 1), stop=keys.AFTER_OUTBOX, verify_checksums=True) as rows:
        for key, value in rows:
            batch.delete(key)
            first, _ = keys.run_of_outbox(key, value)
            if first <= upto:
                batch.put(*keys.outbox_put(first, upto))
    if (published := _read_published(db)) is not None:
        batch.put(keys.META_PUBLISHED, b"%d" % min(published, upto))


def note_published(db: Any, upto: int) -> None:
    """Remove the events up to `upto` from the outbox, because they are published. For a private copy."""
    batch, upto = db.write_batch(), max(upto, _read_published(db) or 0)
    with db.iterator(start=keys.OUTBOX, stop=keys.AFTER_OUTBOX, verify_checksums=True) as rows:
        for key, value in rows:
            first, last = keys.run_of_outbox(key, value)
            if first > upto:
                break
            if last <= upto:
                batch.delete(key)
            else:
                batch.put(*keys.outbox_put(upto + 1, last))
    batch.put(keys.META_PUBLISHED, b"%d" % upto)
    batch.write()


def _read_published(db: Any) -> int | None:
    """Return the sequence up to which keys are ignored; None if nothing was ever published."""
    published = db.get(keys.META_PUBLISHED, verify_checksums=True)
    return None if published is None else int(published) if published.isdigit() else 0


def message_of(body: bytes) -> tuple[bytes, bytes]:
    """Return the key and value of an event that waits with its body. body: as recorded."""
    return keys.message_key(event.recorded_of(body), event.sequence_of(body)), body
