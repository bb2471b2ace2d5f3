"""Quarantined messages in the journal, while the quarantine changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from eventvault.database import keys
from eventvault.errors import DatabaseDamaged
from eventvault.journal import letters
from eventvault.journal.letters import LettersFolder
from eventvault.kafka import quarantined
from eventvault.kafka.quarantined import Place
from tests.quarantine import letter

OURS = "ours"


class Rows:
    """The keys of messages. leaving: one that leaves the quarantine when its content is asked for."""

    def __init__(self, *times: int) -> None:
        """Quarantine a message at each of these instants."""
        self.leaving: Place | None = None
        self.by_key: dict[bytes, bytes] = {}
        for number, at in enumerate(times, 1):
            self.by_key.update(quarantined.puts_of(place(number), at, *quarantined.described(*letter(number)[:2])))

    def scan_meta(self, prefix: bytes) -> dict[bytes, bytes]:
        return {key: value for key, value in self.by_key.items() if key.startswith(prefix)}

    @contextmanager
    def rows(self, start: bytes, stop: bytes) -> Iterator[Iterator[tuple[bytes, bytes]]]:
        yield iter(sorted((key, value) for key, value in self.by_key.items() if start < key < stop))

    def get_value(self, key: bytes) -> bytes | None:
        if self.leaving is not None and key == self.leaving.key:
            self.drop(self.leaving)
        return self.by_key.get(key)

    def drop(self, dropped: Place) -> None:
        self.by_key = {key: value for key, value in self.by_key.items() if not key.endswith(dropped.suffix)}


def place(number: int) -> Place:
    return Place("events", 0, number)


def folder_of(rows: Any, root: Path) -> LettersFolder:
    return LettersFolder(root, OURS, lambda: nullcontext(rows))


def in_files(root: Path) -> list[set[bytes]]:
    """The keys of the messages in each file."""
    return [{key for key, _, _ in letters.read(path, OURS) or ()} for path in letters.files_of(root)]


def test_a_message_that_leaves_while_it_is_read_keeps_no_other_one_out(tmp_path: Path) -> None:
    rows = Rows(1, 2)
    rows.leaving = place(1)
    folder_of(rows, tmp_path).write_new()
    assert in_files(tmp_path) == [{quarantined.list_key(2, place(2))}]


def test_what_comes_back_joins_the_others_of_its_instant(tmp_path: Path) -> None:
    """As after a restore of an archive that has messages which were dropped since."""
    rows = Rows(5, 5, 5)
    before = dict(rows.by_key)
    folder = folder_of(rows, tmp_path)
    folder.write_new()
    rows.drop(place(1))
    rows.drop(place(3))
    folder.tend()
    assert in_files(tmp_path) == [rows.scan_meta(keys.QUARANTINE_LIST).keys()]
    rows.by_key = before
    folder.tend()
    assert in_files(tmp_path) == [rows.scan_meta(keys.QUARANTINE_LIST).keys()]


def test_a_message_that_is_listed_and_has_no_content_is_damage(tmp_path: Path) -> None:
    rows = Rows(1, 2)
    del rows.by_key[place(1).key]
    assert rows.scan_meta(keys.QUARANTINE_LIST)
    with pytest.raises(DatabaseDamaged):
        folder_of(rows, tmp_path).write_new()
