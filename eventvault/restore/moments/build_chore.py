"""The chore that builds the database of a moment beside the live data: unpack, cut, replay, check."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from eventvault import clock, data_folders
from eventvault.archive import reader
from eventvault.archive.verified import VerifiedArchive
from eventvault.backups.entry import Check
from eventvault.database.generation import Generation, StoreIdentity, identity_without_parent, new_id
from eventvault.database.opening import open_checked
from eventvault.database.registry import EventRegistry, create_database, write_identity
from eventvault.errors import ArchiveAlien, JournalDamaged
from eventvault.files import make_folder, removing_on_failure, sync_tree
from eventvault.journal import dead_letters
from eventvault.journal.segment import decode_answers
from eventvault.restore.laps import Laps
from eventvault.restore.moments.replay import check_base, cut, note_offsets, put_answers, replay
from eventvault.restore.records import as_archive_error, check_together
from eventvault.restore.unpacked import ArchiveFacts, check_as_needed
from eventvault.restore.unproven import unproven_database
from eventvault.restore.values import POINT_IN_TIME


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the chore builds, in `staging/event_registry_db`.

    staging, archive: paths. archive: one of ours; None without one. copied: a copy of the open database is in `staging`
    already. facts: of the archive. base: how many of its events are used. segments: (path, last sequence that is used).
    generation, sequence, instant: as in `plan.Target`. store_id: for a fresh database. generations: all of them.
    claimed: as in `plan.Sources`. reason: why a generation begins; None: none begins, and the records of the archive,
    whose files are checked, are not read one by one. kafka: offsets at the target, if they are newer than those of
    segments and archive. dead_letters: a journal whose quarantined messages are put back, and the installation that
    wrote them. answers: to requests whose segments have no answers, as the lines of a segment. published: no event up
    to this one waits to be published. journaled: (path of a segment, sequence) of an event that the archive must have
    too. present: (sequence, SHA-256) of events of the open database.
    """

    staging: str
    archive: str | None = None
    facts: ArchiveFacts = ArchiveFacts()
    copied: bool = False
    base: int = 0
    segments: list[tuple[str, int]] = []
    generation: str
    sequence: int | None = None
    instant: int | None = None
    store_id: str
    generations: list[Generation] = []
    claimed: frozenset[str] = frozenset()
    reason: str | None = None
    kafka: dict[str, dict[str, Any]] = {}
    dead_letters: tuple[str, str] | None = None
    answers: str = ""
    published: int = 0
    journaled: tuple[str, int] | None = None
    present: list[tuple[int, str]] = []


def prepare_moment(*, order: dict[str, Any]) -> dict[str, Any]:
    """Build the database and sync it.

    Returns {events, notJson, notes, generation, sequence, recorded, checked, proven, seconds}. recorded: when its last
    event was recorded, in microseconds; 0 without one. seconds: by part: unpack, verify, and replay of segments.

    Raises an ArchiveError (also JournalDamaged) that says what is wrong, or NoSpace; then `staging` is gone.
    """
    wanted = msgspec.convert(order, Order)
    staging, laps = Path(wanted.staging), Laps()
    with removing_on_failure(staging):
        answer = _prepare(wanted, staging, laps)
        sync_tree(staging)
        laps.end("unpack")
    return {**answer, "seconds": laps.seconds}


