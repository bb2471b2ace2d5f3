"""Recognises ordinary events in many texts, several times faster than `eventvault.events.sent` reads any event.

It has no rules of its own: it proves that the rules of `json_text` and `schema` allow the texts, and would change only
white space between tokens. If the proof fails, `sent` reads the text: nothing is refused here. So this module may
recognise fewer events than the rules allow, but never others.

The proof takes a few calls for all texts. The decoder checks the structure and the types. It skips `data`, which
`json_text.read` then checks. Encoded again, an event takes the fewest bytes that JSON needs. So if all are as long as
their texts, none has a repeated name, a needless escape or white space outside `data`. The schema checks the values,
attribute by attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, repeat
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar, overload

import msgspec
import orjson

from eventvault import json_text
from eventvault.errors import EventVaultError
from eventvault.events import event, schema
from eventvault.events.event import LONGEST_TEXT, EventDraft

TOGETHER = 100
"""Events that are read at once: few, so that the parsed values stay in the processor's cache."""
_FEW = 10
"""Events in each further attempt, if one of TOGETHER events is not ordinary."""
_FEW_BYTES = 2**20
"""A text of this size never has too many values for `json_text`."""
_SPACED, _BEGINNING = b": ", 64
"""A text with white space between its tokens has it in its first bytes, too."""
_STAMP = b',"sequence":%d,"recordedtime":"%s"}'
"""The end of an event in an export."""
_TEXTS = ("id", "source", "type", "subject", "dataschema")
"""Attributes in which the schema refuses control characters, in addition to their type and length."""
_OTHERS = ("time", "datacontenttype")
"""Attributes with other rules for their values."""
_CONTROL = bytes((*range(0x20), 0x7F, 0xC2))
"""In UTF-8 each control character has one of these bytes. Some other characters begin with 0xC2, too."""
_CONTROL_IN_JSON = b"\\", b"\x7f", b"\xc2"
"""The same for a JSON text, in which bytes below 0x20 are escaped."""
_FILLED = ("specversion", "time", "id", "source")
"""Attributes that `event.completed` fills in, in addition to `datacontenttype`."""
_DECIDING = (*_FILLED, "datacontenttype", "data")
"""Attributes that decide which attributes are filled in."""
_ABSENT = {type(None), msgspec.UnsetType}
_OF_DRAFT = ("source", "id", "type", "subject")
"""The first members of an EventDraft."""

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT)]


class Envelope(msgspec.Struct, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """The attributes that ordinary events have. An attribute that was sent as null is omitted when encoded again."""

    type: _Text
    specversion: Literal["1.0"] | None = None
    id: _Text | None = None
    source: _Text | None = None
    subject: _Text | None = None
    time: str | None = None
    datacontenttype: str | None = None
    dataschema: _Text | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    partitionkey: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    sequence: int | None = None
    recordedtime: str | None = None


_decode = msgspec.json.Decoder(Envelope).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_FAILURES = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, EventVaultError)
_UNSET = msgspec.UNSET
_T = TypeVar("_T")


class OrdinaryEvent(msgspec.Struct, frozen=True, gc=False):
    """An event that was found to be valid, with the interface of `eventvault.events.sent.SentEvent`.

    complete: its draft, if no attribute has to be filled in or left out.
    """

    envelope: Envelope
    text: bytes
    complete: EventDraft | None = None

    problem: ClassVar[None] = None

    @property
    def attributes(self) -> dict[str, Any]:
        values = {
            name: value
            for name, value in msgspec.structs.asdict(self.envelope).items()
            if value is not None and value is not _UNSET
        }
        return values | {"data": True} if "data" in values else values

    @property
    def attribute_count(self) -> int:
        values = msgspec.structs.astuple(self.envelope)
        return len(values) - values.count(None) - values.count(_UNSET)

    @property
    def sent_id(self) -> str | None:
        return self.envelope.id

    def with_id(self, event_id: str, *, first: bool = False) -> OrdinaryEvent:
        """Return the event, which has no id, with this id. first: in front of the other attributes."""
        member = b'"id":' + orjson.dumps(event_id)
        text = b"{" + member + b"," + self.text[1:] if first else self.text[:-1] + b"," + member + b"}"
        return OrdinaryEvent(msgspec.structs.replace(self.envelope, id=event_id), text)

    def draft(self, instant: int) -> EventDraft:
        """Return the event as a draft. instant: in microseconds, used as `time` if there is none."""
        if self.complete is not None:
            return self.complete
        envelope, body = self.envelope, self.text
        if envelope.sequence is not None:
            body = body[: -len(_stamp(envelope))] + b"}"
        return event.completed(
            body,
            instant,
            envelope.type,
            envelope.subject,
            source=envelope.source,
            event_id=envelope.id,
            time=envelope.time,
            specversion=envelope.specversion,
            needs_content_type=envelope.data is not _UNSET and envelope.datacontenttype is None,
        )


