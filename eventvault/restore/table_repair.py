"""Replaces damaged tables by whole copies, so that posts continue after a merge has met damage.

A copy comes from a proven archive, or from a previous database. It counts as the same table if it has the digest that
was noted when the table was archived, or if both differ only in damaged blocks. No table is ever replaced by an older
one: LevelDB never changes a complete table.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from eventvault import data_folders
from eventvault.archive.single_file import extract
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.table_digests import find_digest
from eventvault.damage import SYSTEM_ERRORS
from eventvault.database.bus import EventBus
from eventvault.errors import ArchiveDamaged, ArchiveError, BackupNotFound, DatabaseDamaged, EventVaultError, TooBusy
from eventvault.files import (
    IO_BYTES,
    copy_range,
    durable_file,
    make_folder,
    matching,
    read_at,
    remove_durably,
    sync_folder,
)
from eventvault.leveldb.examine import file_numbers
from eventvault.leveldb.manifest import read_current, read_version
from eventvault.leveldb.table import ReadAt, check_table, is_same_but_for_damage
from eventvault.progress import Turn
from eventvault.regular_files import open_file, open_handle
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

STOP_SECONDS = 5.0


class TableRepair:
    """Repairs the live database. hint: returns what an operator can do if the open database cannot be repaired."""

    def __init__(self, settings: Settings, bus: EventBus, catalogue: Catalogue, hint: Callable[[], str]) -> None:
        self._storage_dir = settings.storage_dir
        self._database = settings.database
        self._damaged_tables = settings.storage_dir / data_folders.DAMAGED_TABLES
        self._bus = bus
        self._catalogue = catalogue
        self._hint = hint
        self._running = Turn("repair of the database")
        self._stopping = threading.Event()

    def start(self) -> None:
        """Repair the open database, whose writes have stopped, in a thread. Returns at once."""
        threading.Thread(target=self._repair_open, name="table-repair", daemon=True).start()

    def start_naming_remedy(self) -> None:
        """After a read met damage: find out in a thread which restore replaces the database. Returns at once."""
        threading.Thread(target=self._name_remedy, name="remedy", daemon=True).start()

    def stop(self) -> None:
        """Start no more repairs; wait for one that is under way, for STOP_SECONDS at most."""
        self._stopping.set()
        with suppress(TooBusy), self._running.held(STOP_SECONDS):
            pass

    def repair_closed(self) -> bool:
        """Repair the database, which cannot be opened. Returns whether that was possible."""
        try:
            with self._running.held():
                return self._repair(lambda replace: replace())
        except (EventVaultError, *SYSTEM_ERRORS) as error:
            log.warning("the damaged tables of the database could not be replaced: %s", error)
            return False

    def _repair_open(self) -> None:
        try:
            with self._running.held():
                if not self._repair(self._bus.reopen_after) and not self._stopping.is_set():
                    self._bus.hint_at_remedy(self._hint())
        except (EventVaultError, *SYSTEM_ERRORS) as error:
            log.warning("the damaged tables of the database could not be replaced: %s", error)

    def _name_remedy(self) -> None:
        try:
            self._bus.hint_at_remedy(self._hint())
        except (EventVaultError, *SYSTEM_ERRORS) as error:
            log.warning("could not find out which restore replaces the damaged database: %s", error)

    def _repair(self, while_closed: Callable[[Callable[[], None]], None]) -> bool:
        """Replace all damaged tables, or none. while_closed: calls its argument while the database is closed."""
        staging = self._storage_dir / f"{data_folders.RESTORING_PREFIX}{secrets.token_hex(4)}"
        staging.mkdir()
        try:
            copies = {name: self._find_copy(name, staging) for name in self.find_damaged()}
            whole = {name: copy for name, copy in copies.items() if copy is not None}
            if self._stopping.is_set():
                return False
            if not copies or len(whole) < len(copies):
                missing = ", ".join(name for name in copies if name not in whole) or "no table"
                log.error("the database cannot be repaired: no whole copy of %s was found", missing)
                return False
            while_closed(lambda: self._replace(whole))
            log.warning("damaged tables were replaced by whole copies: %s", ", ".join(whole))
            return True
        finally:
            remove_durably(staging)

    def find_damaged(self) -> list[str]:
        """Return the names of the damaged tables. Raises OSError for one that cannot be read."""
        manifest = self._database / read_current(self._database)
        with open_file(manifest) as file:
            sizes = {number: table.size for number, table in read_version(file, name=manifest.name).files.items()}
        names = file_numbers([path.name for path in self._database.iterdir()], "ldb", "sst")
        return [
            name for number, name in names.items()
            if number in sizes and not _is_whole(self._database / name, sizes[number])
        ]  # fmt: skip

    def _find_copy(self, name: str, staging: Path) -> Path | None:
        """Return a whole copy of the damaged table, in `staging` or in a previous database; None if there is none."""
        damaged = self._database / name
        size, digest = damaged.stat().st_size, find_digest(self._storage_dir, self._generation(), damaged)
        for copy in self._copies(name, size, staging):
            if _is_whole(copy, size) and (_digest(copy) == digest or _is_same(copy, damaged, size)):
                return copy
            log.warning("%s is not a whole copy of %s", copy, damaged)
        return None

    def _generation(self) -> str | None:
        registry = self._bus.registry
        return registry.identity.generation if registry is not None else None

    def _copies(self, name: str, size: int, staging: Path) -> Iterator[Path]:
        for previous in matching(self._storage_dir, f"{data_folders.PREVIOUS_PREFIX}*"):
            if (previous / name).is_file() and (previous / name).stat().st_size == size:
                yield previous / name
        for entry in self._catalogue.entries():
            target = staging / f"{len(list(staging.iterdir()))}-{name}"
            if entry.origin_proven and entry.problem is None:
                try:
                    if extract(Path(entry.path), name, size, target):
                        yield target
                except ArchiveDamaged as error:
                    self._catalogue.record_problem(entry.name, error.message)
                    log.warning("%s cannot be used for the repair of %s: %s", entry.name, name, error)
                except (ArchiveError, BackupNotFound) as error:
                    log.warning("%s cannot be used for the repair of %s: %s", entry.name, name, error)

    def _replace(self, copies: Mapping[str, Path]) -> None:
        """Replace the tables of the closed database by the copies; a link to each damaged table stays."""
        make_folder(self._damaged_tables)
        for name, copy in copies.items():
            table = self._database / name
            _retain(table, self._damaged_tables / f"{table.stem}-{secrets.token_hex(4)}{table.suffix}")
            with durable_file(table) as target, open_file(copy) as source:
                copy_range(source.fileno(), 0, target.fileno(), 0, os.fstat(source.fileno()).st_size)


def _retain(table: Path, retained: Path) -> None:
    """Keep a damaged table under another name. It is removed 30 days after the modification time set here."""
    try:
        os.link(table, retained)
    except OSError:
        shutil.copyfile(table, retained)
    os.utime(retained)
    sync_folder(retained.parent)


@contextmanager
def _reading(path: Path) -> Iterator[ReadAt]:
    """Yield a function that reads a file by `pread`: a bad sector is an error then and does not kill the process."""
    handle = open_handle(path)
    try:
        yield lambda offset, count: read_at(handle, offset, count)
    finally:
        os.close(handle)


def _is_whole(path: Path, size: int) -> bool:
    try:
        with _reading(path) as read_at:
            check_table(path.name, size, read_at)
    except DatabaseDamaged as error:
        log.warning("%s", error)
        return False
    return True


def _is_same(copy: Path, damaged: Path, size: int) -> bool:
    with _reading(copy) as read_whole, _reading(damaged) as read_damaged:
        return is_same_but_for_damage(size, read_whole, read_damaged)


def _digest(path: Path) -> str:
    digest = blake3()
    with open_file(path) as file:
        while piece := file.read(IO_BYTES):
            digest.update(piece)
    return digest.hexdigest()
