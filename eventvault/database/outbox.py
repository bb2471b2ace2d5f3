"""The outbox: what is to be published to Kafka and is not known to be there yet.

Consecutive events get one key in the write that appends them, and lose it in a write after the brokers have them. That
write also says how far publishing got: of the events of a key, only later ones still wait. What a restore takes out
of the registry waits with its body instead (`messages`), and so does what is no event.
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
"""In order."""

NO_EVENT = 2**64 - 1
"""Stands for the sequence of a message that is no event: it comes behind the events of its instant."""


class Delivered(NamedTuple):
    """What the brokers have. messages: the keys of what is no event. upto: no event up to this one waits any more."""

    messages: Sequence[bytes]
    upto: int


class Removed(NamedTuple):
    """What a write takes out of the outbox. number: of events and messages. upto: as in `Delivered`."""

    number: int
    upto: int


class Outbox:
    """The outbox of an open database. Safe for many threads; only the committer notes what was delivered.

    Reading begins behind what was delivered: LevelDB passes over removed keys one by one.
    """

    def __init__(self, db: Any, last_sequence: int) -> None:
        self._db = db
        noted = _noted(db)
        self._is_used = noted is not None
        self.upto = min(noted or 0, last_sequence)
        """No event up to this one waits."""
        self.reached = last_sequence, 0
        """The last event, and how many that wait came since the database was opened; both change at once."""
        self.removed = 0
        """How many events and messages went since then."""
        self._before: int | None = None
        """How many waited when it was opened, once they are counted."""

    @property
    def backlog(self) -> int | None:
        """How many events and messages wait; None until they were counted."""
        return None if self._before is None else max(0, self._before + self.reached[1] - self.removed)

    @property
    def is_used(self) -> bool:
        """Whether anything ever was to be published."""
        return self._is_used or next(self.pending(0, NO_BOUND - 1), None) is not None or self.has_messages()

    def appended(self, upto: int, waiting: int) -> None:
        """Called once events up to `upto` are on disk, of which so many wait."""
        self.reached = upto, self.reached[1] + waiting

    def replayed(self, upto: int) -> None:
        """Called once events up to `upto` are on disk, of which nobody counted how many wait."""
        self.reached, self._before = (upto, self.reached[1]), None

    def remove(self, batch: Any, delivered: Iterable[Delivered]) -> Removed:
        """Remove in the write `batch` what the brokers have. What is removed already does not count again."""
        messages, upto = set[bytes](), self.upto
        for each in delivered:
            messages.update(each.messages)
            upto = max(upto, each.upto)
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

    def note(self, removed: Removed) -> None:
        """Called once that is on disk."""
        self._is_used, self.upto = True, removed.upto
        self.removed += removed.number

    def counted(self, waiting: int, added: int, removed: int) -> None:
        """Record how much waited when so much had been added and removed since the opening.

        It is not known if something was removed meanwhile: it may have been counted or not.
        """
        if self.removed == removed:
            self._before = waiting - added + removed

    def published(self, last: int) -> int | None:
        """Return up to which event, of those up to `last`, none waits; None if nothing was ever to be published."""
        first = next(self.pending(0, last), None)
        if first is not None:
            return first - 1
        return last if self._is_used or self.has_messages() else None

    def pending(self, after: int, upto: int) -> Iterator[int]:
        """Yield the sequences of the events that wait, of those beyond `after` up to `upto`, in order."""
        return sequences_of(self.runs(after, upto))

    def runs(self, after: int, upto: int) -> Iterator[Run]:
        """Yield the same events as runs, one for each key: those of two keys may be consecutive."""
        after = max(after, self.upto)
        return within(self._stored(after + 1), after, upto) if after < upto else iter(())

    def _stored(self, start: int) -> Iterator[Run]:
        """Yield the events of each key from that on which has `start`, or later ones."""
        with self._db.iterator(start=keys.outbox_key(start), stop=keys.AFTER_OUTBOX, verify_checksums=True) as rows:
            for key, value in rows:
                yield keys.run_of_outbox(key, value)

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


def joined(runs: Iterable[Run], *, apart: int = 1) -> list[Run]:
    """Return runs, which are in order, with neighbours as one.

    apart: by how much the first one of a run is greater, at most, than the last one of its neighbour.
    """
    found: list[Run] = []
    for first, last in runs:
        if found and first - found[-1][1] <= apart:
            found[-1] = found[-1][0], last
        else:
            found.append((first, last))
    return found


def within(runs: Iterable[Run], after: int, upto: int) -> Iterator[Run]:
    """Yield what runs have beyond `after` up to `upto`."""
    for first, last in runs:
        if first > upto:
            return
        if last > after:
            yield max(first, after + 1), min(last, upto)
            after = last
        if last >= upto:
            return


def first_events(runs: Iterable[Run], most: int) -> Iterator[Run]:
    """Yield runs up to so many events."""
    for first, last in runs:
        if most <= 0:
            return
        yield first, min(last, first + most - 1)
        most -= last - first + 1


def count_of(runs: Iterable[Run]) -> int:
    return sum(last - first + 1 for first, last in runs)


def sequences_of(runs: Iterable[Run]) -> Iterator[int]:
    return chain.from_iterable(range(first, last + 1) for first, last in runs)


def puts_of(runs: Iterable[Run], after: int, upto: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of the events that wait, of those beyond `after` up to `upto`."""
    return (keys.outbox_put(first, last) for first, last in within(runs, after, upto))


def remove_after(db: Any, batch: Any, upto: int) -> None:
    """Let none of the events after `upto` wait: nothing that comes with their sequences is published yet."""
    with db.iterator(start=keys.outbox_key(upto + 1), stop=keys.AFTER_OUTBOX, verify_checksums=True) as rows:
        for key, value in rows:
            batch.delete(key)
            first, _ = keys.run_of_outbox(key, value)
            if first <= upto:
                batch.put(*keys.outbox_put(first, upto))
    if (noted := _noted(db)) is not None:
        batch.put(keys.META_PUBLISHED, b"%d" % min(noted, upto))


def note_published(db: Any, upto: int) -> None:
    """Let none of the events up to `upto` wait, as they are published. For a private copy."""
    batch, upto = db.write_batch(), max(upto, _noted(db) or 0)
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


def _noted(db: Any) -> int | None:
    """Return up to which event no key counts any more; None if nothing was ever published."""
    noted = db.get(keys.META_PUBLISHED, verify_checksums=True)
    return None if noted is None else int(noted) if noted.isdigit() else 0


def message_of(body: bytes) -> tuple[bytes, bytes]:
    """Return the key and value of an event, as it was recorded, that waits with its body."""
    return keys.message_key(event.recorded_of(body), event.sequence_of(body)), body