class _Portion(NamedTuple):
    """Texts that were proven to be ordinary events. columns: attribute → its values in all of them."""

    texts: Sequence[bytes]
    envelopes: Sequence[Envelope]
    columns: Mapping[str, Sequence[Any]]

    def events(self) -> list[OrdinaryEvent]:
        if not _are_complete(self.columns):
            return list(map(OrdinaryEvent, self.envelopes, self.texts))
        return list(map(OrdinaryEvent, self.envelopes, self.texts, self._unchanged()))

    def complete(self) -> Sequence[EventDraft | OrdinaryEvent]:
        """Return the draft of each event if no attribute is filled in or left out, otherwise the events."""
        return self._unchanged() if _are_complete(self.columns) else self.events()

    def drafts(self, instant: int) -> list[EventDraft]:
        """Return the draft of each event: faster if all lack the same attributes."""
        columns = self.columns
        kinds = [set(map(type, columns[name])) for name in _DECIDING]
        if any(len(kind) > 1 for kind in kinds) or not _have_no_stamp(columns):
            return [ordinary.draft(instant) for ordinary in map(OrdinaryEvent, self.envelopes, self.texts)]
        absent = {name for name, kind in zip(_DECIDING, kinds, strict=True) if kind <= _ABSENT}
        return event.completed_alike(
            self.texts,
            instant,
            columns["type"],
            columns["subject"],
            sources=None if "source" in absent else columns["source"],
            ids=None if "id" in absent else columns["id"],
            has_time="time" not in absent,
            has_specversion="specversion" not in absent,
            needs_content_type="datacontenttype" in absent and "data" not in absent,
        )

    def _unchanged(self) -> list[EventDraft]:
        """Return the drafts of complete events: their bodies are the texts."""
        return list(map(EventDraft, *(self.columns[name] for name in _OF_DRAFT), self.texts, repeat(())))


class OrdinaryArray(Sequence[OrdinaryEvent]):
    """The events of an array, all of them ordinary."""

    def __init__(self, portions: Sequence[_Portion]) -> None:
        self._portions = portions

    @cached_property
    def _events(self) -> list[OrdinaryEvent]:
        return [ordinary for portion in self._portions for ordinary in portion.events()]

    def __len__(self) -> int:
        return sum(len(portion.texts) for portion in self._portions)

    @overload
    def __getitem__(self, index: int) -> OrdinaryEvent: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[OrdinaryEvent]: ...
    def __getitem__(self, index: int | slice) -> OrdinaryEvent | Sequence[OrdinaryEvent]:
        return self._events[index]

    def __iter__(self) -> Iterator[OrdinaryEvent]:
        return iter(self._events)

    def drafts(self, instant: int) -> list[EventDraft]:
        """Return the draft of each event, faster than one by one. instant: as for `OrdinaryEvent.draft`."""
        return [draft for portion in self._portions for draft in portion.drafts(instant)]


def read_many(texts: Sequence[bytes]) -> list[OrdinaryEvent | None]:
    """Return the event in each JSON text; None for a text that `sent` has to read."""
    return [ordinary for portion in _portions(texts) for ordinary in _read_portion(portion, _Portion.events)]


def read_complete(texts: Sequence[bytes]) -> list[EventDraft | OrdinaryEvent | None]:
    """Return the events like `read_many`, but drafts of the events that are stored as they were sent.

    The other parsed values of these events are freed while they are in the processor's cache.
    """
    return [ordinary for portion in _portions(texts) for ordinary in _read_portion(portion, _Portion.complete)]


def read_array(array: bytes) -> OrdinaryArray | None:
    """Return the events of a JSON array; None if `sent` has to read it."""
    try:
        if _SPACED in array[:_BEGINNING]:
            array = json_text.compact(array)
        texts = list(map(bytes, _elements(array)))
    except _FAILURES:
        return None
    portions: list[_Portion] = []
    for some in _portions(texts):
        portion = _read(some)
        if portion is None:
            return None
        portions.append(portion)
    return OrdinaryArray(portions)


