"""What a start of the service would find: a restore to finish, an archive to restore, problems that health would show.

Everything is read as a start reads it, but nothing is finished, renamed or written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TypeVar

from eventvault import data_folders, small_files
from eventvault.backups.file_problems import LOSSES, FileProblems
from eventvault.backups.installation_folder import FolderSource
from eventvault.backups.storage_mount import check_mounted
from eventvault.doctor.facts import Start
from eventvault.errors import DatabaseDamaged, EventVaultError
from eventvault.problems import OpenProblems, Problem
from eventvault.restore.drop_folder import DropFolder
from eventvault.restore.swap.intent import Intent, read_intent
from eventvault.settings import Settings
from eventvault.system_errors import reason_of

T = TypeVar("T")

_SMALL_FILES = (
    *sorted(name for name in LOSSES if name.endswith(".json") and not name.startswith(data_folders.TOKENS)),
    *(data_folders.INSTALLATION_KEY, f"{data_folders.JOURNAL}/{data_folders.JOURNAL_RECORD}"),
)
"""The files with a checksum in either folder. `eventvault.access.problems` checks those of the tokens."""


def look_at_next_start(settings: Settings) -> Start:
    """Return what a start would find. Never raises an error of the disk: that becomes one of the problems."""
    problems: list[Problem] = []
    folder = DropFolder(settings)
    dropped = _or_problem(problems, folder.peek) or []
    intents = {
        name: _or_problem(problems, partial(_read_intent, settings, name, code))
        for name, code in (
            (data_folders.INTENT, "file_damaged"), (data_folders.STAGED_RESTORE, "staged_restore_damaged"),
        )
    }  # fmt: skip
    _or_problem(problems, lambda: check_mounted(settings))
    problems += FileProblems(settings).problems()
    problems += damaged_files(settings)
    sources = [intent.restored.source if intent is not None else None for intent in intents.values()]
    return Start(
        finishes=sources[0],
        staged=sources[1],
        restores=dropped[0].name if dropped else None,
        problems=(*problems, *folder.problems),
        open=(*FolderSource(settings, lambda: None).waiting(), *OpenProblems(settings.storage_dir).waiting()),
    )


def damaged_files(settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each damaged small file that no process has renamed yet."""
    for folder in (settings.storage_dir, settings.backup_dir):
        for name in _SMALL_FILES:
            with suppress(OSError):
                try:
                    small_files.check(folder / name)
                except small_files.SmallFileDamaged as damage:
                    hint = "check that disk; a start renames the file and goes on without it"
                    yield Problem("file_damaged", str(damage), hint, str(folder / name))


def _read_intent(settings: Settings, name: str, code: str) -> Intent | None:
    try:
        return read_intent(settings.storage_dir, name)
    except DatabaseDamaged as error:
        raise _AsProblem(Problem(code, error.message, error.hint, str(settings.storage_dir / name))) from error


class _AsProblem(Exception):
    """Carries a problem to `_or_problem`."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


def _or_problem(problems: list[Problem], work: Callable[[], T]) -> T | None:
    """Return the result of `work`; None if it failed, with the error added to `problems`."""
    try:
        return work()
    except _AsProblem as carrier:
        problems.append(carrier.problem)
    except EventVaultError as error:
        problems.append(Problem(error.code, error.message, error.hint))
    except OSError as error:
        problems.append(Problem("disk_failed", f"looking at what a start would do failed: {reason_of(error)}",
                                "check that disk, its mount and the permissions of the folder"))  # fmt: skip
    return None
