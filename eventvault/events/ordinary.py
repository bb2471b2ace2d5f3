"""Recognises ordinary events in many texts, several times faster than `eventvault.events.sent` reads any event.

It has no rules of its own: it proves of texts that the rules of `json_text` and `schema` allow them, and would change
nothing but white space between tokens. Where the proof fails, the text is read carefully: nothing is refused here. So
it may know less than the rules, but never other ones.

The proof takes a few calls for all texts. The decoder checks the structure and the types. It skips `data`, which
`json_text.read` then checks. Encoded again, an event takes the fewest bytes that JSON needs. So if all are as long as
their texts, none has a repeated name, a needless escape or white space outside `data`. The schema checks the values of
one attribute after the other.
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
"""Events that are read at once: what was parsed of their `data` stays in the processor's cache."""
_FEW = 10
"""Events that are tried once more if one of TOGETHER is no ordinary one."""
_FEW_BYTES = 2**20
"""A text of this size never has too many values for `json_text`."""
_SPACED, _BEGINNING = b": ", 64
"""A text with white space between its tokens has some of it in its beginning."""
_STAMP = b',"sequence":%d,"recordedtime":"%s"}'
"""The end of an event as an export has it."""
_TEXTS = ("id", "source", "type", "subject", "dataschema")
"""Attributes of which the schema refuses control characters, beside their type and length."""
_OTHERS = ("time", "datacontenttype")
"""Attributes with another rule for their values."""
_CONTROL = bytes((*range(0x20), 0x7F, 0xC2))
"""Bytes of which control characters have one in UTF-8; those behind 0xC2 are no such characters in part."""
_CONTROL_IN_JSON = b"\\", b"\x7f", b"\xc2"
"""The same in a JSON text, which escapes those below 0x20."""
_FILLED = ("specversion", "time", "id", "source")
"""Attributes that `event.completed` fills in, beside `datacontenttype`."""
_DECIDING = (*_FILLED, "datacontenttype", "data")
"""Attributes that decide what is filled in."""
_ABSENT = {type(None), msgspec.UnsetType}
_OF_DRAFT = ("source", "id", "type", "subject")
"""The first members of an EventDraft."""

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT)]


