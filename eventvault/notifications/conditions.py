"""Which problems began and which are over, from one look at health to the next, also of an earlier store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from eventvault import clock
from eventvault.notifications.values import Change, Condition

BACKUP_FAILED = "backup_failed"
"""The condition of a failed backup. It ends with the next good backup, which a new store has to wait for."""
DISK_FULL_SOON = "disk_full_soon"
FULL_SOON_DAYS = 7
ENOUGH_DAYS = 8
"""A forecast that changes between two days is no news."""
OVER_SECONDS = 60.0
"""A problem that was absent this long is over. A store that takes over has found what there is much earlier."""
_UNSPOKEN = frozenset({"notify_failing", "store_starting"})

Problems = Sequence[Mapping[str, Any]]


class Conditions:
    """The problems that are known. now: monotonic seconds."""

    def __init__(self, known: Iterable[Condition] = (), now: Callable[[], float] = time.monotonic) -> None:
        self._known = {condition.key: condition for condition in known}
        self._absent: dict[tuple[str, str], float] = {}
        self._now = now

    def all(self) -> tuple[Condition, ...]:
        return tuple(self._known.values())

    def look(self, problems: Problems, disk: Mapping[str, Any], at: int, *, is_complete: bool = True) -> list[Change]:
        """Compare with what health shows now. at: the time of that, in microseconds.

        is_complete: the archives could be listed. If not, a problem that is absent may only be out of sight.
        """
        shown = [_condition(problem, at) for problem in problems if problem["code"] not in _UNSPOKEN]
        present = {each.key: each for each in [*shown, *self._full_soon(disk, at)] if not self._is_backup_failure(each)}
        began = [self._begin(condition, at) for key, condition in present.items() if key not in self._known]
        for key in present if is_complete else list(self._absent):
            self._absent.pop(key, None)
        over = [key for key in self._known if is_complete and key not in present and self._is_over(key)]
        return [*began, *(self._end(key, at) for key in over)]

    def backup_failed(self, message: str, hint: str, at: int) -> list[Change]:
        before = self._known.get((BACKUP_FAILED, ""))
        failed = Condition(BACKUP_FAILED, "", message, hint, at)
        if before is None:
            return [self._begin(failed, at)]
        self._known[failed.key] = msgspec.structs.replace(failed, since=before.since)
        return []

    def backup_succeeded(self, at: int) -> list[Change]:
        key = (BACKUP_FAILED, "")
        return [self._end(key, at)] if key in self._known else []

    def _begin(self, condition: Condition, at: int) -> Change:
        self._known[condition.key] = condition
        return Change("began", condition.code, condition.message, condition.hint, condition.since, at)

    def _end(self, key: tuple[str, str], at: int) -> Change:
        self._absent.pop(key, None)
        condition = self._known.pop(key)
        return Change("ended", condition.code, condition.message, "", condition.since, at)

    def _is_over(self, key: tuple[str, str]) -> bool:
        since = self._absent.setdefault(key, self._now())
        return key != (BACKUP_FAILED, "") and self._now() - since >= OVER_SECONDS

    def _is_backup_failure(self, shown: Condition) -> bool:
        """Health shows the failure of a backup by the code of its reason."""
        failed = self._known.get((BACKUP_FAILED, ""))
        return failed is not None and shown.message.endswith(failed.message)

    def _full_soon(self, disk: Mapping[str, Any], at: int) -> Iterable[Condition]:
        folders = {"BACKUP_DIR": disk.get("backups"), "STORAGE_DIR": None if disk.get("same") else disk.get("storage")}
        for folder, space in folders.items():
            days = (space or {}).get("daysLeft")
            bound = ENOUGH_DAYS if (DISK_FULL_SOON, folder) in self._known else FULL_SOON_DAYS
            if days is not None and days < bound:
                message = f"the disk of {folder} will be full in about {days} days"
                yield Condition(DISK_FULL_SOON, folder, message, "make room there, or keep fewer backups", at)


def _condition(problem: Mapping[str, Any], at: int) -> Condition:
    """about is a text or an object, as health has it."""
    about = problem.get("about")
    text = about if isinstance(about, str) else "" if about is None else msgspec.json.encode(about).decode()
    since = clock.parse(problem["since"]) if problem.get("since") else at
    return Condition(problem["code"], text, problem["message"], problem["hint"], since)
