"""Reads the archives and the journal in BACKUP_DIR, as a recovery would. It writes and locks nothing there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from eventvault.backups.archive_totals import list_totals
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.backups.installation_id import has_no_database, peek_id, read_from_journal
from eventvault.backups.installation_key import present_key
from eventvault.backups.trust import TrustList
from eventvault.database.generation import lineage, oldest_first
from eventvault.doctor.facts import Backups
from eventvault.errors import BackupsChanged, EventVaultError
from eventvault.journal import coverage
from eventvault.journal.folder import JournalFolder
from eventvault.journal.segment import Segment
from eventvault.restore.start.lost import find_recovery_sources
from eventvault.settings import Settings
from eventvault.system_errors import reason_of


def look_at_backups(settings: Settings) -> Backups:
    """Return what BACKUP_DIR holds of this installation. Never raises an error of the disk."""
    try:
        return _read_backups(settings)
    except EventVaultError as error:
        return Backups(unread=error.message)
    except OSError as error:
        return Backups(unread=reason_of(error))


def catalogue_to_read(settings: Settings) -> Catalogue:
    """Return a catalogue that writes nothing."""
    folder = settings.backup_dir
    installation = peek_id(settings.storage_dir) or _peek(folder)
    return Catalogue(
        folder, installation or "", key=lambda: present_key(settings), trust=TrustList(settings).trust,
        generations=lambda: _recorded_generations(folder), check_folder=lambda: _refuse_writes(folder),
    )  # fmt: skip


def _recorded_generations(folder: Path) -> list[str]:
    """Return the generations from the journal's record, oldest first; the database is not opened here."""
    record = JournalFolder(folder).read_record()
    return [generation.id for generation in record.registry.generations] if record is not None else []


def _peek(folder: Path) -> str | None:
    with suppress(NotADirectoryError):
        return peek_id(folder) or read_from_journal(folder)
    return None


def _read_backups(settings: Settings) -> Backups:
    if not settings.backup_dir.exists():
        return Backups()
    catalogue, journal = catalogue_to_read(settings), JournalFolder(settings.backup_dir)
    totals = list_totals(catalogue, catalogue.entries)
    if totals.problem is not None:
        raise totals.problem
    good = [entry for entry in totals.entries if entry.problem is None]
    newest = next((entry for entry in good if entry.is_ours), None)
    segments, damaged = journal.segments()
    segments = [segment for segment in segments if segment.header.installation == catalogue.installation]
    line = _current_lineage(journal, segments)
    of_lineage = coverage.in_lineage(segments, line)
    last = max(of_lineage, key=lambda item: item[1], default=None)
    return Backups(
        archives=len(totals.entries),
        good=len(good),
        size=totals.size,
        newest=None if newest is None else newest.created,
        newest_sequence=None if newest is None else newest.sequence,
        sources=_sources(settings) if has_no_database(settings) else "",
        segments=len(segments),
        segments_damaged=len(damaged) + len(journal.quarantined()),
        gaps=() if last is None else tuple(coverage.missing(segments, line, _archived(good, line), last[1])),
        last_sequence=None if last is None else last[1],
        last_time=None if last is None else last[2].last_time,
        problems=totals.problems,
    )


def _sources(settings: Settings) -> str:
    """Return in words what a lost database can be recovered from. This reads every archive's manifest again."""
    return str(find_recovery_sources(catalogue_to_read(settings), JournalFolder(settings.backup_dir)))


def _current_lineage(journal: JournalFolder, segments: Sequence[Segment]) -> list[tuple[str, int]]:
    """Return the current generation and its ancestors, as the journal knows them."""
    generations = {segment.generation: segment.header.generation for segment in segments}
    record = journal.read_record()
    if record is not None:
        return lineage(generations | record.registry.by_id(), record.registry.generation)
    ordered = oldest_first(generations.values())
    return lineage(generations, ordered[-1].id) if ordered else []


def _archived(entries: Sequence[BackupEntry], line: Sequence[tuple[str, int]]) -> int:
    """Return the last event up to which one archive has all events of the lineage; 0 if there is no archive."""
    bounds = dict(line)
    ours = (entry for entry in entries if entry.is_ours and entry.generation in bounds)
    return max((min(entry.sequence or 0, bounds[entry.generation or ""]) for entry in ours), default=0)


def _refuse_writes(folder: Path) -> None:
    raise BackupsChanged(f"nothing is written to {folder}", hint="it is only read")