class Envelope(msgspec.Struct, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """The attributes that ordinary events have. One that is sent as null is left out when it is encoded again."""

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
    """An event that was found to be valid; it answers as `eventvault.events.sent.SentEvent` does.

    complete: its draft if nothing is to be filled in and nothing is left out.
    """

    envelope: Envelope
    text: bytes
    complete: EventDraft | None = None

    problem: ClassVar[None] = None

    @property
    def attributes(self) -> dict[str, Any]:
        present = {
            name: value
            for name, value in msgspec.structs.asdict(self.envelope).items()
            if value is not None and value is not _UNSET
        }
        return present | {"data": True} if "data" in present else present

    @property
    def attribute_count(self) -> int:
        values = msgspec.structs.astuple(self.envelope)
        return len(values) - values.count(None) - values.count(_UNSET)

    @property
    def sent_id(self) -> str | None:
        return self.envelope.id

    def with_id(self, event_id: str, *, first: bool = False) -> OrdinaryEvent:
        """Return the event, which has none, with that id. first: in front of the other attributes."""
        member = b'"id":' + orjson.dumps(event_id)
        text = b"{" + member + b"," + self.text[1:] if first else self.text[:-1] + b"," + member + b"}"
        return OrdinaryEvent(msgspec.structs.replace(self.envelope, id=event_id), text)

    def draft(self, instant: int) -> EventDraft:
        """instant: microseconds, used as `time` if there is none."""
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
        """Return the draft of each event if nothing is filled in or left out, else the events."""
        return self._unchanged() if _are_complete(self.columns) else self.events()

    def drafts(self, instant: int) -> list[EventDraft]:
        """Return what `OrdinaryEvent.draft` makes of each: at once if all lack the same attributes."""
        columns = self.columns
        kinds = [set(map(type, columns[name])) for name in _DECIDING]
        if any(len(kind) > 1 for kind in kinds) or not _have_no_stamp(columns):
            return [each.draft(instant) for each in map(OrdinaryEvent, self.envelopes, self.texts)]
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
        return [each for portion in self._portions for each in portion.events()]

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
        """Return the draft of each event, sooner than one after the other. instant: as for `OrdinaryEvent.draft`."""
        return [draft for portion in self._portions for draft in portion.drafts(instant)]


def read_many(texts: Sequence[bytes]) -> list[OrdinaryEvent | None]:
    """Return the event in each JSON text; None for one that is to be read carefully."""
    return [found for portion in _portions(texts) for found in _read_portion(portion, _Portion.events)]


def read_complete(texts: Sequence[bytes]) -> list[EventDraft | OrdinaryEvent | None]:
    """Return what `read_many` does, or the drafts of events that are stored as they were sent.

    What else was parsed of those is freed while it is in the processor's cache.
    """
    return [found for portion in _portions(texts) for found in _read_portion(portion, _Portion.complete)]


def read_array(array: bytes) -> OrdinaryArray | None:
    """Return the events of a JSON array; None if one of them is to be read carefully."""
    try:
        if _SPACED in array[:_BEGINNING]:
            array = json_text.compact(array)
        texts = list(map(bytes, _elements(array)))
    except _FAILURES:
        return None
    portions: list[_Portion] = []
    for some in _portions(texts):
        found = _read(some)
        if found is None:
            return None
        portions.append(found)
    return OrdinaryArray(portions)


def _portions(texts: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(texts), TOGETHER):
        yield from _small(texts[start : start + TOGETHER])


def _small(texts: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield the texts in portions of few bytes, or alone."""
    if len(texts) > 1 and sum(map(len, texts)) > _FEW_BYTES:
        half = len(texts) // 2
        yield from _small(texts[:half])
        yield from _small(texts[half:])
    else:
        yield texts


def _read_portion(texts: Sequence[bytes], take: Callable[[_Portion], Sequence[_T]]) -> Sequence[_T | None]:
    found = _read(texts)
    if found is not None:
        return take(found)
    if len(texts) <= _FEW:
        return [None] * len(texts)
    parts = (texts[start : start + _FEW] for start in range(0, len(texts), _FEW))
    return [each for part in parts for each in _read_portion(part, take)]


def _read(texts: Sequence[bytes]) -> _Portion | None:
    """Return the events in a portion; None if one of them is no ordinary one."""
    if sum(map(len, texts)) > _FEW_BYTES:
        return None
    try:
        if not _is_spaced(texts[0]):  # mostly all texts are written alike
            found = _read_compact(texts)
            if found is not None or not any(map(_is_spaced, texts)):
                return found
        return _read_compact(list(map(json_text.compact, texts)))
    except _FAILURES:
        return None


def _is_spaced(text: bytes) -> bool:
    return _SPACED in text[:_BEGINNING]


def _read_compact(texts: Sequence[bytes]) -> _Portion | None:
    """`_read` of texts without white space between tokens. Raises one of _FAILURES for some that it refuses."""
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
    """Return whether `json_text` takes the `data` of all as it is. Raises EventVaultError if it refuses one."""
    together = b"[" + b",".join([each.data for each in envelopes if each.data is not _UNSET]) + b"]"
    return json_text.read(together, max_depth=json_text.MAX_DEPTH + 1)[1] == together


def _are_valid(columns: Mapping[str, Sequence[Any]], *, may_have_control: bool) -> bool:
    """Return whether the schema allows the values of these attributes. columns: name → the values of all events.

    may_have_control: False if no control character is in them for certain.
    """
    names = (*_OTHERS, *_TEXTS) if may_have_control and not _have_no_control(columns) else _OTHERS
    return all(schema.allows(name, list(set(columns[name]))) for name in names)


def _have_no_control(columns: Mapping[str, Sequence[str | None]]) -> bool:
    """Return whether these attributes have no control character: of the decoded ones the schema refuses no other."""
    together = "".join(filter(None, chain.from_iterable(columns[name] for name in _TEXTS))).encode()
    return together.translate(None, _CONTROL) == together


def _are_complete(columns: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether each event is stored as it was sent: it has all that would be filled in, and no stamp."""
    return (
        all(all(columns[name]) for name in _FILLED)
        and (all(columns["datacontenttype"]) or columns["data"].count(_UNSET) == len(columns["data"]))
        and _have_no_stamp(columns)
    )


def _have_no_stamp(columns: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether no event has an attribute of the registry."""
    return columns["sequence"].count(None) == columns["recordedtime"].count(None) == len(columns["type"])


def _is_stamped(envelope: Envelope, text: bytes) -> bool:
    """Return whether the attributes of the registry, if any, are where `OrdinaryEvent.draft` cuts them off."""
    if envelope.sequence is None:
        return envelope.recordedtime is None
    return envelope.recordedtime is not None and envelope.id is not None and text.endswith(_stamp(envelope))


def _stamp(envelope: Envelope) -> bytes:
    return _STAMP % (envelope.sequence, (envelope.recordedtime or "").encode())
