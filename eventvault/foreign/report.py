"""What an import of foreign records says about itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec


class Renamed(msgspec.Struct, frozen=True):
    """A record whose identity (`source`, `id`) a record before it has. key: its `originalkey`. became: its new id."""

    key: str
    source: str
    id: str
    became: str


class ImportReport(msgspec.Struct, frozen=True):
    """events: how many records became events, which is all there were. not_json: how many of them are no JSON.

    renamed: the first of the records that were given another id. notes: what was changed on the way, in sentences.
    """

    events: int
    not_json: int
    renamed: list[Renamed]
    notes: list[str]


_SAID = {
    "not_json": "records that are not JSON, kept in data_base64: {}",
    "text_kept": "records of JSON that common readers refuse (a lone surrogate, a number beyond a double, nested too "
    "deeply), kept byte for byte in data_base64: {}",
    "id_derived": "records without an id, named after the key: {}",
    "converted": "records with an attribute that CloudEvents does not allow, converted, the whole record in data: {}",
    "timeless": "records with a time that cannot be read, left without time, the whole record in data: {}",
    "renamed": "records with the id and source of a record before them, named after the key: {}",
}


def make_report(counts: Mapping[str, int], renamed: Sequence[Renamed], notes: Iterable[str]) -> ImportReport:
    """counts: by the names of `_SAID`, and `events`."""
    said = [sentence.format(counts[name]) for name, sentence in _SAID.items() if counts[name]]
    each = [f"{event.key}: the id {event.id} became {event.became}" for event in renamed]
    return ImportReport(counts["events"], counts["not_json"], list(renamed), [*notes, *said, *each])
