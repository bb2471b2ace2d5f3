"""What health says about all archives together. Listing many archives takes long, so health does not wait for it.

`current` returns the totals of the newest listing. Few archives are listed for each call. Many are listed now and then,
so that listing takes at most a twentieth of the time, however often it is called.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from eventvault.backups import names
from eventvault.backups.catalogue import Catalogue
from eventvault.backups.entry import BackupEntry
from eventvault.damage import as_answer
from eventvault.errors import BackupsUnavailable, EventVaultError, TooBusy
from eventvault.problems import Problem
from eventvault.shared_answer import SharedAnswer

FEW_ARCHIVES = 300
"""Listing this many takes some milliseconds."""
PAUSE_PER_SECOND = 19.0
"""Seconds without a listing for each second that one took."""
UNCHANGED_SECONDS = 20.0
"""Seconds after which many archives are listed again without a sign of a change: a write to an archive gives none."""
WAIT_SECONDS = 0.7
"""The longest that anybody waits: for the first listing, for one of few archives, and after a requested change.
A client waits a second for health as a whole."""
LIST_SECONDS = 30.0
"""How long a request for the list of archives waits for a listing."""
OLD_SECONDS = 30.0
"""If the newest listing is older, for example after an hour without a request, callers wait for a new one."""
MOST_NAMED = 20
"""How many archives with the same kind of problem health names; it counts the others."""
MOST_LISTED = 100
_MAX_SHOWN = 5
"""How many names one problem shows."""


class ArchiveTotals(msgspec.Struct, frozen=True, kw_only=True):
    """count: None until the archives were listed for the first time; 0 if they cannot be listed.

    damaged: the names of the newest damaged archives. not_proven: how many archives claim to be made here and are not
    proven. retained_by: rule → how many archives it keeps. oldest_verified: microseconds; None if one was never
    verified. on_disk: bytes there, with shared blocks counted once. problem: why the archives cannot be listed.
    entries: all archives, newest first.
    """

    count: int | None = None
    newest: BackupEntry | None = None
    size: int = 0
    on_disk: int = 0
    added: int = 0
    shared: int = 0
    unique: int = 0
    growth_per_day: int | None = None
    has_data_of_a_day: bool = False
    damaged: tuple[str, ...] = ()
    damaged_count: int = 0
    not_proven: int = 0
    retained_by: Mapping[str, int] = {}
    oldest_verified: int | None = None
    problems: tuple[Problem, ...] = ()
    problem: EventVaultError | None = None
    entries: Sequence[BackupEntry] = ()


class _Listed(NamedTuple):
    """began, seconds: when the archives were listed (monotonic), and how long that took. changes, mark: before it."""

    totals: ArchiveTotals
    began: float
    seconds: float
    changes: int
    mark: object


class TotalsKeeper:
    """Safe to use from many threads."""

    def __init__(
        self,
        catalogue: Catalogue,
        entries: Callable[[], list[BackupEntry]],
        clock: Callable[[], float] = time.monotonic,
        mark: Callable[[], object] = lambda: None,
    ) -> None:
        """entries: returns all archives, as the list shows them. mark: `Catalogue.mark`."""
        self._catalogue = catalogue
        self._entries = entries
        self._clock = clock
        self._mark = mark
        self._totals = SharedAnswer("archive-totals", self._list, clock)
        self._is_few = True
        self._changes = 0
        self._listed: _Listed | None = None

    @property
    def is_listing(self) -> bool:
        return self._totals.running_since is not None

    def invalidate(self) -> None:
        """Have the next call of `current` see what a request just changed."""
        self._changes += 1
        self._totals.invalidate()

    def entries(self) -> Sequence[BackupEntry]:
        """Return all archives, newest first. Raises why they cannot be listed, or TooBusy."""
        totals = self.current(LIST_SECONDS)
        if totals.problem is not None:
            raise totals.problem.with_traceback(None)
        if totals.count is None:
            raise TooBusy(f"the archives were not listed within {LIST_SECONDS:.0f} s", hint="try again in a moment")
        return totals.entries

    def current(self, patience: float = WAIT_SECONDS) -> ArchiveTotals:
        """Return the totals of the newest listing, or of a new one if that costs little. Waits at most `patience` s."""
        waits = self._is_few or not self._totals.is_valid or self._totals.age > OLD_SECONDS
        max_age = 0.0 if self._is_few or self._listed is None else PAUSE_PER_SECOND * self._listed.seconds
        totals = self._totals.get(max_age=max_age, patience=patience if waits else 0.0) or ArchiveTotals()
        self._is_few = (totals.count or 0) <= FEW_ARCHIVES
        return totals

    def _list(self) -> ArchiveTotals:
        """List the archives, or return the newest totals if there are many and no sign of a change."""
        began, changes, mark, listed = self._clock(), self._changes, self._mark(), self._listed
        if listed is not None and not self._is_few and mark is not None:
            is_recent = began - listed.began < UNCHANGED_SECONDS
            if is_recent and (listed.changes, listed.mark) == (changes, mark):
                return listed.totals
        totals = list_totals(self._catalogue, self._entries)
        self._listed = _Listed(totals, began, self._clock() - began, changes, mark)
        return totals


def list_totals(catalogue: Catalogue, list_entries: Callable[[], list[BackupEntry]]) -> ArchiveTotals:
    try:
        entries = list_entries()
    except EventVaultError as error:
        return ArchiveTotals(count=0, problem=error)
    except OSError as error:
        return ArchiveTotals(count=0, problem=as_answer("listing the backups", error, BackupsUnavailable))
    size = sum(entry.size for entry in entries)
    damaged = [entry.name for entry in entries if entry.problem and not entry.unreadable]
    return ArchiveTotals(
        count=len(entries),
        newest=entries[0] if entries else None,
        size=size,
        on_disk=size - catalogue.shared_runs.shared_again,
        added=sum(entry.added_bytes or 0 for entry in entries),
        shared=sum(entry.shared_bytes or 0 for entry in entries),
        unique=sum(entry.unique_bytes or 0 for entry in entries),
        growth_per_day=catalogue.shared_runs.growth_per_day(),
        has_data_of_a_day=catalogue.shared_runs.has_data_of_a_day(
            min((entry.created for entry in entries if entry.is_ours), default=None)
        ),
        damaged=tuple(damaged[:MOST_LISTED]),
        damaged_count=len(damaged),
        not_proven=_count_not_proven(catalogue.installation, entries),
        retained_by=dict(Counter(rule for entry in entries for rule in entry.retained_by)),
        oldest_verified=_oldest_verified(entries),
        problems=(*_refused_names(catalogue.refused_names), *_problems(entries)),
        entries=entries,
    )


def _refused_names(refused: Sequence[str]) -> list[Problem]:
    """Return one problem for all files that are not listed because of their names, however many there are."""
    if not refused:
        return []
    shown = ", ".join(f"{name} {names.file_problem(name)}" for name in refused[:_MAX_SHOWN])
    more = f", and {len(refused) - _MAX_SHOWN} more" if len(refused) > _MAX_SHOWN else ""
    message = f"files in BACKUP_DIR are no backups because of their names: {shown}{more}"
    return [Problem("backup_name_invalid", message, "rename them, or move them away", refused[0])]


def _problems(entries: Iterable[BackupEntry]) -> Iterator[Problem]:
    """Yield one problem for each of MOST_NAMED archives of a kind, and one for all others of that kind."""
    kinds: dict[str, list[BackupEntry]] = {}
    for entry in entries:
        if entry.problem and entry.origin == "created":
            kinds.setdefault("backup_unreadable" if entry.unreadable else "backup_damaged", []).append(entry)
        elif entry.seal_changed and not entry.problem:
            kinds.setdefault("seal_changed", []).append(entry)
    for code, bad in kinds.items():
        yield from (_describe(code, entry) for entry in bad[:MOST_NAMED])
        if others := bad[MOST_NAMED:]:
            message = f"the same is wrong with {len(others)} more archives, from {others[-1].name} to {others[0].name}"
            hint = "check the disk of BACKUP_DIR; GET /api/backup/list shows all of them"
            yield Problem(code, message, hint, "others")


def _describe(code: str, entry: BackupEntry) -> Problem:
    again = "make a new backup with POST /api/backup/create, then delete this one"
    if code == "backup_unreadable":
        hint = "check the disk of BACKUP_DIR and the permissions of the file; the archive may be good"
        return Problem(code, f"{entry.name}: {entry.problem}", hint, entry.name)
    if code == "backup_damaged":
        return Problem(code, f"{entry.name}: {entry.problem}", again, entry.name)
    proof = "the catalogue still proves it" if entry.origin_proven else "nothing proves any more that it was made here"
    message = f"{entry.name}: its seal is not the one that it had, all else is as it was made; {proof}"
    return Problem(code, message, f"check the disk of BACKUP_DIR; {again}", entry.name)


def _oldest_verified(entries: Iterable[BackupEntry]) -> int | None:
    times = [entry.verified for entry in entries if entry.problem is None]
    verified = [time for time in times if time is not None]
    return min(verified) if verified and len(verified) == len(times) else None


def _count_not_proven(installation: str, entries: Iterable[BackupEntry]) -> int:
    claims = (entry for entry in entries if entry.installation == installation and entry.problem is None)
    return sum(not entry.origin_proven for entry in claims)
