"""The quarantine: puts dead letters into the registry, lists them, replays them as events, and drops them.

Changes take turns, so that the counts agree with what is stored. This module knows neither the database nor the client
of Kafka: the caller passes in how rows are read and written, and how a message is fetched.
"""

from __future__ import annotations

import base64
import binascii
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from eventvault import clock
from eventvault.database import keys
from eventvault.database.values import AppendResult
from eventvault.errors import EventVaultError, InvalidInput, KafkaUnreachable, QuarantineChanged, QuarantinedNotFound
from eventvault.events.event import Appended, EventDraft
from eventvault.kafka import quarantine_format
from eventvault.kafka.quarantine_format import DeadLetter, MessagePlace, bytes_counted
from eventvault.kafka.values import (
    MessageContent,
    MessageFacts,
    Mode,
    QuarantineContents,
    QuarantinedMessage,
    QuarantineFilter,
    QuarantinePage,
    Reference,
    Replayed,
    Totals,
)
from eventvault.progress import Turn

if TYPE_CHECKING:
    from eventvault.kafka.messages import KafkaRecord

_MOST_READ = 10_000
"""Most messages that are read for one page of a filtered list."""
_REPLAY_BYTES = 8 * 2**20
"""Bytes of messages after which a replay appends them in one write."""
_LAST = keys.QUARANTINE_LIST + b"\xff" * 9

Change = tuple[bytes, bytes | None]
Began = Mapping[str, tuple[str, str]]
"""Message whose replay was begun → id and source of its event."""
Fetch = Callable[[Reference], MessageContent]


class Append(Protocol):
    """Appends events and changes keys in one write.

    leaving: for each event the keys to delete with it, unless the registry has the event with other content.
    """

    def __call__(
        self, drafts: Sequence[EventDraft], changes: Sequence[Change], leaving: Sequence[Sequence[bytes]] = ()
    ) -> AppendResult: ...


