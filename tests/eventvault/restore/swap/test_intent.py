"""The swap by an intent: after a kill at any instant the next start has the old data or the new, complete."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import orjson
import pytest

from eventvault import data_folders, small_files
from eventvault.errors import DatabaseDamaged, NoSpace
from eventvault.operations.operation import Operation
from eventvault.restore.start.leftovers import Leftovers
from eventvault.restore.swap import carry_over, in_place
from eventvault.restore.swap import intent as intents
from eventvault.restore.swap.intent import Intent
from eventvault.restore.values import Restored
from eventvault.settings import PROJECT, Settings
from eventvault.store import lifecycle
from eventvault.store.service import StoreService
from tests.eventvault.restore.swap.swap_killed import settings_in
from tests.restoring import drafts, leftovers, make_archive, make_database, prefixes, temporary_files
from tests.schedule import series_seed
from tests.stores import running_service

RESTORED = Restored(source="a.tar.gz", at=1, events=3, not_json=0, duration=1, generation="g")
INTENT = Intent(
    new_database=".restoring-aa/event_registry_db",
    previous_name="previous-g0",
    operation="o",
    restored=RESTORED,
    discards=".restoring-bb/event_registry_db",
)
WAITING = msgspec.structs.replace(INTENT, new_database=INTENT.discards, operation="waiting", discards=None)
"""A restore that was staged before; its previous database would have the same name."""


def prepare(storage: Path) -> None:
    """Make a live database, and one that is ready to replace it."""
    make_database(storage / "event_registry_db", "live", 2)
    make_database(storage / INTENT.new_database, "restored", 3)


def swapped(storage: Path) -> None:
    intents.swap_folders(storage, storage / "event_registry_db", INTENT)


@pytest.mark.slow
@pytest.mark.parametrize("most", [pytest.param(6, id="short"), pytest.param(1, id="long", marks=pytest.mark.soak)])
@pytest.mark.parametrize("linked", [False, True], ids=["folder", "link"])
def test_a_swap_that_is_killed_at_any_instant_leaves_the_old_data_or_the_new(
    tmp_path: Path, linked: bool, most: int
) -> None:
    template, target = tmp_path / "template", tmp_path / "killed"
    prepare(template / "storage")
    if linked:  # a folder that is not renamed
        (template / "storage" / "event_registry_db").rename(template / "disk")
        (template / "storage" / "event_registry_db").symlink_to("../disk")
    (template / "restore").mkdir()
    (template / "restore" / "a.tar.gz").write_bytes(b"an archive")
    (template / "intent.json").write_bytes(msgspec.json.encode(INTENT))
    make_database(template / "storage" / WAITING.new_database, "waiting", 1)
    intents.write_intent(template / "storage", WAITING, data_folders.STAGED_RESTORE)
    program = Path(__file__).with_name("swap_killed.py")

    command = [sys.executable, program, template, target, str(series_seed()), str(most)]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(PROJECT)})

    killed = sorted(target.iterdir(), key=lambda folder: int(folder.name))
    assert int(killed[-1].name) > 8
    outcomes = [outcome(folder) for folder in killed]
    assert set(outcomes) == {"live", "restored"}
    assert all((folder / "storage" / "event_registry_db").is_symlink() is linked for folder in killed)
    assert outcomes == sorted(outcomes), "once the new data is there, it stays"


def outcome(folder: Path) -> str:
    """Whether the next start finds the live or the restored events; nothing else may be there."""
    settings = settings_in(folder)
    decided = intents.read_intent(settings.storage_dir)
    if decided is not None:
        moved = msgspec.structs.replace(decided, drop_file=str(settings.restore_dir / "a.tar.gz"))
        intents.write_intent(settings.storage_dir, moved)
    with running_service(settings, service_starts=False) as service:
        found = prefixes(service)
        status = service.status()
        announced = announcements(service)
    assert announced == ([RESTORED.source] if "restored" in found else []), "a restore is announced once if it is done"
    assert found in ({"live": 2}, {"restored": 3}), folder
    new = "restored" in found
    assert (status["lastRestore"] is not None) is new
    assert status["status"] == "ok", status["problems"]
    assert (settings.restore_dir / "a.tar.gz").exists() is not new
    assert (settings.restore_dir / "restored" / "a.tar.gz").exists() is new
    assert intents.read_intent(settings.storage_dir) is None
    left = [] if new else [str(settings.storage_dir / ".restoring-bb")]
    assert leftovers(settings.storage_dir, expected=left) == left
    if new:
        with running_service(settings) as service:
            assert prefixes(service) == {"restored": 3}, "it took the place of what was staged"
    return "restored" if new else "live"


def announcements(service: StoreService) -> list[str]:
    """What the restores whose announcements wait to be published have restored."""
    with service.bus.using() as registry:
        return [orjson.loads(body)["data"]["restored"] for _, body in registry.outbox.messages()]


def test_the_old_database_is_kept(tmp_path: Path) -> None:
    prepare(tmp_path)
    files = sorted(path.name for path in (tmp_path / "event_registry_db").iterdir())

    swapped(tmp_path)

    assert sorted(path.name for path in (tmp_path / "previous-g0").iterdir()) == files


def test_a_swap_may_be_done_again(tmp_path: Path) -> None:
    prepare(tmp_path)
    for _ in range(3):
        swapped(tmp_path)

    assert not (tmp_path / ".restoring-aa").exists()
    assert (tmp_path / "previous-g0").is_dir()


def test_three_databases_where_two_belong_are_all_kept(tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "previous-g0").mkdir()

    with pytest.raises(DatabaseDamaged, match="cannot be finished"):
        swapped(tmp_path)

    assert (tmp_path / "event_registry_db").is_dir()
    assert (tmp_path / INTENT.new_database).is_dir()


def test_what_is_kept_takes_a_free_name(tmp_path: Path) -> None:
    assert intents.free_name(tmp_path, "previous-g0") == "previous-g0"
    (tmp_path / "previous-g0").mkdir()
    assert intents.free_name(tmp_path, "previous-g0").startswith("previous-g0-")


@pytest.mark.slow
def test_what_a_staged_restore_leaves_behind_takes_a_free_name_too(settings: Settings) -> None:
    with running_service(settings) as service:
        service.append(drafts(2))
        make_archive(settings.backup_dir / "a.tar.gz")
        service.restore("a.tar.gz", staged=True)
        staged = intents.read_intent(settings.storage_dir, data_folders.STAGED_RESTORE)
    assert staged is not None
    (settings.storage_dir / staged.previous_name).mkdir()

    with running_service(settings) as service:
        assert prefixes(service) == {"restored": 3}
        (kept,) = [each for each in service.list_undo() if each.events]
        assert kept.name.startswith(f"{staged.previous_name}-")
        assert kept.events == 2
        assert service.undo().events == 2


def test_an_intent_of_a_failed_swap_is_taken_back_while_nothing_was_renamed(tmp_path: Path) -> None:
    prepare(tmp_path)
    intents.write_intent(tmp_path, INTENT)

    intents.withdraw_intent(tmp_path, INTENT)

    assert intents.read_intent(tmp_path) is None
    assert not (tmp_path / ".restoring-aa").exists()


def test_an_intent_of_a_half_done_swap_stays(tmp_path: Path) -> None:
    prepare(tmp_path)
    intents.write_intent(tmp_path, INTENT)
    (tmp_path / "event_registry_db").rename(tmp_path / INTENT.previous_name)

    intents.withdraw_intent(tmp_path, INTENT)

    assert intents.read_intent(tmp_path) == INTENT
    swapped(tmp_path)
    assert (tmp_path / "event_registry_db" / "CURRENT").exists()


def test_what_is_staged_never_overwrites_what_is_decided(tmp_path: Path) -> None:
    later = msgspec.structs.replace(INTENT, operation="staged")
    intents.write_intent(tmp_path, INTENT)
    intents.write_intent(tmp_path, later, data_folders.STAGED_RESTORE)

    carry_over.promote_staged(tmp_path)
    assert intents.read_intent(tmp_path) == INTENT
    intents.remove_intent(tmp_path)
    carry_over.promote_staged(tmp_path)
    assert intents.read_intent(tmp_path) == later


def test_an_intent_that_cannot_be_read_stops_the_start_and_says_so(settings: Settings) -> None:
    settings.storage_dir.mkdir(parents=True)
    (settings.storage_dir / data_folders.INTENT).write_bytes(b"{")

    with running_service(settings) as service:
        (problem,) = service.status()["problems"]

    assert data_folders.INTENT in problem["message"]
    assert problem["hint"]


@pytest.mark.slow
def test_what_the_last_restore_did_is_no_reason_to_refuse_the_next_where_it_cannot_be_read(settings: Settings) -> None:
    with running_service(settings) as service:
        make_archive(settings.backup_dir / "a.tar.gz")
        (settings.storage_dir / data_folders.LAST_RESTORE).write_bytes(b"{")

        assert service.status()["lastRestore"] is None
        assert service.restore("a.tar.gz").events == 3
        assert service.status()["lastRestore"]["events"] == 3


@pytest.fixture
def unnoted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreService]:
    """A store that restored `a.tar.gz` by the operation `one`, and whose disk was too full to note it."""
    monkeypatch.setattr(lifecycle, "TICK_SECONDS", 3600)
    with running_service(settings) as service:
        service.append(drafts(2))
        make_archive(settings.backup_dir / "a.tar.gz", "first")
        make_archive(settings.backup_dir / "b.tar.gz", "second")
        with monkeypatch.context() as patched:
            patched.setattr(intents, "note_previous", _full(NoSpace("full", hint="free some")))
            service.restore("a.tar.gz", operation=Operation("one"))
        assert service.status()["lastRestore"] is None
        yield service


@pytest.mark.slow
def test_a_restore_that_could_not_be_noted_does_not_take_the_place_of_one_that_is_staged_later(
    settings: Settings, unnoted: StoreService
) -> None:
    unnoted.restore("b.tar.gz", staged=True)
    assert unnoted.status()["lastRestore"]["source"] == "a.tar.gz", "it is noted first"
    unnoted.stop()
    unnoted.bus.close()
    with running_service(settings) as service:
        assert prefixes(service) == {"second": 3}
        assert [entry.events for entry in service.list_undo()] == [3, 2]


@pytest.mark.slow
def test_a_restore_that_could_not_be_noted_is_noted_once_there_is_room(unnoted: StoreService) -> None:
    unnoted.restorer.finisher.each_second()

    assert unnoted.status()["lastRestore"]["source"] == "a.tar.gz"
    assert intents.read_intent(unnoted.settings.storage_dir) is None


@pytest.mark.slow
def test_a_restore_that_could_not_be_noted_is_not_done_again_for_who_asks_again(unnoted: StoreService) -> None:
    unnoted.append(drafts(1, "after"))

    assert unnoted.restore("a.tar.gz", operation=Operation("one")).events == 3
    assert prefixes(unnoted) == {"first": 3, "after": 1}


@pytest.mark.slow
def test_no_restore_begins_while_the_one_before_cannot_be_noted(
    unnoted: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(intents, "note_previous", _full(NoSpace("full", hint="free some")))
        unnoted.restorer.finisher.each_second()
        with pytest.raises(NoSpace):
            unnoted.restore("b.tar.gz", staged=True)

    assert prefixes(unnoted) == {"first": 3}
    assert unnoted.status()["jobs"]["restore"]["staged"] is None


def test_a_restore_drops_no_restore_that_was_staged_after_it(tmp_path: Path) -> None:
    later = msgspec.structs.replace(WAITING, new_database=".restoring-cc/event_registry_db")
    for staged, dropped in ((later, False), (WAITING, True)):
        intents.write_intent(tmp_path, staged, data_folders.STAGED_RESTORE)
        intents.discard_staged(tmp_path, INTENT)
        assert (intents.read_intent(tmp_path, data_folders.STAGED_RESTORE) is None) is dropped


@pytest.mark.slow
def test_a_restore_succeeds_also_where_its_emptied_folder_cannot_be_removed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_service(settings) as service:
        service.append(drafts(2))
        make_archive(settings.backup_dir / "a.tar.gz")
        remove = intents.remove_durably

        def stuck(path: Path) -> None:
            if path.name.startswith(data_folders.RESTORING_PREFIX):
                raise OSError(errno.EIO, "a bad disk")
            remove(path)

        with monkeypatch.context() as patched:
            patched.setattr(intents, "remove_durably", stuck)
            restored = service.restore("a.tar.gz")
        assert restored.undo is not None
        assert restored.undo.name == service.list_undo()[0].name
        assert prefixes(service) == {"restored": 3}
        assert temporary_files(settings.storage_dir)
    with running_service(settings) as service:
        assert prefixes(service) == {"restored": 3}
        assert not leftovers(settings.storage_dir)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "failing"), [(small_files, "write_durably"), (in_place, "rename_durably")])
def test_a_swap_that_fails_for_a_full_disk_leaves_nothing_that_a_later_start_would_do(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, module: ModuleType, failing: str
) -> None:
    with running_service(settings) as service:
        service.append(drafts(2))
        make_archive(settings.backup_dir / "a.tar.gz")
        with monkeypatch.context() as patched:
            patched.setattr(module, failing, _full(NoSpace("full", hint="free some")))
            with pytest.raises(NoSpace):
                service.restore("a.tar.gz")
        assert prefixes(service) == {"live": 2}
        service.append(drafts(1, "later"))
        assert not leftovers(settings.storage_dir)
    with running_service(settings) as service:
        assert prefixes(service) == {"live": 2, "later": 1}


def _full(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.fixture
def staged_once(tmp_path: Path) -> Path:
    """A STORAGE_DIR with a staged restore; the next one is built beside it."""
    make_database(tmp_path / WAITING.new_database, "waiting", 1)
    make_database(tmp_path / INTENT.new_database, "restored", 3)
    intents.stage(tmp_path, WAITING)
    return tmp_path


def staged_database(storage: Path) -> Path:
    intent = intents.read_intent(storage, data_folders.STAGED_RESTORE)
    assert intent is not None
    return storage / intent.new_database


@pytest.mark.parametrize("error", [NoSpace("full", hint="free some"), OSError(errno.EIO, "a bad disk")])
def test_a_staged_restore_stays_if_the_next_one_cannot_be_staged(
    staged_once: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(path: Path, content: bytes, **_: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(small_files, "write_durably", fail)
        with pytest.raises(type(error)):
            intents.stage(staged_once, INTENT)
    assert staged_database(staged_once) == staged_once / str(WAITING.new_database)
    assert staged_database(staged_once).is_dir()


def test_the_next_staged_restore_counts_although_the_folder_of_the_first_cannot_be_removed(
    staged_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "a bad disk")

    with monkeypatch.context() as patched:
        patched.setattr(intents, "remove_durably", fail)
        intents.stage(staged_once, INTENT)
    assert staged_database(staged_once) == staged_once / INTENT.new_database
    Leftovers(staged_once, staged_once / "backups").remove_from_storage()
    assert temporary_files(staged_once) == [str(staged_once / Path(INTENT.new_database).parts[0])]


def test_a_restore_that_is_staged_again_replaces_the_one_before_and_its_folder(staged_once: Path) -> None:
    intents.stage(staged_once, INTENT)
    assert staged_database(staged_once).is_dir()
    assert not (staged_once / str(WAITING.new_database)).exists()


def test_the_staged_database_exists_at_every_instant_while_another_one_is_staged(
    staged_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power may fail after each call that changes the disk."""
    seen = []

    def watched(module: ModuleType, name: str) -> None:
        original = getattr(module, name)

        def call(*arguments: Any, **named: Any) -> Any:
            seen.append(staged_database(staged_once).is_dir())
            result = original(*arguments, **named)
            seen.append(staged_database(staged_once).is_dir())
            return result

        monkeypatch.setattr(module, name, call)

    watched(small_files, "write_durably")
    watched(intents, "remove_durably")
    intents.stage(staged_once, INTENT)
    assert len(seen) == 4
    assert all(seen)
