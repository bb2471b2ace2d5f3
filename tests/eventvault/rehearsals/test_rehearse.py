"""Rehearsals in the store: what they restore, compare and measure, and what they leave behind: nothing."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventvault import chores, clock
from eventvault.chores import Chores
from eventvault.database.opening import open_checked
from eventvault.database.registry import EventRegistry
from eventvault.errors import (
    ArchiveError,
    BackupNotFound,
    BackupProtected,
    MomentUnavailable,
    NoSpace,
    OperationCancelled,
    RehearsalRunning,
    RestoreRunning,
)
from eventvault.events.event import recorded_of
from eventvault.operations.entry import OperationQuery
from eventvault.rehearsals import rehearse
from eventvault.rehearsals.elsewhere import rehearse_copy
from eventvault.rehearsals.risk import Risk
from eventvault.restore import estimate
from eventvault.restore.values import Moment
from eventvault.settings import Settings, load
from eventvault.store.service import StoreService
from tests.eventvault.past.past_moments import ids_at
from tests.restoring import (
    bytes_of,
    drafts,
    flip,
    forge_archive,
    generation,
    live,
    make_archive,
    make_foreign_archive,
    problem_codes,
    put,
)
from tests.stores import folders_beneath, running_service

pytestmark = pytest.mark.slow

SLOW = {"JOURNAL_INTERVAL": "3600000", "AUTO_BACKUP_ENABLED": "false"}


@pytest.fixture
def service(settings_with: Callable[..., Settings]) -> Iterator[StoreService]:
    """A service whose segments are written when a test says so. A rehearsal must leave nothing in STORAGE_DIR."""
    with running_service(settings_with(SLOW)) as service:
        yield service
        assert [path.name for path in service.settings.storage_dir.glob(".re*")] == []


@contextmanager
def chore_hooked(monkeypatch: pytest.MonkeyPatch, name: str, hook: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Call `hook` with the arguments of each chore of that name, before it begins."""
    run = Chores.run

    def hooked(self: Chores, chore: str, **arguments: Any) -> dict[str, Any]:
        if chore == name:
            hook(arguments)
        return run(self, chore, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Chores, "run", hooked)
        yield


def events_in(folder: str) -> list[bytes]:
    """The events of a database that nobody has open."""
    with closing(open_checked(Path(folder))) as db:
        registry = EventRegistry(db, Path(folder))
        return [value for _, value in registry.events(0, registry.last_sequence)]


def test_the_newest_state_is_restored_from_archive_and_journal_and_equals_the_live_events(
    service: StoreService,
) -> None:
    put(service, 3, "a")
    name = service.create_backup().backup.name
    put(service, 4, "b")
    before = bytes_of(service.settings.backup_dir)

    result = service.rehearse()

    assert (result.ok, result.kind, result.backup, result.events) == (True, "newest", name, 7)
    assert (result.compared, result.differing, result.problem, result.proven) == (7, 0, None, True)
    assert result.segments >= 1
    assert result.moment is not None
    assert (result.moment.sequence, result.moment.generation) == (7, generation(service))
    assert result.moment.time == recorded_of(live(service)[-1])
    assert (result.rpo_events, result.rpo_seconds) == (0, 0.0)
    assert result.rto is not None
    assert list(result.rto) == ["fetch", "unpack", "verify", "open"]
    assert result.rto_seconds == pytest.approx(sum(result.rto.values()), abs=0.01)
    assert result.duration / 1000 >= (result.rto_seconds or 0) - 0.01
    assert service.list_rehearsals() == [result]
    assert bytes_of(service.settings.backup_dir, [".annotations.json"]) == before
    assert (generation(service), len(live(service))) == (result.moment.generation, 7)


def test_the_journal_alone_suffices(service: StoreService) -> None:
    put(service, 2, "a")

    result = service.rehearse()

    assert (result.ok, result.backup, result.events, result.compared) == (True, None, 2, 2)
    assert result.segments >= 1