def _prepare(wanted: Order, staging: Path, laps: Laps) -> dict[str, Any]:
    database = staging / data_folders.DATABASE
    name, unpacked = _bring_base(wanted, staging)
    laps.end("unpack")
    proven = unpacked is None or wanted.facts.proves(unpacked)
    checked: Check | None = None
    if unpacked is not None and not proven:
        checked = _replay_base(wanted, staging, unpacked)
    elif wanted.reason is not None:
        checked = _check_base(wanted, name, database, unpacked)
    laps.end("verify")
    with as_archive_error(Path(name)), closing(open_checked(database)) as db:
        registry = EventRegistry(db, database)
        store_id = registry.identity.store_id
        upto = _upto(wanted, registry)
        present = dict(wanted.present)
        if wanted.archive is not None:
            check_base(registry, wanted.archive, wanted.journaled, present, wanted.base)
        if registry.last_sequence > min(wanted.base, upto):
            cut(db, registry, min(wanted.base, upto))
            registry = EventRegistry(db, database)
        segments = [(Path(path), min(last, upto)) for path, last in wanted.segments]
        published = min(wanted.published, upto)
        last = replay(db, registry, segments, archive=wanted.archive, published=published, present=present)
        note_offsets(db, wanted.kafka)
        if wanted.dead_letters is not None:
            dead_letters.put_back(db, Path(wanted.dead_letters[0]), wanted.dead_letters[1])
        put_answers(db, (answer for answer in decode_answers(wanted.answers.encode()) if answer.sequence <= last))
        registry = EventRegistry(db, database)
        if last != upto or registry.last_sequence != upto:
            raise JournalDamaged(
                f"event {upto} was not reached, only event {last}", hint="GET /api/backup/timeline shows the moments"
            )
        identity = _identity(wanted, store_id, upto) if proven else _identity_of_unproven(wanted, store_id)
        write_identity(db, identity)
    (database / data_folders.DATABASE_MARK).touch()
    laps.end("replay")
    answer = {"events": upto, "notJson": 0, "notes": [], "generation": identity.generation, "sequence": upto}
    return {**answer, "recorded": registry.last_recorded, "checked": checked, "proven": proven}


def _bring_base(wanted: Order, staging: Path) -> tuple[str, VerifiedArchive | None]:
    """Put the base into `staging`. Returns its name for errors, and what was unpacked if it is an archive."""
    if wanted.archive is not None:
        archive = Path(wanted.archive)
        if reader.kind(archive) != "own":
            raise ArchiveAlien(f"{archive.name} was not made by EventVault", hint="restore it by its name")
        return archive.name, reader.unpack(archive, staging)
    if wanted.copied:
        return "the present database", None
    make_folder(staging)
    create_database(staging / data_folders.DATABASE, _fresh_identity(wanted))
    return "the journal", None


def _replay_base(wanted: Order, staging: Path, unpacked: VerifiedArchive) -> Check:
    """Replace the unpacked database, which is not proven to be ours, by a fresh one with its events."""
    assert wanted.archive is not None, "what was unpacked is an archive"
    with unproven_database(staging, Path(wanted.archive), unpacked.manifest) as unproven:
        unproven.replay(_fresh_identity(wanted), {})
    return "records"


def _fresh_identity(wanted: Order) -> StoreIdentity:
    by_id = {generation.id: generation for generation in wanted.generations}
    return StoreIdentity(wanted.store_id or new_id(), wanted.generation, tuple(by_id.values()))


def _check_base(wanted: Order, name: str, database: Path, unpacked: VerifiedArchive | None) -> Check:
    """Check the events of the base that are used, as far as needed; segments are checked as they are replayed."""
    with as_archive_error(Path(name)), closing(open_checked(database)) as db:
        registry = EventRegistry(db, database)
        used = min(wanted.base, _upto(wanted, registry), registry.last_sequence)
    if unpacked is not None:
        return check_as_needed(Path(name), database, unpacked, wanted.facts, upto=used)
    check_together(Path(name), database, upto=used)
    return "records"


def _upto(wanted: Order, registry: EventRegistry) -> int:
    if wanted.sequence is not None:
        return wanted.sequence
    assert wanted.instant is not None, "a target has a sequence or an instant"
    return registry.first_recorded_at_or_after(wanted.instant + 1, min(wanted.base, registry.last_sequence)) - 1


def _identity(wanted: Order, store_id: str, upto: int) -> StoreIdentity:
    """Return the new identity. That of a restore reads Kafka again from the fork, until offsets are carried over."""
    identity = StoreIdentity(store_id, wanted.generation, tuple(wanted.generations))
    if wanted.reason is None:
        return identity
    replay = wanted.reason == POINT_IN_TIME
    return identity.forked(at_sequence=upto, reason=wanted.reason, instant=clock.now(), previous=None, replay=replay)


def _identity_of_unproven(wanted: Order, store_id: str) -> StoreIdentity:
    """Return an identity that continues none of our generations, for events of an archive that is not proven."""
    if wanted.reason is None:
        return StoreIdentity(store_id, wanted.generation, tuple(wanted.generations))
    own = tuple(generation for generation in wanted.generations if generation.id not in wanted.claimed)
    return identity_without_parent(StoreIdentity(store_id, "", own), clock.now(), wanted.reason)