def _portions(texts: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(texts), TOGETHER):
        yield from _small(texts[start : start + TOGETHER])


def _small(texts: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield the texts in portions of at most _FEW_BYTES; a longer text alone."""
    if len(texts) > 1 and sum(map(len, texts)) > _FEW_BYTES:
        half = len(texts) // 2
        yield from _small(texts[:half])
        yield from _small(texts[half:])
    else:
        yield texts


def _read_portion(texts: Sequence[bytes], take: Callable[[_Portion], Sequence[_T]]) -> Sequence[_T | None]:
    portion = _read(texts)
    if portion is not None:
        return take(portion)
    if len(texts) <= _FEW:
        return [None] * len(texts)
    parts = (texts[start : start + _FEW] for start in range(0, len(texts), _FEW))
    return [ordinary for part in parts for ordinary in _read_portion(part, take)]


def _read(texts: Sequence[bytes]) -> _Portion | None:
    """Return the events in a portion; None if one of them is not ordinary."""
    if sum(map(len, texts)) > _FEW_BYTES:
        return None
    try:
        if not _is_spaced(texts[0]):  # mostly all texts are written alike
            portion = _read_compact(texts)
            if portion is not None or not any(map(_is_spaced, texts)):
                return portion
        return _read_compact(list(map(json_text.compact, texts)))
    except _FAILURES:
        return None


def _is_spaced(text: bytes) -> bool:
    return _SPACED in text[:_BEGINNING]


def _read_compact(texts: Sequence[bytes]) -> _Portion | None:
    """Return as `_read`, for texts without white space between tokens. May also raise one of _FAILURES."""
    envelopes = list(map(_decode, texts))
    encoded = _encode(envelopes)
    if len(encoded) != sum(map(len, texts)) + len(texts) + 1 or not _is_sound(envelopes):
        return None
    values = zip(*map(msgspec.structs.astuple, envelopes), strict=True)
    columns = dict(zip(Envelope.__struct_fields__, values, strict=True))
    if not _are_valid(columns, may_have_control=any(map(encoded.__contains__, _CONTROL_IN_JSON))):
        return None
    if not _have_no_stamp(columns) and not all(map(_is_stamped, envelopes, texts)):
        return None
    return _Portion(texts, envelopes, columns)


def _is_sound(envelopes: Sequence[Envelope]) -> bool:
    """Return whether `json_text` keeps the `data` of all unchanged. Raises EventVaultError if it refuses one."""
    together = b"[" + b",".join([envelope.data for envelope in envelopes if envelope.data is not _UNSET]) + b"]"
    return json_text.read(together, max_depth=json_text.MAX_DEPTH + 1)[1] == together


def _are_valid(columns: Mapping[str, Sequence[Any]], *, may_have_control: bool) -> bool:
    """Return whether the schema allows the values of these attributes. columns: name → the values of all events.

    may_have_control: False if they certainly have no control characters.
    """
    names = (*_OTHERS, *_TEXTS) if may_have_control and not _have_no_control(columns) else _OTHERS
    return all(schema.allows(name, list(set(columns[name]))) for name in names)


def _have_no_control(columns: Mapping[str, Sequence[str | None]]) -> bool:
    """Return whether these attributes have no control character: nothing else could be wrong in decoded ones."""
    together = "".join(filter(None, chain.from_iterable(columns[name] for name in _TEXTS))).encode()
    return together.translate(None, _CONTROL) == together


def _are_complete(columns: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether each event is stored as it was sent: with all attributes that are filled in, without a stamp."""
    return (
        all(all(columns[name]) for name in _FILLED)
        and (all(columns["datacontenttype"]) or columns["data"].count(_UNSET) == len(columns["data"]))
        and _have_no_stamp(columns)
    )


def _have_no_stamp(columns: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether no event has an attribute of the registry."""
    return columns["sequence"].count(None) == columns["recordedtime"].count(None) == len(columns["type"])


def _is_stamped(envelope: Envelope, text: bytes) -> bool:
    """Return whether the attributes of the registry, if any, are where `OrdinaryEvent.draft` removes them."""
    if envelope.sequence is None:
        return envelope.recordedtime is None
    return envelope.recordedtime is not None and envelope.id is not None and text.endswith(_stamp(envelope))


def _stamp(envelope: Envelope) -> bytes:
    return _STAMP % (envelope.sequence, (envelope.recordedtime or "").encode())
