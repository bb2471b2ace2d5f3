"""The strict check of stored events that are not proven to be ours: it trusts nothing in them.

It accepts every event that this version or an earlier one may have stored (fixtures show it), and no other.
"""

from __future__ import annotations

import re

import msgspec

from eventvault import clock, record_size
from eventvault.database.bulk import IndexedMembers
from eventvault.events.event import EXTENSION_NAME, RECORDED_TIME, raw_attributes
from eventvault.foreign.json_scanner import read_document

DAY = 24 * 3600 * 10**6
"""Most microseconds that an event may be recorded ahead of this machine's clock."""
MAX_ATTRIBUTES = 200_000
"""Attributes of an event, all of which are held in memory. Events that can be posted now have far fewer."""

_MAX_KINDS = 1000
_NAME = re.compile(f"{EXTENSION_NAME}|data_base64")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_indexed = msgspec.json.Decoder(IndexedMembers).decode
_encode = msgspec.json.Encoder().encode


class _Data(msgspec.Struct, gc=False):
    data: msgspec.Raw = msgspec.Raw()


_data = msgspec.json.Decoder(_Data).decode


class StrictEvents:
    """Checks events in the order of their sequences. last_recorded: of the last event, as text; empty at first."""

    def __init__(self, now: int) -> None:
        """now: microseconds."""
        self.last_recorded = b""
        self._latest = clock.format_microseconds(now + DAY).encode()
        self._names: set[tuple[str, ...]] = set()
        """Valid names of an event's members, in their order."""

    def check(self, sequence: int, value: bytes) -> IndexedMembers:
        """Return the members from which the event's keys are made. Raises ValueError that says what is wrong."""
        if b"\n" in value or b"\r" in value:
            raise ValueError("it is not one line")
        if len(value) > record_size.longest_event():
            raise ValueError(f"it has {len(value)} bytes, more than MAX_BODY_BYTES allows")
        if not value.isascii():
            value.decode()
        try:
            indexed = _indexed(value)
            _check_few_members(value)
            members = raw_attributes(value)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if _encode(members) != value:
            _check_not_repeated(value)
        names = tuple(members)
        if names not in self._names:
            self._check_names(names)
        recorded = value[RECORDED_TIME]
        if not value.endswith(b',"sequence":%d,"recordedtime":"%b"}' % (sequence, recorded)):
            raise ValueError(f"its last members are not the sequence {sequence} and recordedtime")
        if recorded != self.last_recorded:
            self._check_time(recorded)
        texts = indexed.id + indexed.source + indexed.type + (indexed.subject or "")
        if not texts.isprintable() and _CONTROL.search(texts):
            raise ValueError("an attribute holds control characters")
        return indexed

    def _check_names(self, names: tuple[str, ...]) -> None:
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"no attribute is called {name!r:.80}")
        if len(self._names) < _MAX_KINDS:
            self._names.add(names)

    def _check_time(self, recorded: bytes) -> None:
        """Check that the time is as EventVault writes it, and not before the last one; it is parsed once a second."""
        second, fraction = recorded[:19], recorded[19:]
        if second != self.last_recorded[:19] or not (fraction[1:7].isdigit() and fraction[:1] + fraction[7:] == b".Z"):
            text = recorded.decode()
            if clock.format_microseconds(clock.parse(text)) != text:
                raise ValueError(f"its recordedtime {text!r} is not a time as EventVault writes it")
        if recorded < self.last_recorded:
            raise ValueError(f"its recordedtime {recorded.decode()} is earlier than that of the previous event")
        if recorded > self._latest:
            raise ValueError(f"its recordedtime {recorded.decode()} is more than a day ahead of this machine's clock")
        self.last_recorded = recorded


def _check_few_members(value: bytes) -> None:
    """Check that an event has few attributes before they are decoded; members inside `data` do not count."""
    if value.count(b'":') > MAX_ATTRIBUTES:
        data = _data(value).data
        if value.count(b'":') - bytes(data).count(b'":') > MAX_ATTRIBUTES:
            raise ValueError(f"it has more than {MAX_ATTRIBUTES} attributes")


def _check_not_repeated(value: bytes) -> None:
    """Check that no member comes twice. Blanks around embedded JSON change an event's length too, so count members."""
    document = read_document(value)
    if document.members is None or document.repeated:
        raise ValueError("a member comes twice")
