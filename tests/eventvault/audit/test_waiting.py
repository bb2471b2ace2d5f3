from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec
import pytest

from eventvault.audit.lines import AuditEntry
from eventvault.audit.waiting import DAMAGED, WaitingEntries
from tests.eventvault.audit.audits import entry

FIXTURE = Path(__file__).parents[2] / "fixtures" / "line-checksums" / "audit_waiting.jsonl"
"""Entries as they were written when the code of their checksums was the audit's own."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit_waiting.jsonl"


def test_what_one_process_appends_another_one_reads(path: Path) -> None:
    for number in range(3):
        WaitingEntries(path).append(entry(number))
    waiting = WaitingEntries(path)
    entries, end = waiting.read()
    assert entries == [entry(number) for number in range(3)]
    waiting.drop(end)
    assert (waiting.read(), waiting.count(), waiting.size()) == (([], 0), 0, 0)


def test_nothing_waits_where_nothing_was_appended(path: Path) -> None:
    assert (WaitingEntries(path).read(), WaitingEntries(path).size()) == (([], 0), 0)
    assert not path.exists()


def test_what_is_appended_meanwhile_stays(path: Path) -> None:
    waiting = WaitingEntries(path)
    waiting.append(entry(1))
    _, end = waiting.read()
    waiting.append(entry(2))
    waiting.drop(end)
    assert waiting.read()[0] == [entry(2)]


def test_a_torn_entry_spoils_no_other_and_is_named(path: Path) -> None:
    waiting = WaitingEntries(path)
    waiting.append(entry(1))
    path.write_bytes(path.read_bytes() + b'{"at":"2026')
    waiting.append(entry(2))
    first, about, last = waiting.read()[0]
    assert (first, last) == (entry(1), entry(2))
    assert (about.action, about.state) == ("audit", "noted")
    assert about.details == {DAMAGED: {"bytes": 11, "text": '{"at":"2026'}}


@pytest.mark.slow
def test_every_flipped_bit_of_an_entry_is_named_or_changes_nothing(path: Path) -> None:
    waiting = WaitingEntries(path)
    waiting.append(entry(1))
    content = path.read_bytes()
    for bit in range(8 * (len(content) - 1)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        found = waiting.read()[0]
        assert found == [entry(1)] or (found and all(each.details.keys() == {DAMAGED} for each in found)), bit


def test_entries_of_an_earlier_version_have_no_checksum_and_are_read(path: Path) -> None:
    path.write_bytes(msgspec.json.encode(entry(1)) + b"\n")
    waiting = WaitingEntries(path)
    waiting.append(entry(2))
    assert (waiting.read()[0], waiting.count()) == ([entry(1), entry(2)], 2)


def test_an_earlier_version_reads_the_entries_of_this_one(path: Path) -> None:
    WaitingEntries(path).append(entry(1, details={"a": {"b": [1.5, None]}}))
    assert msgspec.json.decode(path.read_bytes(), type=AuditEntry) == entry(1, details={"a": {"b": [1.5, None]}})


def test_the_bytes_of_the_first_entries_with_checksums_are_read_and_written(path: Path) -> None:
    content = FIXTURE.read_bytes()
    entries = [entry(1), entry(2, details={"a": {"b": [1.5, None]}})]
    for each in entries:
        WaitingEntries(path).append(each)
    assert path.read_bytes() == content

    path.write_bytes(content)
    assert WaitingEntries(path).read() == (entries, len(content))
    path.write_bytes(content.replace(b"tester", b"nobody", 1))
    assert [each.action for each in WaitingEntries(path).read()[0]] == ["audit", "pin"]


def test_a_file_without_a_single_line_is_dropped_in_parts(path: Path) -> None:
    path.write_bytes(bytes(3000))
    waiting, sizes = WaitingEntries(path), []
    while waiting.size():
        entries, end = waiting.read(1000)
        sizes += [each.details[DAMAGED]["bytes"] for each in entries]
        waiting.drop(end)
    assert sizes == [1000, 1000, 1000]


def test_many_are_read_in_parts(path: Path) -> None:
    waiting = WaitingEntries(path)
    for number in range(20):
        waiting.append(entry(number))
    found = []
    while waiting.size():
        entries, end = waiting.read(1000)
        found += entries
        waiting.drop(end)
    assert found == [entry(number) for number in range(20)]


def test_none_is_lost_while_many_append_and_one_takes(path: Path) -> None:
    waiting = WaitingEntries(path)

    def append(first: int) -> None:
        for number in range(first, first + 30):
            WaitingEntries(path).append(entry(number))

    threads = [threading.Thread(target=append, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    found = []
    while any(thread.is_alive() for thread in threads) or waiting.size():
        entries, end = waiting.read()
        found += entries
        if end:
            waiting.drop(end)
    assert len({each.operation for each in found}) == len(found) == 90


def test_only_the_owner_may_read_it(path: Path) -> None:
    before = os.umask(0o027)
    try:
        waiting = WaitingEntries(path)
        waiting.append(entry(1))
        _, end = waiting.read()
        waiting.append(entry(2))
        waiting.drop(end)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