class Rows(Protocol):
    """The registry, as far as the quarantine reads it."""

    @property
    def generation(self) -> str: ...

    def get_value(self, key: bytes) -> bytes | None: ...

    def rows(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Any:
        """Return a context manager: an iterator over the keys and values between two keys, both excluded."""


class QuarantineLimits(msgspec.Struct, frozen=True):
    """Limits of the quarantine: messages, bytes of all, and bytes of a message beyond which it is only referred to."""

    messages: int = quarantine_format.MOST_MESSAGES
    bytes: int = quarantine_format.MOST_BYTES
    bytes_of_one: int = quarantine_format.MOST_BYTES_OF_ONE


LIMITS = QuarantineLimits()


class Selection(msgspec.Struct, frozen=True):
    """How many messages a filter selects in a generation, of those that were quarantined at `until` or before.

    generation: empty in what an earlier version of EventVault wrote.
    """

    count: int
    until: int
    generation: str = ""


class Quarantine:
    """Safe for many threads.

    using: yields the rows of the present registry. begin: returns an `Append`, which fails once another generation has
    begun. fetch: reads a message whose bytes only Kafka has; raises EventVaultError.
    """

    def __init__(
        self,
        using: Callable[[], AbstractContextManager[Rows]],
        begin: Callable[[], Append],
        fetch: Fetch,
        *,
        limits: QuarantineLimits = LIMITS,
        now: clock.Clock = clock.now,
    ) -> None:
        self._using, self._begin, self._fetch = using, begin, fetch
        self._limits = limits
        self._now = now
        self._turn = Turn("change of the quarantine")
        self._counted: tuple[weakref.ref[Rows], _Sums] | None = None
        self._changes = 0
        """Grows when a write begins and when it ends. A count that was made meanwhile may be wrong."""

    def held(self) -> QuarantineContents:
        """Return what the quarantine has. It is counted once for each opening of the database."""
        with self._using() as rows:
            return self._held(rows)

    def add(self, letters: Sequence[DeadLetter], append: Callable[[Sequence[Change]], AppendResult]) -> AppendResult:
        """Call `append` with the changes that quarantine these dead letters, and return what it returns."""
        if not letters:
            return append(())
        with self._turn.held():
            with self._using() as rows:
                adding = _Adding(rows, self._sums(rows), self._limits, self._now())
                for letter in letters:
                    adding.add(letter)
                adding.make_room()
            return self._write(rows, lambda: append(adding.changes()), lambda _: adding.sums)

    def page(self, wanted: QuarantineFilter, limit: int, before: str | None) -> QuarantinePage:
        """Return a page of the messages that match. Raises InvalidInput for a `before` that no page had."""
        with self._using() as rows:
            entries, following = [], None
            with rows.rows(keys.QUARANTINE_LIST, _cursor_key(before), reverse=True) as listed:
                for entries_read, (key, value) in enumerate(listed, 1):
                    entry = quarantine_format.read_entry(key, value)
                    if wanted.matches(entry):
                        entries.append(entry)
                    if len(entries) == limit or entries_read == _MOST_READ:
                        following = base64.urlsafe_b64encode(key[1:]).decode()
                        break
            return QuarantinePage(entries, following, self._held(rows))

    def message(self, message_id: str) -> QuarantinedMessage:
        """Return a message. Raises QuarantinedNotFound, or InvalidInput if the text is not an id."""
        with self._using() as rows:
            message = _find(rows, quarantine_format.place_of(message_id))
        if message is None:
            raise not_found([message_id])
        return message

    def replay(
        self,
        ids: Sequence[str],
        mode: Mode | None,
        began: Began | None = None,
        note: Callable[[Began], None] = lambda _: None,
    ) -> list[Replayed]:
        """Append the events in these messages; the write of an event also removes its message.

        A message stays if it is refused, or if the registry has its event with other content. note: called before each
        write with the replays that were begun until then; if this attempt breaks off, the next one gets them as
        `began`. Raises QuarantinedNotFound if there is none of these messages.
        """
        places = [quarantine_format.place_of(message_id) for message_id in dict.fromkeys(ids)]
        begun = dict(began or {})

        def append(parsed: Sequence[_Parsed]) -> list[Replayed]:
            begun.update({message.place.id: (message.draft.id, message.draft.source) for message in parsed})
            if parsed:
                note(begun)
            return self._append_parsed(parsed)

        results: list[Replayed] = []
        waiting: list[_Parsed] = []
        fetch = _FetchUntilAway(self._fetch)
        for place in places:
            parsed = self._parse(place, mode, fetch)
            if isinstance(parsed, Replayed):
                results.append(parsed)
                continue
            waiting.append(parsed)
            if sum(message.size for message in waiting) >= _REPLAY_BYTES:
                results += append(waiting)
                waiting = []
        results += append(waiting)
        by_id = {
            result.id: result if result.outcome != "unknown" else self._find_earlier_replay(result, begun)
            for result in results
        }
        if all(result.outcome == "unknown" for result in by_id.values()):
            raise not_found(ids)
        return [by_id[place.id] for place in places]

    def select(self, wanted: QuarantineFilter) -> Selection:
        """Return how many messages the filter selects now.

        Raises QuarantinedNotFound if there is none, QuarantineChanged if `wanted.newest` is not there any more.
        """
        with self._using() as rows:
            until = _newest(rows) if wanted.newest is None else _instant_of(rows, wanted.newest)
            selection = Selection(sum(1 for _ in _selected(rows, wanted, until)), until, rows.generation)
        if not selection.count:
            raise not_found(wanted.ids)
        return selection

    def drop(self, wanted: QuarantineFilter, selection: Selection) -> int:
        """Remove the selected messages for good. Returns how many.

        Raises QuarantineChanged if another generation has begun, or may have: its list has other messages.
        """
        append = self._begin()
        with self._turn.held():
            with self._using() as rows:
                dropped = list(_selected(rows, wanted, selection.until))
                if dropped and rows.generation != selection.generation:
                    why = "the registry was restored meanwhile"
                    if not selection.generation:
                        why = "an earlier version of EventVault began this drop, and noted no generation"
                    raise QuarantineChanged(
                        f"{why}; what is in its quarantine now stays",
                        hint="list the messages again with the same filter",
                    )
                sums = self._sums(rows).less(listed.bytes_counted for listed in dropped)
            if dropped:
                changes = [(key, None) for listed in dropped for key in listed.keys]
                self._write(rows, lambda: append((), changes), lambda _: sums)
            return len(dropped)

    def _find_earlier_replay(self, unknown: Replayed, begun: Began) -> Replayed:
        """Return the result for a message that is not there: an earlier attempt may have replayed it."""
        if unknown.id not in begun:
            return unknown
        event_id, source = begun[unknown.id]
        with self._using() as rows:
            value = rows.get_value(keys.identity_key(event_id, source))
        if value is None:
            return unknown
        return Replayed(unknown.id, "replayed", event_id, source, keys.read_identity_value(value)[0])

    def _parse(self, place: MessagePlace, mode: Mode | None, fetch: Fetch) -> _Parsed | Replayed:
        # Imported here: it loads marshmallow, which a store without Kafka does not need.
        from eventvault.kafka.messages import Unreadable, to_draft

        with self._using() as rows:
            message = _find(rows, place)
        if message is None:
            return Replayed(place.id, "unknown")
        try:
            content = _read_content(message, fetch)
            record = quarantine_format.record_of(QuarantinedMessage(message.entry, content))
            draft = to_draft(record, mode, strict=True)
        except Unreadable as reason:
            return Replayed(place.id, "refused", reason=str(reason))
        except EventVaultError as error:
            return Replayed(place.id, "refused", reason=error.message)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - as in PartitionBatch, which read it first
            why = f"it cannot be made an event: {type(error).__name__}: {error}"
            return Replayed(place.id, "refused", reason=why)
        return _Parsed(place, draft, quarantine_format.size_of(content))

    def _append_parsed(self, waiting: Sequence[_Parsed]) -> list[Replayed]:
        if not waiting:
            return []
        append = self._begin()
        with self._turn.held():
            with self._using() as rows:
                pairs = [(parsed, _listed(rows, parsed.place)) for parsed in waiting]
                present = [(parsed, listed) for parsed, listed in pairs if listed is not None]
                sums = self._sums(rows)
            missing = [Replayed(parsed.place.id, "unknown") for parsed, listed in pairs if listed is None]
            if not present:
                return missing

            def sums_after(appended: AppendResult) -> _Sums:
                results = zip(present, appended.results, strict=True)
                return sums.less(listed.bytes_counted for (_, listed), result in results if not result.differs)

            drafts, leaving = [parsed.draft for parsed, _ in present], [listed.keys for _, listed in present]
            appended = self._write(rows, lambda: append(drafts, (), leaving), sums_after).results
        return missing + [_replayed(parsed, event) for (parsed, _), event in zip(present, appended, strict=True)]

    def _write(
        self, rows: Rows, append: Callable[[], AppendResult], sums: Callable[[AppendResult], _Sums]
    ) -> AppendResult:
        """Write, and note the sums after the write. If it fails, they are counted again: it may be on disk.

        Until the write ends, the sums before it stay: otherwise health would read the whole list after each write.
        """
        self._changes += 1
        counted = None
        try:
            result = append()
            counted = weakref.ref(rows), sums(result)
        finally:
            self._changes += 1
            self._counted = counted
        return result

    def _held(self, rows: Rows) -> QuarantineContents:
        sums = self._sums(rows)
        with rows.rows(keys.QUARANTINE_LIST, _LAST) as listed:
            oldest = next((quarantine_format.read_list_key(key)[0] for key, _ in listed), None)
        return QuarantineContents(sums.count, sums.bytes, oldest, _totals(rows))

    def _sums(self, rows: Rows) -> _Sums:
        counted = self._counted
        if counted is not None and counted[0]() is rows:
            return counted[1]
        sums, changes = _Sums(0, 0), self._changes
        with rows.rows(keys.QUARANTINE_LIST, _LAST) as listed:
            for _, value in listed:
                sums = sums.plus(bytes_counted(quarantine_format.read_facts(value), value))
        if changes == self._changes:
            self._counted = weakref.ref(rows), sums
        return sums


class _Sums(msgspec.Struct, frozen=True):
    count: int
    bytes: int

    def plus(self, size: int) -> _Sums:
        return _Sums(self.count + 1, self.bytes + size)

    def less(self, sizes: Iterable[int]) -> _Sums:
        removed = list(sizes)
        return _Sums(self.count - len(removed), self.bytes - sum(removed))


class _Listed(NamedTuple):
    """A message in the list, and how many bytes of the limit it uses."""

    place: MessagePlace
    list_key: bytes
    bytes_counted: int

    @property
    def keys(self) -> tuple[bytes, bytes]:
        return self.place.key, self.list_key


class _FetchUntilAway:
    """Fetches messages. After Kafka did not answer once, it is not asked again: each attempt takes many seconds."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._away: KafkaUnreachable | None = None

    def __call__(self, reference: Reference) -> MessageContent:
        if self._away is not None:
            raise self._away.with_traceback(None)
        try:
            return self._fetch(reference)
        except KafkaUnreachable as error:
            self._away = error
            raise


class _Parsed(NamedTuple):
    place: MessagePlace
    draft: EventDraft
    size: int


class _Adding:
    """The changes that quarantine the dead letters of one write. sums: those after the write."""

    def __init__(self, rows: Rows, sums: _Sums, limits: QuarantineLimits, at: int) -> None:
        self.sums = sums
        self._rows, self._limits = rows, limits
        self._at = max(at, _newest(rows) + 1)
        """Later than all that is there, even if the clock was set back: a Selection must exclude new messages."""
        self._totals = _totals(rows)
        self._new: dict[MessagePlace, tuple[tuple[Change, Change], int]] = {}
        self._removed: list[bytes] = []

    def add(self, letter: DeadLetter) -> None:
        """Add a dead letter. One that is there already, as after a restore, is neither added nor counted again."""
        message = letter.message
        facts, content = quarantine_format.describe(message, letter.reason)
        place = self._free_place(message, facts)
        if place is None:
            return
        self._totals = msgspec.structs.replace(self._totals, letters=self._totals.letters + 1)
        puts = quarantine_format.key_values_of(place, self._at, facts, content)
        if facts.size > self._limits.bytes_of_one or len(puts[0][1]) > quarantine_format.MOST_STORED:
            origin = Reference(message.topic, message.partition, message.offset)
            facts, content = quarantine_format.without_bytes(facts, content, letter.reference or origin)
            puts = quarantine_format.key_values_of(place, self._at, facts, content)
        self._new[place] = puts, bytes_counted(facts, puts[1][1])
        self.sums = self.sums.plus(self._new[place][1])

    def make_room(self) -> None:
        """Drop the oldest messages beyond the limits, and count them."""
        if not self._is_over():
            return
        with self._rows.rows(keys.QUARANTINE_LIST, _LAST) as listed:
            for key, value in listed:
                size = bytes_counted(quarantine_format.read_facts(value), value)
                self._removed += _Listed(quarantine_format.read_list_key(key)[1], key, size).keys
                self._count_dropped(size)
                if not self._is_over():
                    return
        for place in list(self._new):
            self._count_dropped(self._new.pop(place)[1])
            if not self._is_over():
                return

    def changes(self) -> list[Change]:
        puts = [put for both, _ in self._new.values() for put in both]
        removed: list[Change] = [(key, None) for key in self._removed]
        return [*removed, *puts, (keys.META_QUARANTINE, quarantine_format.encoded_totals(self._totals))]

    def _is_over(self) -> bool:
        return self.sums.count > self._limits.messages or self.sums.bytes > self._limits.bytes

    def _count_dropped(self, size: int) -> None:
        self.sums = self.sums.less([size])
        self._totals = msgspec.structs.replace(self._totals, dropped=self._totals.dropped + 1)

    def _free_place(self, message: KafkaRecord, facts: MessageFacts) -> MessagePlace | None:
        """Return the place for a new message; None if the message is there already, or there is no free place."""
        for copy in range(quarantine_format.MOST_COPIES):
            place = MessagePlace(message.topic, message.partition, message.offset, copy)
            stored = _find(self._rows, place)
            if stored is None:
                return place
            if stored.entry.facts.crc == facts.crc:
                return None
        return None


def not_found(ids: Sequence[str]) -> QuarantinedNotFound:
    what = f"no message {', '.join(ids[:3])}" if ids else "no such message"
    return QuarantinedNotFound(
        f"the quarantine has {what}; nothing was changed",
        hint="GET /api/kafka/quarantine lists those that it has",
    )


def check_count(count: int, expected: int | None) -> None:
    """Raise QuarantineChanged if a filter selects another number of messages than the caller expects."""
    if expected is not None and count != expected:
        raise QuarantineChanged(
            f"{count} messages match, not {expected}; nothing was dropped",
            hint="list them again with the same filter, and name their number",
            count=count,
        )


def _replayed(parsed: _Parsed, appended: Appended) -> Replayed:
    reason = None
    if appended.differs:
        reason = f"the event {appended.sequence} has its source and id, and other content"
    return Replayed(
        parsed.place.id,
        "refused" if appended.differs else "duplicate" if appended.duplicate else "replayed",
        event_id=parsed.draft.id,
        source=parsed.draft.source,
        sequence=appended.sequence,
        reason=reason,
    )


def _read_content(message: QuarantinedMessage, fetch: Fetch) -> MessageContent:
    """Return the bytes of a message; those that the registry does not have come from Kafka."""
    facts = message.entry.facts
    if facts.reference is None:
        return message.content
    content = fetch(facts.reference)
    from eventvault.kafka.messages import Unreadable  # as in `_parse`

    if quarantine_format.crc_of(content) != facts.crc:
        where = MessagePlace(facts.reference.topic, facts.reference.partition, facts.reference.offset)
        raise Unreadable(f"another message is at {where.id} in Kafka now")
    return msgspec.structs.replace(content, problem=message.content.problem)


def _find(rows: Rows, place: MessagePlace) -> QuarantinedMessage | None:
    stored = rows.get_value(place.key)
    if stored is None:
        return None
    content = quarantine_format.read_content(stored)
    key = quarantine_format.list_key(content.at, place)
    facts = rows.get_value(key)
    return None if facts is None else QuarantinedMessage(quarantine_format.read_entry(key, facts), content)


def _listed(rows: Rows, place: MessagePlace) -> _Listed | None:
    message = _find(rows, place)
    if message is None:
        return None
    key = quarantine_format.list_key(message.entry.at, place)
    return _Listed(place, key, bytes_counted(message.entry.facts, rows.get_value(key) or b""))


def _instant_of(rows: Rows, message_id: str) -> int:
    """Return when the newest message that the caller saw was quarantined. Raises QuarantineChanged if it has left."""
    message = _find(rows, quarantine_format.place_of(message_id))
    if message is None:
        raise QuarantineChanged(
            f"the newest message that was seen, {message_id}, has left; nothing was dropped",
            hint="list them again with the same filter",
        )
    return message.entry.at


def _newest(rows: Rows) -> int:
    with rows.rows(keys.QUARANTINE_LIST, _LAST, reverse=True) as listed:
        return next((quarantine_format.read_list_key(key)[0] for key, _ in listed), 0)


def _selected(rows: Rows, wanted: QuarantineFilter, until: int) -> Iterator[_Listed]:
    if wanted.ids:
        for message_id in dict.fromkeys(wanted.ids):
            listed = _listed(rows, quarantine_format.place_of(message_id))
            if listed is not None and quarantine_format.read_list_key(listed.list_key)[0] <= until:
                yield listed
        return
    with rows.rows(keys.QUARANTINE_LIST, _LAST) as pairs:
        for key, value in pairs:
            at, place = quarantine_format.read_list_key(key)
            if at > until:
                return
            entry = quarantine_format.read_entry(key, value)
            if wanted.matches(entry):
                yield _Listed(place, key, bytes_counted(entry.facts, value))


def _totals(rows: Rows) -> Totals:
    return quarantine_format.read_totals(rows.get_value(keys.META_QUARANTINE))


def _cursor_key(before: str | None) -> bytes:
    if before is None:
        return _LAST
    try:
        key = keys.QUARANTINE_LIST + base64.b64decode(before.encode(), altchars=b"-_", validate=True)
        quarantine_format.read_list_key(key)
    except (ValueError, binascii.Error):
        raise InvalidInput(
            f"{before!r:.100} is not a position in the quarantine",
            hint="`before` is the `next` of the page before",
            fields={"before": ["Not the `next` of a page."]},
        ) from None
    return key
