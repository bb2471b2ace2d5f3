"""The journal's folder is read correctly while segments are merged and removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eventvault import data_folders
from eventvault.journal import compaction, segment
from eventvault.journal.folder import JournalFolder
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import drafts
from tests.stores import running_service


@pytest.fixture
def backups(settings: Settings) -> Path:
    """A journal of three segments without a writer."""
    with running_service(settings) as service:
        for number in range(3):
            append(service, number)
    return settings.backup_dir


def append(service: StoreService, number: int) -> None:
    service.append(drafts(1, f"each-{number}"))
    assert service.journal.flush()


def test_segments_that_are_merged_while_they_are_looked_at_are_all_seen(
    backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, other = JournalFolder(backups), JournalFolder(backups)
    merging = other.segments()[0]
    read = segment.read_header

    def late(path: Path) -> segment.Segment:
        monkeypatch.setattr(segment, "read_header", read)
        assert compaction.merge(other, merging)
        return read(path)

    monkeypatch.setattr(segment, "read_header", late)

    assert [(each.first, each.last) for each in journal.segments()[0]] == [(1, 3)]


@pytest.mark.slow
def test_a_generation_that_is_removed_while_it_is_looked_at_is_gone(
    backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, other = JournalFolder(backups), JournalFolder(backups)
    removed = other.segments()[0]

    class Root:
        """List the folder, then remove everything in it."""

        def iterdir(self) -> Iterator[Path]:
            found = list((backups / data_folders.JOURNAL).iterdir())
            yield from found
            other.remove(removed)

    monkeypatch.setattr(journal, "root", Root())

    assert journal.segments() == ([], [])
