"""Compares the database, each time it is opened, with what was recorded of its generation in BACKUP_DIR.

A database that lacks recorded events is an old copy, or lost the end of its log. Events that archives and journal have
without a hole are replayed. If some stay missing, new events must not get their sequences: a generation begins where
the database ends, and health says `rolled_back` with the restore that brings them back, until that is done or accepted.

The database of a copy that was used elsewhere has other events than were recorded. Then a generation begins too, after
the last event that both have.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from eventvault import clock, data_folders
from eventvault.chores import Chores
from eventvault.database import cut_off
from eventvault.database.generation import (
    LOG_DAMAGED,
    REASONS_WITHOUT_RESTORE,
    ROLLED_BACK,
    UNCHECKED,
    Generation,
    StoreIdentity,
    lineage,
)
from eventvault.database.registry import EventRegistry
from eventvault.database.values import Head, ScanQuery
from eventvault.errors import EventVaultError
from eventvault.problems import OpenProblems, Problem
from eventvault.restore.moments.plan import Sources
from eventvault.restore.start.fork_point import Fork, ForkFinder
from eventvault.restore.start.head_replay import HeadReplay
from eventvault.restore.start.recorded import Beyond, Recorded, RecordedHistory

log = logging.getLogger("BackupManager")

CODE = "rolled_back"
RECHECK_SECONDS = 30.0
"""How often a generation that began unchecked is compared again."""


class HeadCheck:
    """`check` is what the bus calls before the first append of an opening."""

    def __init__(self, storage_dir: Path, history: RecordedHistory, chores: Chores, problems: OpenProblems) -> None:
        self._storage_dir = storage_dir
        self._history = history
        self._chores = chores
        self._problems = problems
        self._forks = ForkFinder(storage_dir, chores, history)
        self._cut_off = storage_dir / data_folders.CUT_OFF
        self._checked: set[str] = set()
        """Generations that began unchecked and turned out to lack nothing."""
        self._recheck_due = 0.0

    def check(self, registry: EventRegistry, before: Head | None) -> None:
        """Replay what the database lacks, or begin a generation. before: its head when this process closed it.

        If BACKUP_DIR cannot be read, and this process does not know either, a generation begins too: nothing else is
        safe, and it costs only an entry in the list of generations. Raises what writing to the database raises.
        """
        fork = self._compare(registry, before)
        if fork is not None:
            identity = registry.identity
            begun = identity.forked(
                at_sequence=fork.sequence,
                reason=fork.reason,
                instant=clock.now(),
                previous=None,
                begun_before=self._recorded_generations(identity),
            )
            registry.begin_generation(begun)
        cut_off.settle_changed(self._cut_off)
        self._update_problems(registry.identity)

    def each_second(self, registry: EventRegistry | None) -> None:
        """Compare generations that began unchecked again, once BACKUP_DIR can be read."""
        if registry is not None and time.monotonic() > self._recheck_due:
            self._recheck_due = time.monotonic() + RECHECK_SECONDS
            for begun in _begun_without_restore(registry.identity):
                if begun.reason == UNCHECKED and begun.id not in self._checked:
                    self._recheck(registry.identity, begun)

    def settle_copied(self, query: ScanQuery) -> None:
        """Settle each problem whose events were all appended to the live registry. query: what was appended."""
        for problem in self._problems.waiting():
            if problem.code == CODE and _is_covered(problem, query):
                try:
                    self._problems.accept(problem)
                    log.info("the events that generation %s lacked were appended to the live registry", problem.about)
                except (EventVaultError, OSError) as error:  # the events are there, so the request has succeeded
                    log.warning("health continues to name generation %s: %s", problem.about, error)

    def _compare(self, registry: EventRegistry, before: Head | None) -> Fork | None:
        """Replay what can be replayed, and return where a generation begins and why, if it must.

        An error of BACKUP_DIR does not keep the database closed. An error of the database does: the next opening
        continues the replay.
        """
        generation = registry.identity.generation
        closed_at = before.sequence if before is not None and before.generation == generation else 0
        changed = cut_off.last_changed_event(self._cut_off)
        sources: Sources | None = None
        is_read = False
        try:
            recorded = self._history.find(registry.identity, is_known=_continues(registry, before))
            if registry.last_sequence < recorded.last and recorded.latest is None:
                sources = self._history.sources(registry.identity)
                self._history.check_dead_letters()
            is_read = True
        except (EventVaultError, OSError) as error:
            log.warning("could not read what was recorded of generation %s beyond event %s: %s", generation,
                        registry.last_sequence, error)  # fmt: skip
            recorded = Recorded(0)
            if changed <= registry.last_sequence and not 0 < closed_at <= registry.last_sequence:
                return Fork(UNCHECKED, registry.last_sequence)
        if sources is not None:
            log.warning("the database ends at event %s, but event %s was recorded before: replaying the missing events",
                        registry.last_sequence, recorded.last)  # fmt: skip
            HeadReplay(self._storage_dir, self._chores, registry, sources, self._history.proof()).run()
            self._history.put_dead_letters_back(registry)
            log.warning("the database now ends at event %s", registry.last_sequence)
        fork = self._forks.find(registry, recorded.heads) if is_read else None
        if fork is not None and fork.reason == ROLLED_BACK:
            log.error("the database has other events after event %s of generation %s than were recorded",
                      fork.sequence, generation)  # fmt: skip
            return fork
        if registry.last_sequence < max(recorded.last, closed_at) or recorded.latest is not None:
            log.error("the database ends at event %s of generation %s, but more was recorded before",
                      registry.last_sequence, generation)  # fmt: skip
            return Fork(ROLLED_BACK, registry.last_sequence)
        if registry.last_sequence < changed:
            log.error("the end of the database's log is damaged, and no other file has its events")
            return Fork(LOG_DAMAGED, registry.last_sequence)
        return None if 0 < closed_at <= registry.last_sequence else fork

    def _recorded_generations(self, identity: StoreIdentity) -> list[Generation]:
        """Return the generations in BACKUP_DIR, all of which began before the one that begins now."""
        try:
            return list(self._history.sources(identity).generations.values())
        except (EventVaultError, OSError) as error:
            log.warning("could not read which generations began before: %s", error)
            return []

    def _recheck(self, identity: StoreIdentity, begun: Generation) -> None:
        try:
            if self._history.find_beyond(identity, begun).sequence > begun.fork_sequence:
                self._report(identity, begun)
            self._checked.add(begun.id)
        except (EventVaultError, OSError) as error:
            log.debug("generation %s cannot be compared yet: %s", begun.parent, error)

    def _update_problems(self, identity: StoreIdentity) -> None:
        """Name each generation of the current lineage that began because events were missing, and no other."""
        begun = {generation.id: generation for generation in _begun_without_restore(identity)}
        for problem in self._problems.waiting():
            if problem.code == CODE and problem.about not in begun:
                self._problems.resolve(CODE, problem.about)
        for generation in begun.values():
            if generation.reason != UNCHECKED and not self._problems.is_known(CODE, generation.id):
                self._report(identity, generation)

    def _report(self, identity: StoreIdentity, begun: Generation) -> None:
        target: Beyond | None = None
        try:
            target = self._history.find_beyond(identity, begun)
        except (EventVaultError, OSError) as error:
            log.warning("could not find out what can be restored beyond event %s: %s", begun.fork_sequence, error)
        self._problems.report(_describe(begun, target))


def _continues(registry: EventRegistry, before: Head | None) -> bool:
    """Return whether this process had the database open before, or a restore replaced the one that it had.

    A database that replaced it knows its generation; an older copy does not.
    """
    if before is None:
        return False
    if registry.identity.generation == before.generation:
        return 0 < before.sequence <= registry.last_sequence
    return before.generation in registry.identity.by_id()


def _begun_without_restore(identity: StoreIdentity) -> list[Generation]:
    generations = identity.by_id()
    line = [generations[generation] for generation, _ in lineage(generations, identity.generation)]
    return [generation for generation in line if generation.reason in REASONS_WITHOUT_RESTORE]


def _is_covered(problem: Problem, query: ScanQuery) -> bool:
    """Return whether `query` asks for all events that can be restored of those that `problem` names.

    They begin with event 1: the database may have continued elsewhere, so that its events before the fork differ too.
    """
    generation, last = problem.details.get("generation"), problem.details.get("sequence")
    if generation is None or last is None or query.upto is None:
        return False
    whole = ScanQuery(upto=query.upto, generation=generation, limit=query.limit)
    return query == whole and problem.details["forkSequence"] < last <= query.upto


def _describe(begun: Generation, beyond: Beyond | None) -> Problem:
    reached = f"the database has generation {begun.parent} up to event {begun.fork_sequence}"
    message = f"{reached}, but more events were recorded before"
    if begun.reason == LOG_DAMAGED:
        message = f"{reached}: the end of its log is damaged, and the events there are lost"
    details = {"forkSequence": begun.fork_sequence, **(beyond._asdict() if beyond is not None else {})}
    message, hint = message + _describe_gap(begun, beyond), _hint(begun, beyond)
    return Problem(CODE, message, hint, about=begun.id, since=begun.at, details=details)


def _describe_gap(begun: Generation, beyond: Beyond | None) -> str:
    if beyond is None or beyond.after_gap is None:
        return ""
    (first, last), missing = beyond.after_gap, max(beyond.sequence, begun.fork_sequence) + 1
    later = f". The journal has events {first} to {last} of generation {beyond.generation}"
    return f"{later}, but nothing has events {missing} to {first - 1}" if missing < first else later


def _hint(begun: Generation, beyond: Beyond | None) -> str:
    accept = "accept it with POST /api/problems/rolled_back/accept"
    if beyond is not None and beyond.sequence > begun.fork_sequence:
        return (
            f'POST /api/backup/restore {{"generation": "{beyond.generation}", "sequence": {beyond.sequence}}} brings '
            f'them back; with "into": "present" it appends them to what was posted since. Or {accept}'
        )
    if beyond is not None and beyond.after_gap is not None:
        return (
            "no restore reaches these events while those before them are missing: put a copy of the missing segments "
            f"into backups/journal/{beyond.generation}/, then restore. Without one, `zcat` shows the events of a "
            f"segment. Or {accept}"
        )
    return f"neither the archives nor the journal have those events; {accept}"
