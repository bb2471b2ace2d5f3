"""BACKUP_DIR/.heads.json: how far the archives of each generation go, so that a start need not read every archive.

It is a cache, valid while the folder has archives of the same names, the catalogue is the same file and the same keys
and archives are trusted. Otherwise the catalogue is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Literal

import msgspec

from eventvault import data_folders, small_files
from eventvault.backups import names
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.errors import EventVaultError
from eventvault.files import FileIdentity
from eventvault.small_files import SmallFileDamaged


class ArchiveHead(msgspec.Struct, frozen=True):
    """The furthest archive of a generation. sequence: of its last event. archive: its name."""

    sequence: int
    archive: str


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """names: SHA-256 of the archives' names and of what is trusted; empty if an archive could not be read, so that the
    cache is not used."""

    names: str
    catalogue: FileIdentity | None
    heads: dict[str, ArchiveHead]
    format: Literal[1] = 1


class ArchiveHeads:
    """Safe to use from many threads. Methods may raise OSError and BackupsUnavailable."""

    def __init__(self, backup_dir: Path, catalogue: Catalogue) -> None:
        self._folder = backup_dir
        self._catalogue = catalogue
        self._saved: _Document | None = None

    def by_generation(self, *, may_read_archives: bool = True) -> dict[str, ArchiveHead]:
        """Return the furthest proven archive of each generation.

        may_read_archives: False: leave out archives that came since all of them were read last.
        """
        with suppress(SmallFileDamaged, FileNotFoundError):
            document = small_files.read(self._folder / data_folders.HEADS, _Document)
            if (document.names, document.catalogue) == (self._digest_names(), self._catalogue_identity()):
                return document.heads
        if not may_read_archives:
            return self._saved.heads if self._saved is not None else {}
        return _heads_of(self.entries())

    def entries(self) -> list[BackupEntry]:
        """Return all archives, as the catalogue does, and write the cache if it changed."""
        before = self._digest_names()
        entries = self._catalogue.entries()
        unread = any(entry.problem is not None and entry.generation is None for entry in entries)
        document = _Document("" if unread else before, self._catalogue_identity(), _heads_of(entries))
        if document != self._saved:
            with suppress(OSError, EventVaultError):  # it is only a cache
                self._catalogue.check_folder()
                small_files.write(self._folder / data_folders.HEADS, document)
                self._saved = document
        return entries

    def _digest_names(self) -> str:
        parts = sorted(path.name for path in self._folder.iterdir() if names.is_name(path.name))
        proof = self._catalogue.proof()
        parts += [*proof.keys, *proof.trust.keys, *sorted(proof.trust.checksums)]
        return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()

    def _catalogue_identity(self) -> FileIdentity | None:
        return FileIdentity.at(self._folder / data_folders.CATALOGUE)


def _heads_of(entries: Iterable[BackupEntry]) -> dict[str, ArchiveHead]:
    heads: dict[str, ArchiveHead] = {}
    for entry in entries:
        if (entry.is_ours or entry.trusted) and entry.generation is not None:
            head = ArchiveHead(entry.sequence or 0, entry.name)
            heads[entry.generation] = max(head, heads.get(entry.generation, head), key=attrgetter("sequence"))
    return heads
