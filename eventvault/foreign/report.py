"""Reports an import of foreign records: how many became events, and what was changed in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec


class Renamed(msgspec.Struct, frozen=True):
    """A record with the identity (`source`, `id`) of an earlier one. key: its `originalkey`. became: its new id."""

    key: str
    source: str
    id: str
    became: str


class ImportReport(msgspec.Struct, frozen=True):
    """The outcome of an import. events: number of records, all of which became events. not_json: how many are not JSON.

    renamed: the first records that got another id. notes: sentences about what was changed.
    """

    events: int
    not_json: int
    renamed: list[Renamed]
    notes: list[str]


_SENTENCES = {
    "not_json": "records that are not JSON, kept in data_base64: {}",
    "not_embeddable": "records of JSON that common readers refuse (a lone surrogate, a number beyond a double, "
    "nested too deeply, too many values), kept byte for byte in data_base64: {}",
    "id_derived": "records without an id, named after the key: {}",
    "converted": "records with an attribute that CloudEvents does not allow, converted, the whole record in data: {}",
    "timeless": "records with a time that cannot be read, left without time, the whole record in data: {}",
    "renamed": "records with the id and source of a record before them, named after the key: {}",
}


def make_report(counts: Mapping[str, int], renamed: Sequence[Renamed], notes: Iterable[str]) -> ImportReport:
    """Return the report. counts: with the names in `_SENTENCES`, and `events`. notes: come before the other notes."""
    sentences = [sentence.format(counts[name]) for name, sentence in _SENTENCES.items() if counts[name]]
    renames = [f"{event.key}: the id {event.id} became {event.became}" for event in renamed]
    return ImportReport(counts["events"], counts["not_json"], list(renamed), [*notes, *sentences, *renames])
