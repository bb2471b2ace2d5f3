"""Make a backup: checkpoint → archive → read back → catalogue → retention, one at a time.

A request that comes while a backup is under way waits for its turn, and joins one that waits already if that has the
same label: its checkpoint is not taken yet, so everything acknowledged before the request will be inside.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock, data_folders
from eventvault.archive.locks import exclusive_lock
from eventvault.archive.manifest import Manifest
from eventvault.backups import names, retention
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry, Created
from eventvault.backups.installation import ensure_installation
from eventvault.chores import Chores
from eventvault.database import keys
from eventvault.database.bus import EventBus
from eventvault.database.checkpoint import take_checkpoint
from eventvault.errors import BackupNotFound, BackupProtected, EventVaultError, StoreUnavailable
from eventvault.events import event
from eventvault.files import FileIdentity, remove_durably
from eventvault.kafka import offsets
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

LOCK_PATIENCE_SECONDS = 0.5
"""How long a removal waits for whoever reads the archive: a look at its manifest is over then."""


class _Turn:
    """One backup that is asked for, and all who wait for it."""

    def __init__(self, label: str | None) -> None:
        self.label = label
        self.future: Future[Created] = Future()


class BackupMaker:
    """Makes backups of the database of `bus` into BACKUP_DIR, and removes old ones.

    on_checkpoint: called when a checkpoint is taken, while no restore can swap the database; the function that it
    returns is called once the backup was made.
    """

    def __init__(
        self,
        settings: Settings,
        bus: EventBus,
        catalogue: Catalogue,
        chores: Chores,
        on_checkpoint: Callable[[], Callable[[], None]] = lambda: lambda: None,
    ) -> None:
        self.counts = {"created": 0, "failed": 0, "skipped": 0, "rotated": 0}
        self._settings = settings
        self._bus = bus
        self._catalogue = catalogue
        self._chores = chores
        self._on_checkpoint = on_checkpoint
        self.last_made: int | None = None
        """When this process made its newest backup, in microseconds."""
        self._lock = threading.Lock()
        self._waiting: list[_Turn] = []
        self._under_way = threading.Lock()
        self._removing = threading.Lock()
        """Held while archives are removed: who removes is not taken for a reader by whoever else wants to."""

    def create(self, label: str | None = None) -> Created:
        """Back up now. Raises NoSpace, BackupsUnavailable, or why the database is not open; then nothing is left."""
        with self._lock:
            turn = next((waiting for waiting in self._waiting if waiting.label == label), None)
            mine = turn is None
            if turn is None:
                turn = _Turn(label)
                self._waiting.append(turn)
        if mine:
            with self._under_way:
                self._take(turn)
        return turn.future.result()

    def create_if_changed(self) -> Created | None:
        """The periodic backup: skipped, and said so, when nothing changed since a good one.

        A BACKUP_DIR that was deleted is made again before it is looked into.
        """
        ensure_installation(self._settings, self._catalogue.installation)
        with self._bus.using() as registry:
            present = (registry.identity.generation, registry.last_sequence)
        same = next((e.name for e in self._good() if present == (e.generation, e.sequence)), None)
        if present[1] == 0 or same is not None:
            self.counts["skipped"] += 1
            log.info("no backup was made, as nothing changed since %s",
                     same or "the registry was created")  # fmt: skip
            return None
        return self.create()

    def newest_good(self) -> BackupEntry | None:
        return next(iter(self._good()), None)

    def _good(self) -> list[BackupEntry]:
        """Those made here with which nothing is known to be wrong, newest first."""
        return [e for e in self._catalogue.entries() if e.origin == "created" and e.problem is None]

    def rotate(self, just_made: str | None = None) -> list[str]:
        """Remove the archives beyond MAX_BACKUPS. Returns their names."""
        with self._removing:
            entries = self._catalogue.entries()
            registry = self._bus.registry
            present = registry.identity.generation if registry is not None else None
            plan = retention.plan_retention(
                entries, self._settings.max_backups, self._busy, just_made=just_made, present=present
            )
            removed = [name for name in plan if self._rotated(name)]
        self.counts["rotated"] += len(removed)
        return removed

    def delete(self, name: str, *, force: bool) -> None:
        """Remove one archive. Raises BackupNotFound; BackupProtected as the interface says."""
        with self._removing:
            retention.check_deletion(self._catalogue.entries(), name, force=force)
            self._catalogue.entry(name)
            self._remove(name, force=force)
        log.info("%s was deleted on request", name)

    def _take(self, turn: _Turn) -> None:
        try:
            turn.future.set_result(self._make(turn))
            self.counts["created"] += 1
        except BaseException as error:  # noqa: BLE001 - whoever waits for the turn is told, whatever it was
            self.counts["failed"] += 1
            self._forget(turn)
            turn.future.set_exception(error)

    def _make(self, turn: _Turn) -> Created:
        began = clock.now()
        staging = self._settings.storage_dir / f"{data_folders.CHECKPOINT_PREFIX}{secrets.token_hex(4)}"
        try:
            ensure_installation(self._settings, self._catalogue.installation)
            with self._bus.swap_lock:
                on_made = self._on_checkpoint()
                checkpoint = take_checkpoint(self._settings.database, staging, lambda: self._held(turn))
            manifest = self._manifest(turn.label, checkpoint.context, began)
            entry = self._archive(checkpoint.folder, manifest)
        finally:
            remove_durably(staging)
        duration = (clock.now() - began) // 1000
        log.info("%s holds %s events, %s bytes, made in %s ms", entry.name, entry.events, entry.size,
                 duration)  # fmt: skip
        self.last_made = clock.now()
        self._tidy(entry, on_made)
        return Created(entry, duration)

    def _tidy(self, entry: BackupEntry, on_made: Callable[[], None]) -> None:
        """Remove what a good backup makes needless. A failure here does not make the backup fail.

        Nothing goes while the database is known to be damaged: what is older may be all that is good.
        """
        if self._bus.problem is not None:
            log.warning("nothing old was removed, as %s", self._bus.problem)
            return
        try:
            self.rotate(entry.name)
            on_made()
        except (EventVaultError, OSError) as error:
            log.warning("old archives could not be removed: %s", error)

    @contextmanager
    def _held(self, turn: _Turn) -> Iterator[dict[str, Any]]:
        """What the checkpoint stands at, noted while nothing is written. From here on nobody joins this turn.

        The database is used within the hold only: whoever closes it (a swap, the committer after a failed write) has
        the committer's lock and waits for its users, so a user must never wait for that lock.
        """
        self._forget(turn)
        with self._bus.committer.paused(), self._bus.using() as registry:
            last = registry.last_sequence
            yield {
                "identity": registry.identity,
                "last": last,
                "last_recorded": registry.last_recorded,
                "first_recorded": event.recorded_of(registry.at(1)) if last else None,
                "kafka": offsets.describe(registry.scan_meta(keys.KAFKA)),
            }

    def _forget(self, turn: _Turn) -> None:
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _manifest(self, label: str | None, held: dict[str, Any], instant: int) -> Manifest:
        identity, last = held["identity"], held["last"]
        return Manifest(
            store_id=identity.store_id,
            installation=self._catalogue.installation,
            generation=identity.present,
            generations=list(identity.generations),
            first_sequence=1 if last else None,
            last_sequence=last,
            first_time=clock.format_microseconds(held["first_recorded"]) if last else None,
            last_time=clock.format_microseconds(held["last_recorded"]) if last else None,
            events=last,
            kafka=held["kafka"],
            label=label,
            compression=self._settings.archive_compression,
            name="",
            created=clock.format_milliseconds(instant),
        )

    def _archive(self, folder: Path, manifest: Manifest) -> BackupEntry:
        instant = clock.parse(manifest.created)
        for name in names.candidates(instant, manifest.label):
            path = self._settings.backup_dir / name
            if path.exists():
                continue
            named = msgspec.structs.replace(manifest, name=name)
            earlier = self._earlier()
            try:
                answer = self._chores.run(
                    "write_archive",
                    folder=str(folder),
                    path=str(path),
                    manifest=msgspec.to_builtins(named),
                    storage=str(self._settings.storage_dir),
                    earlier=[str(self._settings.backup_dir / each) for each in earlier],
                )
            except BaseException:
                remove_unfinished(path)
                raise
            if not answer.get("taken"):
                self._note_bad(answer["bad"], earlier)
                return self._recorded(path, answer)
        raise StoreUnavailable("no name is free for the backup", hint="try again in a second")

    def _recorded(self, path: Path, answer: dict[str, Any]) -> BackupEntry:
        try:
            return self._catalogue.record_created(path.name, sha256=answer["sha256"], verified=answer["verified"])
        except BaseException:
            # The caller is told that there is no backup: then there is none.
            remove_durably(path)
            raise

    def _earlier(self) -> dict[str, FileIdentity]:
        """The archives that members may be copied from: of ours, read here and found good, newest first."""
        entries = self._catalogue.entries()
        good = [e for e in entries if e.events is not None and e.verified is not None and e.problem is None]
        found = {}
        for entry in good:
            with suppress(BackupNotFound):
                found[entry.name] = self._catalogue.identity(entry.name)
        return found

    def _note_bad(self, bad: list[dict[str, str]], earlier: dict[str, FileIdentity]) -> None:
        """Earlier archives that turned out to be damaged while members were copied from them."""
        for each in bad:
            log.warning("%s is damaged: %s", each["name"], each["problem"])
            with suppress(EventVaultError):
                self._catalogue.record_problem(each["name"], each["problem"], read=earlier[each["name"]])

    def _busy(self, name: str) -> bool:
        try:
            with exclusive_lock(self._settings.backup_dir / name, LOCK_PATIENCE_SECONDS):
                return False
        except (BackupNotFound, BackupProtected, OSError):
            return True

    def _remove(self, name: str, *, force: bool = False) -> None:
        """Whether it may go is looked at again at the very moment: it may have been pinned since."""
        with exclusive_lock(self._settings.backup_dir / name, LOCK_PATIENCE_SECONDS):
            self._catalogue.remove(name, lambda entries: retention.check_deletion(entries, name, force=force))

    def _rotated(self, name: str) -> bool:
        try:
            self._remove(name)
        except (EventVaultError, OSError) as error:
            log.warning("%s stays, rotation could not remove it: %s", name, error)
            return False
        log.info("%s was removed by rotation, MAX_BACKUPS is %s", name, self._settings.max_backups)
        return True


def remove_unfinished(path: Path) -> None:
    """Remove what a chore that was killed had written of the archive `path`; one that fails removes it itself."""
    with suppress(OSError):
        for file in path.parent.glob(f".{path.name}.*{data_folders.TEMPORARY_SUFFIX}"):
            file.unlink()
