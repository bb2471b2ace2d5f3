"""Marks the archives that share damaged blocks with an archive that was found damaged."""

from __future__ import annotations

import logging

from eventvault.backups.catalogue import Catalogue
from eventvault.chores import Chores
from eventvault.errors import Cancelled, EventVaultError

log = logging.getLogger("BackupManager")


def mark_sharing(catalogue: Catalogue, chores: Chores, name: str) -> list[str]:
    """Mark the archives that share damaged blocks with the archive `name`. Returns their names.

    Each is marked only if its own reading finds the damage, as another program may have ended the sharing. An
    archive that cannot be read is not marked, and its blocks are read before they are shared again.
    """
    marked = []
    damaged = _damaged_runs(catalogue, chores, name)
    if damaged:
        catalogue.shared_runs.record_damage(damaged)
    for other, offsets in catalogue.shared_runs.holders_of(damaged).items():
        if other != name and _mark_if_damaged(catalogue, chores, other, offsets, name):
            marked.append(other)
    return marked


def _damaged_runs(catalogue: Catalogue, chores: Chores, name: str) -> list[int]:
    """Return the numbers of the shared runs of an archive that are damaged; all if its end cannot be read."""
    runs = catalogue.shared_runs.runs_of(name)
    if not runs:
        return []
    try:
        path = catalogue.entry(name).path
        damaged = chores.run("check_runs", archive=path, offsets=list(runs))["damaged"]
    except Cancelled:
        raise
    except EventVaultError:
        damaged = list(runs)
    return [runs[offset] for offset in damaged]


def _mark_if_damaged(catalogue: Catalogue, chores: Chores, name: str, offsets: list[int], found_in: str) -> bool:
    try:
        read, entry = catalogue.identity(name), catalogue.entry(name)
        if entry.problem is not None:
            return False
        damaged = chores.run("check_runs", archive=entry.path, offsets=offsets)["damaged"]
        if not damaged:
            return False
        problem = f"blocks that it shares with {found_in} are damaged at byte {min(damaged)}"
        catalogue.record_problem(name, problem, read=read)
    except Cancelled:
        raise
    except EventVaultError as error:
        log.warning("%s may share damaged blocks with %s, and was not marked: %s", name, found_in, error)
        return False
    log.error("%s is damaged: %s", name, problem)
    return True