def test_what_neither_archive_nor_journal_has_yet_would_be_lost(service: StoreService) -> None:
    put(service, 3, "a")
    service.append(drafts(2, "at risk"))
    service.append(drafts(1, "too"))
    oldest = recorded_of(live(service)[3])
    began = clock.now()

    result = service.rehearse()

    assert (result.ok, result.events, result.compared, result.rpo_events) == (True, 3, 3, 3)
    assert (began - oldest) / 1e6 - 0.001 <= (result.rpo_seconds or 0) <= (clock.now() - oldest) / 1e6 + 0.001


def test_beside_posts_it_is_never_less_than_what_a_copy_of_that_instant_lacks(
    settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A client remembers its posts; backups/ is copied when the rehearsal has found out what would be lost."""
    acknowledged, copied, stop = 0, list[tuple[int, Path]](), threading.Event()
    measure = rehearse.risk_of

    def copying(*arguments: Any) -> Risk:
        before = acknowledged
        risk = measure(*arguments)
        with service.journal._turn.held():  # no segment is merged while the folder is copied
            copy = shutil.copytree(service.settings.backup_dir, tmp_path / f"copy-{len(copied)}")
        copied.append((before, Path(copy)))
        return risk

    def post() -> None:
        nonlocal acknowledged
        while not stop.is_set():
            acknowledged = service.append(drafts(1, str(acknowledged))).last_sequence

    monkeypatch.setattr(rehearse, "risk_of", copying)
    with running_service(settings_with({"JOURNAL_INTERVAL": "50", "AUTO_BACKUP_ENABLED": "false"})) as service:
        put(service, 1, "a")
        posting = threading.Thread(target=post)
        posting.start()
        try:
            results = [service.rehearse() for _ in range(3)]
        finally:
            stop.set()
            posting.join(60)
    elsewhere = load(folders_beneath(tmp_path / "elsewhere"))
    for result, (remembered, copy) in zip(results, copied, strict=True):
        assert result.ok
        assert (result.rpo_events or 0) >= remembered - (rehearse_copy(elsewhere, copy, None).events or 0)


def test_a_named_backup_is_restored_alone_so_all_since_then_would_be_lost(service: StoreService) -> None:
    put(service, 3, "a")
    name = service.create_backup().backup.name
    put(service, 4, "b")

    result = service.rehearse(name)

    assert (result.ok, result.kind, result.backup, result.events, result.segments) == (True, "backup", name, 3, 0)
    assert (result.compared, result.rpo_events, result.moment) == (3, 4, None)
    assert (result.rpo_seconds or 0) > 0


@pytest.mark.parametrize("by", ["sequence", "instant"])
def test_a_moment_between_two_archives_is_what_as_of_shows(
    service: StoreService, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    put(service, 3, "a")
    first = service.create_backup().backup.name
    put(service, 4, "b")
    put(service, 2, "c")
    service.create_backup()
    moment = Moment(sequence=5) if by == "sequence" else Moment(instant=recorded_of(live(service)[6]))
    restored: list[list[bytes]] = []

    def look(arguments: dict[str, Any]) -> None:
        restored.append(events_in(arguments["order"]["database"]))

    with chore_hooked(monkeypatch, "compare_events", look):
        result = service.rehearse(moment)

    expected = len(ids_at(service, moment))
    assert (result.ok, result.kind, result.backup, result.events) == (True, "moment", first, expected)
    assert (result.compared, result.differing) == (expected, 0)
    assert restored == [live(service)[:expected]]
    assert expected == (5 if by == "sequence" else 7)


def test_a_moment_of_an_earlier_generation_is_compared_as_far_as_it_is_shared(service: StoreService) -> None:
    put(service, 2, "shared")
    name = service.create_backup().backup.name
    put(service, 3, "superseded")
    earlier = generation(service)
    service.restore(name)
    put(service, 1, "since")

    result = service.rehearse(Moment(sequence=5, generation=earlier))

    assert (result.ok, result.events, result.compared) == (True, 5, 2)
    assert result.rpo_events == 0, "what a loss would cost does not depend on the moment"


def test_one_flipped_bit_fails_and_says_where(service: StoreService) -> None:
    put(service, 50, "a")
    entry = service.create_backup().backup
    flip(Path(entry.path), entry.size // 2)

    result = service.rehearse(entry.name)

    assert (result.ok, result.backup) == (False, entry.name)
    assert result.problem is not None
    assert result.problem.code == "archive_damaged"
    assert "byte" in result.problem.message
    assert result.rpo_events == 0
    (marked,) = service.list_backups()
    assert marked.problem == result.problem.message
    problems = {problem["code"]: problem for problem in service.status()["problems"]}
    assert problems["rehearsal_failed"]["about"] == {"kind": "backup", "name": entry.name}
    assert "byte" in problems["rehearsal_failed"]["message"]
    assert service.status()["status"] == "degraded"


def test_the_problem_goes_once_the_same_can_be_restored_or_is_gone(service: StoreService) -> None:
    put(service, 50, "a")
    first, second = service.create_backup("one").backup, service.create_backup("two").backup
    for entry in (first, second):
        flip(Path(entry.path), entry.size // 2)
        assert not service.rehearse(entry.name).ok
    assert problem_codes(service).count("rehearsal_failed") == 2

    flip(Path(first.path), first.size // 2)
    service.verify_backup(first.name)
    assert service.rehearse(first.name).ok
    service.delete_backup(second.name)

    assert "rehearsal_failed" not in problem_codes(service)


def test_the_newest_state_goes_around_a_damaged_archive_once_that_is_known(service: StoreService) -> None:
    put(service, 20, "a")
    good = service.create_backup("good").backup
    put(service, 20, "b")
    entry = service.create_backup("damaged").backup
    flip(Path(entry.path), entry.size // 2)

    first, second = service.rehearse(), service.rehearse()

    assert (first.ok, first.backup) == (False, entry.name)
    assert (second.ok, second.backup, second.events) == (True, good.name, 40)
    assert "rehearsal_failed" not in problem_codes(service)


def test_damage_of_the_archive_that_replaces_a_damaged_segment_is_blamed_on_that_archive(
    service: StoreService,
) -> None:
    put(service, 20, "a")
    good = service.create_backup("good").backup
    put(service, 20, "b")
    damaged = service.create_backup("damaged").backup
    flip(next(segment for segment in service.journal.folder.segments()[0] if segment.first == 21).path, -12)
    flip(Path(damaged.path), damaged.size // 2)

    result = service.rehearse(Moment(sequence=30))

    assert (result.ok, result.backup, result.segments) == (False, damaged.name, 0)
    marked = {entry.name for entry in service.list_backups() if entry.problem is not None}
    assert (marked, good.name in marked) == ({damaged.name}, False)


def test_an_event_that_differs_from_the_live_one_fails_the_rehearsal(service: StoreService) -> None:
    put(service, 4, "a")
    entry = service.create_backup().backup
    key = bytes.fromhex(service.catalogue.proof().keys[0])
    forged = forge_archive(Path(entry.path), Path(entry.path).with_name("forged.tar.gz"), 4, key=key)

    result = service.rehearse(forged.name)

    assert (result.ok, result.compared, result.differing) == (False, 4, 4)
    assert result.problem is not None
    assert result.problem.code == "rehearsal_differs"
    assert "event 1" in result.problem.message
    assert result.rto is not None


@pytest.mark.parametrize(("make", "events"), [(make_archive, 3), (make_foreign_archive, 3)])
def test_an_archive_from_elsewhere_is_replayed_and_shares_nothing_with_the_live_events(
    service: StoreService, make: Callable[[Path], Path], events: int
) -> None:
    put(service, 2, "a")
    make(service.settings.backup_dir / "elsewhere.tar.gz")

    result = service.rehearse("elsewhere.tar.gz")

    assert (result.ok, result.events, result.compared, result.proven) == (True, events, 0, False)
    assert result.rpo_events == 2


def test_what_is_not_there_cannot_be_rehearsed_and_is_no_failure(service: StoreService) -> None:
    with pytest.raises(BackupNotFound):
        service.rehearse()
    with pytest.raises(BackupNotFound):
        service.rehearse("backup_2024-12-27_120000.tar.gz")
    put(service, 2, "a")
    with pytest.raises(MomentUnavailable):
        service.rehearse(Moment(sequence=3))

    assert service.list_rehearsals() == []
    assert problem_codes(service) == []


def test_without_room_nothing_is_begun_and_the_need_is_told(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(service, 2, "a")
    name = service.create_backup().backup.name
    monkeypatch.setattr("eventvault.restore.space.free_bytes", lambda _folder: rehearse.RESERVE_BYTES)

    for target in (name, None, Moment(sequence=1)):
        with pytest.raises(NoSpace) as refused:
            service.rehearse(target)
        assert refused.value.details["needed"] > refused.value.details["free"]
    assert service.list_rehearsals() == []


@contextmanager
def held_rehearsal(service: StoreService, monkeypatch: pytest.MonkeyPatch, at: str) -> Iterator[list[Exception]]:
    """A rehearsal that is held before its chore `at` begins, until the context is left; gets its error."""
    reached, go_on, ended = threading.Event(), threading.Event(), []

    def hold(_arguments: dict[str, Any]) -> None:
        if threading.current_thread() is thread:
            reached.set()
            assert go_on.wait(60)

    def work() -> None:
        try:
            service.rehearse()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            ended.append(error)

    thread = threading.Thread(target=work)
    with chore_hooked(monkeypatch, at, hold):
        thread.start()
        assert reached.wait(60)
        try:
            yield ended
        finally:
            go_on.set()
            thread.join(60)


def test_one_rehearsal_is_made_at_a_time(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    put(service, 2, "a")
    service.create_backup()

    with held_rehearsal(service, monkeypatch, "prepare_moment") as ended, pytest.raises(RehearsalRunning):
        service.rehearse()

    assert ended == []
    assert len(service.list_rehearsals()) == 1


@pytest.mark.parametrize("at", ["prepare_moment", "check_opening", "compare_events"])
def test_a_real_restore_cancels_it_and_that_is_no_failure(
    service: StoreService, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    put(service, 3, "a")
    name = service.create_backup().backup.name
    put(service, 1, "b")
    monkeypatch.setattr(rehearse, "END_SECONDS", 0.1)

    with held_rehearsal(service, monkeypatch, at) as ended:
        restored = threading.Thread(target=lambda: service.restore(name))
        restored.start()
        restored.join(60)
        assert not restored.is_alive(), "the restore waits for the rehearsal"
        assert len(live(service)) == 3

    assert [type(error) for error in ended] == [RestoreRunning]
    assert service.list_rehearsals() == []
    assert problem_codes(service) == []


@pytest.mark.parametrize("at", ["prepare_moment", "check_opening", "compare_events"])
def test_a_cancelled_operation_leaves_nothing(service: StoreService, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    put(service, 3, "a")
    service.create_backup()

    with held_rehearsal(service, monkeypatch, at) as ended:
        (entry,) = service.list_operations(OperationQuery(kinds=["rehearse"]))
        service.cancel_operation(entry.id)

    assert [type(error) for error in ended] == [OperationCancelled]
    assert service.get_operation(entry.id).state == "cancelled"
    assert service.list_rehearsals() == []
    assert problem_codes(service) == []
    assert service.rehearse().ok


def test_no_rehearsal_begins_beside_a_restore(service: StoreService) -> None:
    put(service, 3, "a")
    service.restorer.running = "something", clock.now()

    with pytest.raises(RestoreRunning):
        service.rehearse()


def test_an_archive_that_is_rehearsed_cannot_be_deleted(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    put(service, 3, "a")
    name = service.create_backup("one").backup.name
    service.create_backup("two")
    refused: list[Exception] = []

    def delete(_arguments: dict[str, Any]) -> None:
        with suppress(BackupProtected):
            service.delete_backup(name)
            return
        refused.append(BackupProtected(""))

    with chore_hooked(monkeypatch, "prepare_restore", delete):
        assert service.rehearse(name).ok
    assert len(refused) == 1


def test_an_archive_that_was_deleted_meanwhile_is_not_found_and_no_failure(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(service, 3, "a")
    entry = service.create_backup().backup

    removing = chore_hooked(monkeypatch, "prepare_restore", lambda _: Path(entry.path).unlink())
    with removing, pytest.raises(BackupNotFound):
        service.rehearse(entry.name)

    assert service.list_rehearsals() == []


def test_predictions_of_restores_learn_from_rehearsals(service: StoreService) -> None:
    put(service, 3, "a")
    entry = service.create_backup().backup

    result = service.rehearse(entry.name)

    (noted,) = estimate.read_durations(service.settings.storage_dir)
    assert (noted.size, noted.seconds) == (entry.size, result.rto_seconds)
    assert service.plan_restore(entry.name)["predictedSeconds"] == pytest.approx(noted.seconds, abs=0.06)


def test_its_processes_leave_the_disk_to_everybody_else(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    put(service, 3, "a")
    given: list[int] = []
    start = chores.start_process

    def noting(name: str, niceness: int) -> Any:
        given.append(niceness)
        return start(name, niceness)

    monkeypatch.setattr(chores, "start_process", noting)

    assert service.rehearse().ok
    assert set(given) == {chores.IDLE_NICENESS}


def test_a_result_is_shown_after_a_restart(settings_with: Callable[..., Settings]) -> None:
    settings = settings_with(SLOW)
    with running_service(settings) as service:
        put(service, 3, "a")
        result = service.rehearse()
    with running_service(settings) as service:
        assert service.list_rehearsals() == [result]
        shown = service.status()["rehearsal"]
        assert {**result.describe(), "next": None} == shown


def test_health_and_the_list_show_the_newest_result(service: StoreService) -> None:
    assert service.status()["rehearsal"] is None
    put(service, 3, "a")
    name = service.create_backup().backup.name

    result = service.rehearse(name)

    assert service.status()["rehearsal"] == {**result.describe(), "next": None}
    (entry,) = service.list_backups()
    assert entry.rehearsal == result.describe()


def test_a_damaged_live_database_is_blamed_itself(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    put(service, 300, "a")
    service.create_backup()

    def damage(arguments: dict[str, Any]) -> None:
        folder = Path(arguments["order"]["live"])
        for table in [*folder.glob("*.ldb"), *folder.glob("*.log")]:
            content = bytearray(table.read_bytes())
            if content:
                content[len(content) // 2] ^= 4
                table.unlink()  # it may be a hard link of the live one
                table.write_bytes(content)

    with chore_hooked(monkeypatch, "compare_events", damage):
        result = service.rehearse()

    assert not result.ok
    assert result.problem is not None
    assert result.problem.code == "database_damaged"
    assert "the live database" in result.problem.message
    assert all(entry.problem is None for entry in service.list_backups())


def test_an_unknown_failure_of_a_chore_is_raised_and_not_recorded(
    service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(service, 3, "a")

    def fail(_arguments: dict[str, Any]) -> None:
        raise RuntimeError("a defect")

    with chore_hooked(monkeypatch, "compare_events", fail), pytest.raises(RuntimeError):
        service.rehearse()

    assert service.rehearse().ok, "the next one is not in its way"


def test_the_result_survives_the_wire() -> None:
    from eventvault.rehearsals.results import Failure, ReachedMoment, Rehearsal

    result = Rehearsal(
        ok=False,
        at=1,
        kind="moment",
        moment=ReachedMoment(1, "a" * 16, 2),
        rto={"fetch": 0.1, "unpack": 0.2, "verify": 0.0, "open": 0.3},
        problem=Failure.of(ArchiveError("a", hint="b")),
    )
    assert msgspec.json.decode(msgspec.json.encode(result), type=Rehearsal) == result
