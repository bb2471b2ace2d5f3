"""The scrub reads segments again, one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventvault import clock
from eventvault.database.generation import Generation
from eventvault.events import event
from eventvault.journal import segment
from eventvault.journal.folder import JournalFolder
from eventvault.journal.scrub import READ_INTERVAL_SECONDS, SegmentScrub
from eventvault.journal.segment import Segment, SegmentInfo

GENERATION = Generation("0123456789abcdef", None, 0, "created", 1)


def write(folder: JournalFolder, sequence: int, installation: str = "ours") -> None:
    """Write a segment of one event."""
    instant = clock.parse("2026-01-31T12:00:00Z")
    line = event.recorded_body(event.draft({"type": "t"}, instant).body, sequence, instant)
    about = SegmentInfo(store_id="s", installation=installation, generation=GENERATION, first=sequence)
    segment.write_segment(folder.generation_folder(GENERATION.id), about, [line])


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the first sequences of the segments that are read."""
    numbers: list[int] = []
    read_lines = segment.read_lines

    def noting(each: Segment) -> list[bytes]:
        numbers.append(each.first)
        return read_lines(each)

    monkeypatch.setattr(segment, "read_lines", noting)
    return numbers


def test_each_is_read_once_a_day_one_with_each_step(tmp_path: Path, read: list[int]) -> None:
    folder, now = JournalFolder(tmp_path), [0.0]
    write(folder, 1)
    write(folder, 2)
    write(folder, 3, "another one")
    check = SegmentScrub(folder, "ours", lambda: now[0])

    for _ in range(4):
        check.step()
        now[0] += 1
    assert sorted(read) == [1, 2]

    now[0] = READ_INTERVAL_SECONDS + 0.5
    check.step()
    check.step()
    assert read == [*read[:2], read[0]]


def test_one_that_was_just_written_is_read_a_day_later(tmp_path: Path, read: list[int]) -> None:
    folder, now = JournalFolder(tmp_path), [0.0]
    check = SegmentScrub(folder, "ours", lambda: now[0])
    check.step()
    write(folder, 1)

    check.step()
    assert read == []
    now[0] = READ_INTERVAL_SECONDS
    check.step()
    assert read == [1]


def test_a_suspect_is_read_at_once_and_not_again_when_it_is_good(tmp_path: Path, read: list[int]) -> None:
    folder = JournalFolder(tmp_path)
    check = SegmentScrub(folder, "ours", lambda: 0.0)
    check.step()
    write(folder, 1)
    folder.mark_suspect(folder.segments()[0][0].path)

    check.step()
    check.step()
    assert read == [1]
