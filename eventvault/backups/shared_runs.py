"""BACKUP_DIR/.shared_runs.json: which archives share blocks on the disk, and when these blocks were last read.

A run is the data members of one file in an archive. Where the file system can clone, a new archive shares the whole
blocks of an unchanged table's run with an earlier one. This file tells what an archive takes on the disk, what its
deletion frees, and which archives one bad sector damages.

Without the file, archives count as if they shared nothing, and runs are read before they are cloned. Sharing by other
means, such as `cp --reflink`, is not known.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from eventvault import clock, data_folders, small_files
from eventvault.clock import Clock
from eventvault.errors import EventVaultError
from eventvault.files import FileIdentity
from eventvault.progress import Turn

log = logging.getLogger("BackupManager")

_DAY = 86_400_000_000
READ_AGAIN_AFTER = 30 * _DAY
"""Microseconds after which a run is read before it is cloned again."""
GROWTH_DAYS = 7


class ClonedRun(msgspec.Struct, frozen=True):
    """A run of a new archive that shares its whole blocks with the one at `source_offset` in the archive `source`.

    size: of the shared blocks. tail: CRC-32 of the bytes after them, which are copied. read: when the blocks were last
    read and found right, in microseconds.
    """

    source: str
    source_offset: int
    offset: int
    size: int
    tail: int
    read: int


class SharedRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """Blocks that archives share; fields as of `ClonedRun`. failed: they could not be read since."""

    size: int
    tail: int
    read: int
    failed: bool = False


class _Holder(msgspec.Struct, frozen=True, omit_defaults=True):
    """An archive. shared: the bytes that it shared when it was made; None if that is not known. runs: offset → run.

    failed: the bytes that it shares with no other could not be read.
    """

    identity: FileIdentity
    shared: int | None
    runs: dict[int, int]
    failed: bool = False


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """added: day since the epoch → what the archives took on the disk that day, less what removed ones freed."""

    format: Literal[1]
    runs: dict[int, SharedRun]
    archives: dict[str, _Holder]
    added: dict[int, int]


_UNKNOWN = _Holder(FileIdentity(0, 0, 0), None, {})


class DiskUse(NamedTuple):
    """What an archive takes on the disk. added, shared: when it was made; None if that is not known.

    unique: what its deletion frees. read: the oldest reading of a run that it shares; None if it shares none.
    """

    added: int | None
    shared: int | None
    unique: int
    read: int | None


class SharedRuns:
    """The shared runs of the archives in `folder`. Safe to use from many threads; only the store's process writes."""

    def __init__(self, folder: Path, now: Clock = clock.now, check_folder: Callable[[], None] = lambda: None) -> None:
        """check_folder: raises an EventVaultError if nothing may be written to the folder."""
        self._check_folder = check_folder
        self._folder = folder
        self._path = folder / data_folders.SHARED_RUNS
        self._now = now
        self._turn = Turn("change of what archives share")
        self._document = _Document(1, {}, {}, {})
        self._loaded: FileIdentity | None = None
        self._uses: dict[str, tuple[FileIdentity, DiskUse]] = {}
        self._shared_again = 0
        with suppress(OSError):
            self._load()

    def add(
        self, name: str, identity: FileIdentity, clones: Sequence[ClonedRun], sources: Mapping[str, FileIdentity]
    ) -> None:
        """Enter an archive that was made here. sources: the files that it was cloned from."""
        with self._changing():
            runs, archives, own = dict(self._document.runs), dict(self._document.archives), {}
            for source in {clone.source for clone in clones}:
                archives[source] = _copy_of(archives.get(source), sources[source])
            unused = itertools.count(max(runs, default=0) + 1)
            for clone in clones:
                held = archives[clone.source].runs
                own[clone.offset] = number = held.get(clone.source_offset) or next(unused)
                held[clone.source_offset] = number
                before = runs.get(number)
                failed = before is not None and before.failed and before.read >= clone.read
                runs[number] = SharedRun(clone.size, clone.tail, clone.read, failed)
            shared = sum(clone.size for clone in clones)
            archives[name] = _Holder(identity, shared, own)
            added = _added(self._document.added, self._today, identity.size - shared)
            self._save(_Document(1, runs, archives, added))

    def runs_of(self, name: str) -> dict[int, int]:
        """Return the runs that an archive shares: offset → number."""
        return dict(self._document.archives.get(name, _UNKNOWN).runs)

    def runs_of_archives(self) -> dict[str, dict[int, int]]:
        """Return the runs that the archives share: name → number → bytes."""
        document = self._document
        return {
            name: {number: document.runs[number].size for number in holder.runs.values()}
            for name, holder in document.archives.items()
        }

    def holders_of(self, numbers: Collection[int]) -> dict[str, list[int]]:
        """Return the archives that hold these runs, with the runs' offsets there."""
        wanted, archives = frozenset(numbers), self._document.archives
        holders = {name: [at for at, n in holder.runs.items() if n in wanted] for name, holder in archives.items()}
        return {name: offsets for name, offsets in holders.items() if offsets}

    def read_since(self, name: str, instant: int) -> dict[int, SharedRun]:
        """Return the runs of an archive, by offset, that were read in another one after `instant`."""
        document = self._document
        runs = {at: document.runs[number] for at, number in document.archives.get(name, _UNKNOWN).runs.items()}
        return {at: run for at, run in runs.items() if run.read > instant and not run.failed}

    def record_read(self, name: str, identity: FileIdentity, when: int, skipped: Collection[int] = ()) -> None:
        """Note that an archive was read and found right, without the runs at the offsets `skipped`."""
        self._note(name, identity, skipped, lambda run: SharedRun(run.size, run.tail, when), failed=False)

    def record_failure(self, name: str, identity: FileIdentity, skipped: Collection[int] = ()) -> None:
        """Note that the disk could not read an archive: its runs are read before they are cloned."""
        self._note(name, identity, skipped, lambda run: msgspec.structs.replace(run, failed=True), failed=True)

    def record_damage(self, numbers: Collection[int]) -> None:
        """Note that these runs are damaged: an archive that is just being made may share them."""
        with self._changing():
            runs = dict(self._document.runs)
            for number in runs.keys() & numbers:
                runs[number] = msgspec.structs.replace(runs[number], failed=True)
            self._save(msgspec.structs.replace(self._document, runs=runs))

    def _note(
        self,
        name: str,
        identity: FileIdentity,
        skipped: Collection[int],
        change: Callable[[SharedRun], SharedRun],
        *,
        failed: bool,
    ) -> None:
        with self._changing():
            archives = dict(self._document.archives)
            holder = _copy_of(archives.get(name), identity)
            if not holder.runs and holder.failed == failed:
                return
            archives[name] = msgspec.structs.replace(holder, failed=failed)
            numbers = {number for offset, number in holder.runs.items() if offset not in skipped}
            runs = {number: change(run) if number in numbers else run for number, run in self._document.runs.items()}
            self._save(msgspec.structs.replace(self._document, runs=runs, archives=archives))

    def refresh(self, present: Mapping[str, FileIdentity]) -> None:
        """Forget the archives that are not `present` any more, or are other files now. Raises OSError."""
        with self._turn.held_if_free() as is_held:
            if not is_held:
                return  # lists do not wait until a change is written
            self._load()
            missing = [name for name, holder in self._document.archives.items() if present.get(name) != holder.identity]
            # `present` may be older than an archive that was just made.
            gone = [name for name in missing if FileIdentity.at(self._folder / name) != self._holder(name).identity]
            if gone:
                self._forget(gone)

    def recent_readings(self, own: Mapping[str, int]) -> Callable[[str, int], int | None]:
        """Return a function: name of an archive, offset of a run → when the run was read, None if that is long ago.

        own: archive → when the bytes that it shares with no other were read.
        """
        document, now = self._document, self._now()

        def recent_reading(name: str, offset: int) -> int | None:
            holder = document.archives.get(name, _UNKNOWN)
            run = document.runs.get(holder.runs.get(offset, 0))
            read, failed = (own[name], holder.failed) if run is None else (run.read, run.failed)
            return read if now - READ_AGAIN_AFTER <= read <= now and not failed else None

        return recent_reading

    def use_of(self, name: str, identity: FileIdentity) -> DiskUse:
        file, use = self._uses.get(name, (None, None))
        return use if use is not None and file == identity else DiskUse(None, None, identity.size, None)

    @property
    def shared_again(self) -> int:
        """The bytes by which the sizes of all archives exceed what they take on the disk."""
        return self._shared_again

    def growth_per_day(self) -> int | None:
        """Return by how many bytes a day the archives grew in the last GROWTH_DAYS days; None if none was made then."""
        days = {day: count for day, count in self._document.added.items() if day > self._today - GROWTH_DAYS}
        # A clock that was set back may stand before the day on which the last archive was made.
        return sum(days.values()) // max(1, self._today - min(days) + 1) if days else None

    def has_data_of_a_day(self, oldest: int | None) -> bool:
        """Return True if `growth_per_day` rests on at least 24 hours: less says nothing about a day.

        oldest: when the oldest present archive was made, in microseconds. What a day added may have come at its end.
        """
        ends = [(day + 1) * _DAY - 1 for day in self._document.added if day > self._today - GROWTH_DAYS]
        since = min(ends + ([] if oldest is None else [oldest]), default=None)
        return bool(ends) and since is not None and self._now() - since >= _DAY

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the turn for a change. A file that cannot be read is replaced; that costs no archive."""
        with self._turn.held():
            try:
                self._load()
            except OSError as error:
                log.warning("%s cannot be read: %s", self._path, error)
            yield

    @property
    def _today(self) -> int:
        return self._now() // _DAY

    def _holder(self, name: str) -> _Holder:
        return self._document.archives[name]

    def _load(self) -> None:
        """Read the file again if it was changed, or the folder is another one now."""
        present = FileIdentity.at(self._path)
        if present != self._loaded:
            document = small_files.read_or_quarantine(self._path, _Document)
            self._set_document(document or _Document(1, {}, {}, {}))
            self._loaded = FileIdentity.at(self._path)

    def _forget(self, names: Sequence[str]) -> None:
        """Forget archives in memory. The next change is saved without them, or a start notices again that they went."""
        archives, added = dict(self._document.archives), self._document.added
        for name in names:
            added = _added(added, self._today, -self._uses[name][1].unique)
            del archives[name]
            self._set_document(msgspec.structs.replace(self._document, archives=archives, added=added))

    def _save(self, document: _Document) -> None:
        """Use the document, and write it. If the write fails, it stays in memory."""
        self._set_document(document)
        try:
            self._check_folder()
            small_files.write(self._path, self._document)
            self._loaded = FileIdentity.at(self._path)
        except (EventVaultError, OSError) as error:
            log.warning("%s was not written: %s", self._path, error)

    def _set_document(self, document: _Document) -> None:
        """Use the document without runs that no archive holds, and compute what each archive takes."""
        holders = Counter(number for holder in document.archives.values() for number in holder.runs.values())
        runs = {number: run for number, run in document.runs.items() if holders[number]}
        archives = document.archives.items()
        self._uses = {name: (holder.identity, _use(holder, runs, holders)) for name, holder in archives}
        self._shared_again = sum(run.size * (holders[number] - 1) for number, run in runs.items())
        self._document = msgspec.structs.replace(document, runs=runs)


def _use(holder: _Holder, runs: Mapping[int, SharedRun], holders: Mapping[int, int]) -> DiskUse:
    size, own = holder.identity.size, [(runs[number], holders[number]) for number in holder.runs.values()]
    unique = size - sum(run.size for run, count in own if count > 1)
    added = None if holder.shared is None else size - holder.shared
    return DiskUse(added, holder.shared, unique, min((run.read for run, _ in own), default=None))


def _copy_of(holder: _Holder | None, identity: FileIdentity) -> _Holder:
    if holder is None or holder.identity != identity:
        return _Holder(identity, None, {})
    return msgspec.structs.replace(holder, runs=dict(holder.runs))


def _added(days: Mapping[int, int], today: int, count: int) -> dict[int, int]:
    recent = {day: bytes_ for day, bytes_ in days.items() if day > today - GROWTH_DAYS}
    return {**recent, today: recent.get(today, 0) + count}
