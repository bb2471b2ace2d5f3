"""Finds out which problems began and which are over since health was last read, also by an earlier store."""

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
"""Once told, the problem ends only with this forecast, so that a forecast that changes by a day sends no message."""
OVER_SECONDS = 60.0
"""A problem that was absent for this long is over. A store that takes over finds existing problems much earlier."""
_UNREPORTED = frozenset({"notify_failing", "store_starting"})

Problems = Sequence[Mapping[str, Any]]


class Conditions:
    """The open problems. opened: those that an earlier store knew. now: monotonic seconds."""

    def __init__(self, opened: Iterable[Condition] = (), now: Callable[[], float] = time.monotonic) -> None:
        self._open = {condition.key: condition for condition in opened}
        self._absent: dict[tuple[str, str], float] = {}
        self._now = now

    def all(self) -> tuple[Condition, ...]:
        return tuple(self._open.values())

    def update(self, problems: Problems, disk: Mapping[str, Any], at: int, *, is_complete: bool = True) -> list[Change]:
        """Return what changed in health since the last call. at: when health was read, in microseconds.

        is_complete: the archives could be listed. If not, a missing problem may still be there.
        """
        conditions = [_condition(problem, at) for problem in problems if problem["code"] not in _UNREPORTED]
        conditions += self._full_soon(disk, at)
        present = {condition.key: condition for condition in conditions if not self._is_backup_failure(condition)}
        began = [self._begin(condition, at) for key, condition in present.items() if key not in self._open]
        for key in present if is_complete else list(self._absent):
            self._absent.pop(key, None)
        over = [key for key in self._open if is_complete and key not in present and self._is_over(key)]
        return [*began, *(self._end(key, at) for key in over)]

    def backup_failed(self, message: str, hint: str, at: int) -> list[Change]:
        earlier = self._open.get((BACKUP_FAILED, ""))
        failure = Condition(BACKUP_FAILED, "", message, hint, at)
        if earlier is None:
            return [self._begin(failure, at)]
        self._open[failure.key] = msgspec.structs.replace(failure, since=earlier.since)
        return []

    def backup_succeeded(self, at: int) -> list[Change]:
        key = (BACKUP_FAILED, "")
        return [self._end(key, at)] if key in self._open else []

    def _begin(self, condition: Condition, at: int) -> Change:
        self._open[condition.key] = condition
        return Change("began", condition.code, condition.message, condition.hint, condition.since, at)

    def _end(self, key: tuple[str, str], at: int) -> Change:
        self._absent.pop(key, None)
        condition = self._open.pop(key)
        return Change("ended", condition.code, condition.message, "", condition.since, at)

    def _is_over(self, key: tuple[str, str]) -> bool:
        since = self._absent.setdefault(key, self._now())
        return key != (BACKUP_FAILED, "") and self._now() - since >= OVER_SECONDS

    def _is_backup_failure(self, condition: Condition) -> bool:
        """Return True for the failed backup itself, which health shows with the code of the reason."""
        failure = self._open.get((BACKUP_FAILED, ""))
        return failure is not None and condition.message.endswith(failure.message)

    def _full_soon(self, disk: Mapping[str, Any], at: int) -> Iterable[Condition]:
        folders = {"BACKUP_DIR": disk.get("backups"), "STORAGE_DIR": None if disk.get("same") else disk.get("storage")}
        for folder, space in folders.items():
            days = (space or {}).get("daysLeft")
            bound = ENOUGH_DAYS if (DISK_FULL_SOON, folder) in self._open else FULL_SOON_DAYS
            if days is not None and days < bound:
                message = f"the disk of {folder} will be full in about {days} days"
                yield Condition(DISK_FULL_SOON, folder, message, "make room there, or keep fewer backups", at)


def _condition(problem: Mapping[str, Any], at: int) -> Condition:
    """Return the condition of a problem as health has it, whose `about` is a text or an object."""
    about = problem.get("about")
    text = about if isinstance(about, str) else "" if about is None else msgspec.json.encode(about).decode()
    since = clock.parse(problem["since"]) if problem.get("since") else at
    return Condition(problem["code"], text, problem["message"], problem["hint"], since)
