"""Whatever the bytes of a small file are, a start serves what was there, or refuses with the reason (P5)."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eventvault import data_folders, small_files
from eventvault.errors import BackupsUnavailable
from eventvault.operations.registry import Call, OperationRegistry
from eventvault.problems import Problem
from eventvault.restore.values import Moment
from eventvault.settings import Settings, load
from eventvault.small_files import SmallFileDamaged
from eventvault.store.ports import methods
from eventvault.store.process.ownership import remember_starts, starts_to_serve
from eventvault.store.service import StoreService
from tests.restoring import drafts, ids, make_archive
from tests.schedule import series_seed, share
from tests.stores import running_service

SERVICE = "service-1"
FLIPS = 24_000
"""How many flips `make soak` tries."""
REPAIRED = {data_folders.INSTALLATION, f".{data_folders.RESTORE_MEMORY}", data_folders.HEADS}
"""Files that are made again without a word: from a copy, or from the archives."""
ANSWER, OPERATION = "0123456789abcdef", "fedcba9876543210"
"""The ids of a call that is no operation, and of one that is."""
DECIDING = {data_folders.INTENT, data_folders.STAGED_RESTORE}
STORAGE_FILES = {
    data_folders.INSTALLATION, data_folders.CHECKED_INSTALLATION, data_folders.INSTALLATION_KEY,
    data_folders.INSTALLATION_FOLDER, data_folders.PROBLEMS, data_folders.SERVICES, data_folders.PREVIOUS_DATABASES,
    data_folders.RESTORE_MEMORY, data_folders.LAST_RESTORE, data_folders.RESTORE_SPEEDS, data_folders.ARCHIVED_TABLES,
    data_folders.CLOCK, data_folders.REHEARSALS, data_folders.AUDIT_NOTE, f"operations/{ANSWER}.json",
    f"operations/{OPERATION}.json",
}  # fmt: skip
BACKUP_FILES = {
    data_folders.INSTALLATION, data_folders.CHECKED_INSTALLATION, data_folders.INSTALLATION_KEY,
    data_folders.INSTALLATION_FOLDER, data_folders.INSTALLATION_STORAGE, data_folders.CATALOGUE,
    data_folders.ANNOTATIONS,
    f".{data_folders.RESTORE_MEMORY}", data_folders.HEADS, data_folders.SHARED_RUNS,
    f"{data_folders.JOURNAL}/{data_folders.JOURNAL_RECORD}",
}  # fmt: skip

Change = Callable[[Path, random.Random], None]


def flip_bit(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def empty(path: Path, _chance: random.Random) -> None:
    path.write_bytes(b"")


def noise(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(chance.randrange(1, 3000)))


def zeros(path: Path, _chance: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def nested(path: Path, _chance: random.Random) -> None:
    path.write_bytes(b"[" * 100_000)


def other_json(path: Path, chance: random.Random) -> None:
    path.write_text(
        chance.choice(["null", "[null]", "{}", '{"format": 99}', '[{"file": 1}]', '"a"', "1e999", "[[[]]]"])
    )


def put_folder(path: Path, _chance: random.Random) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").touch()


def pipe(path: Path, _chance: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to_itself(path: Path, _chance: random.Random) -> None:
    path.unlink()
    path.symlink_to(path)


CHANGES: list[Change] = [flip_bit, cut, empty, noise, zeros, nested, other_json, put_folder, pipe, link_to_itself]


class Installation:
    """An installation that uses every small file. `expected`: its events."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = settings_in(root)
        with running_service(self.settings) as service:
            service.append(drafts(20))
            first = service.create_backup().backup
            service.pin_backup(first.name, pinned=True)
            service.append(drafts(5, "replaced"))
            service.rehearse(first.name)
            service.restore_moment(Moment(sequence=22))
            service.append(drafts(5, "later"))
            service.open_problems.report(Problem("kafka_messages_gone", "messages are gone", "accept", about="x/1"))
            call = Call("list_backups", methods.ALL["list_backups"].result_type, operation_id=ANSWER)
            OperationRegistry(self.settings.storage_dir).run(call, lambda _operation: service.list_backups())
            assert service.journal.flush(1.0, survey=True)
            self.expected = ids(service)
        for record in (self.settings.storage_dir / data_folders.OPERATIONS).iterdir():
            if record.stem != ANSWER:
                record.replace(record.with_name(f"{OPERATION}.json"))
        remember_starts(self.settings.storage_dir, [SERVICE])
        skipped = make_archive(self.settings.restore_dir / "old.tar.gz", "old")
        with running_service(self.settings, service_starts=False) as service:
            service.restorer.finisher.drop_folder.mark_skipped([skipped], skipped.with_name("new.tar.gz"))
        self.archive = first.name

    def copy(self, target: Path) -> Settings:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.root, target, symlinks=True)
        return settings_in(target)


def settings_in(root: Path, **more: str) -> Settings:
    names = {"STORAGE_DIR": "storage", "BACKUP_DIR": "backups", "RESTORE_DIR": "restore"}
    return load(
        {**{name: str(root / folder) for name, folder in names.items()}, "AUTO_BACKUP_ENABLED": "false", **more}
    )


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(tmp_path_factory.mktemp("small-files") / "installation")


def small_files_of(folder: Path) -> set[str]:
    """All files but those of databases, the archives, the segments and the locks."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {
        name
        for name in found
        if "event_registry_db/" not in name and "previous-" not in name and not name.endswith((".gz", ".lock", ".sock"))
    }


def codes(service: StoreService) -> list[str]:
    return [problem["code"] for problem in service.status()["problems"]]


def check_start(installation: Installation, settings: Settings, changed: Path, *, recovers: bool = False) -> None:
    """A start of the service serves what was there; what was damaged is named."""
    first = bool(starts_to_serve(settings.storage_dir, "another"))
    with running_service(settings, service_starts=first) as service:
        assert service.state == "serving", service.status()["problems"]
        assert ids(service) == installation.expected, changed
        service.append(drafts(1, "next"))
        service.list_undo()
        service.plan_restore(Moment(sequence=22))
        with suppress(BackupsUnavailable):  # the key is damaged
            service.create_backup()
        named = [problem for problem in service.status()["problems"] if str(changed) in str(problem)]
        assert named or recovers or changed.name in REPAIRED or changed.parent.name == "operations", codes(service)
    with running_service(settings) as service:
        assert ids(service)[:-1] == installation.expected, changed


def use_all_files(settings: Settings) -> None:
    """Do what reads each small file."""
    remember_starts(settings.storage_dir, starts_to_serve(settings.storage_dir, SERVICE))
    with running_service(settings) as service:
        service.append(drafts(1, "next"))
        service.create_backup()
        service.plan_restore(Moment(sequence=22))
        service.list_undo()
        service.status()
    memory = settings.storage_dir / data_folders.RESTORE_MEMORY
    hidden = memory.rename(memory.with_suffix(".hidden"))
    with running_service(settings):  # it reads the copy of that file
        pass
    hidden.rename(memory)


def files_in(settings: Settings) -> list[Path]:
    storage = [settings.storage_dir / name for name in sorted(STORAGE_FILES)]
    return storage + [settings.backup_dir / name for name in sorted(BACKUP_FILES)]


def try_changes(
    installation: Installation, folder: Path, pairs: list[tuple[int, Change]], chance: random.Random
) -> None:
    for number, change in pairs:
        settings = installation.copy(folder / "copy")
        path = files_in(settings)[number]
        print(path.name, change.__name__)
        path.exists() or path.write_bytes(b"{}")
        before = None if change in (put_folder, pipe, link_to_itself) else path.read_bytes()
        change(path, chance)
        if before is None or path.read_bytes() != before:
            check_start(installation, settings, path)


def test_these_are_all_small_files(installation: Installation) -> None:
    later = {data_folders.CLOCK}  # it is written some seconds after a start
    assert small_files_of(installation.settings.storage_dir) | later == STORAGE_FILES
    found = {name for name in small_files_of(installation.settings.backup_dir) if not name.startswith("audit/")}
    assert found == BACKUP_FILES  # a line of the audit is no small file


def flips_of(content: bytes) -> Iterator[bytes]:
    """Yield the content with each of its bits flipped."""
    flipped = bytearray(content)
    for position in range(len(content)):
        for bit in range(8):
            flipped[position] ^= 1 << bit
            yield bytes(flipped)
            flipped[position] ^= 1 << bit


@pytest.mark.slow
def test_each_flipped_bit_of_each_small_file_is_damage_to_whoever_reads_it(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are read as a start, a backup and requests read them."""
    settings = installation.copy(tmp_path / "copy")
    readers: dict[Path, Callable[[], Any]] = {}

    def noting(read: Callable[..., Any]) -> Callable[..., Any]:
        def note_and_read(path: Path, *arguments: Any, **named: Any) -> Any:
            readers[path] = partial(read, path, *arguments, **named)
            return read(path, *arguments, **named)

        return note_and_read

    with monkeypatch.context() as noted:
        noted.setattr(small_files, "read", noting(small_files.read))
        noted.setattr(small_files, "read_list", noting(small_files.read_list))
        use_all_files(settings)
    without_checksum = {folder / data_folders.INSTALLATION for folder in (settings.storage_dir, settings.backup_dir)}
    files = set(files_in(settings)) - without_checksum
    later = {settings.storage_dir / data_folders.CLOCK}  # it is written some seconds after a start
    assert {path for path in files if path not in readers or not path.exists()} <= later
    contents = {path: path.read_bytes() for path in files & readers.keys() if path.exists()}
    flipped: list[bytes] = []
    monkeypatch.setattr(small_files, "read_bytes", lambda _path: flipped[-1])
    for path, content in contents.items():
        for one in flips_of(content):
            flipped[:] = [one]
            with pytest.raises(SmallFileDamaged):
                readers[path]()


@pytest.mark.slow
def test_no_content_of_a_small_file_stops_a_start(installation: Installation, tmp_path: Path) -> None:
    chance = random.Random(series_seed())
    count = len(STORAGE_FILES) + len(BACKUP_FILES)
    pairs = [(number, chance.choice(CHANGES)) for number in range(count)]
    pairs += [(chance.randrange(count), flip_bit) for _ in range(10)]
    try_changes(installation, tmp_path, pairs, chance)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_no_flipped_bit_of_a_small_file_stops_a_start(installation: Installation, tmp_path: Path) -> None:
    chance = random.Random(series_seed())
    count = len(STORAGE_FILES) + len(BACKUP_FILES)
    pairs = [(number, change) for number in range(count) for change in CHANGES]
    pairs = chance.sample(pairs, share(len(pairs)))
    pairs += [(chance.randrange(count), flip_bit) for _ in range(share(FLIPS))]
    try_changes(installation, tmp_path, pairs, chance)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_staged_restore_is_refused_by_a_start_and_held_by_a_take_over(
    installation: Installation, tmp_path: Path, change: Change
) -> None:
    settings = installation.copy(tmp_path / "copy")
    with running_service(settings, service_starts=False) as service:
        service.restore(installation.archive, staged=True)
    path = settings.storage_dir / data_folders.STAGED_RESTORE
    before = path.read_bytes()
    change(path, random.Random(series_seed()))

    with running_service(settings, service_starts=False) as service:
        assert ids(service) == installation.expected
        assert "staged_restore_damaged" in codes(service)
    with running_service(settings) as service:
        (problem,) = [problem for problem in service.status()["problems"] if problem["code"] == "database_damaged"]
        assert str(path) in problem["message"]
        assert str(path) in problem["hint"]
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.write_bytes(before)
    with running_service(settings) as service:
        assert len(ids(service)) == 20


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_intent_is_refused_by_every_start(installation: Installation, tmp_path: Path, change: Change) -> None:
    settings = installation.copy(tmp_path / "copy")
    with running_service(settings, service_starts=False) as service:
        service.restore(installation.archive, staged=True)
    path = settings.storage_dir / data_folders.INTENT
    (settings.storage_dir / data_folders.STAGED_RESTORE).rename(path)
    before = path.read_bytes()
    change(path, random.Random(series_seed()))

    for service_starts in (False, True):
        with running_service(settings, service_starts=service_starts) as service:
            (problem,) = [problem for problem in service.status()["problems"] if problem["code"] == "database_damaged"]
            assert str(path) in problem["message"]
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.write_bytes(before)
    with running_service(settings) as service:
        assert len(ids(service)) == 20


@pytest.mark.slow
@pytest.mark.parametrize("change", [flip_bit, cut, noise, put_folder, pipe])
def test_restores_from_the_drop_folder_are_held_while_both_memories_are_damaged(
    installation: Installation, tmp_path: Path, change: Change
) -> None:
    settings, chance = installation.copy(tmp_path / "copy"), random.Random(series_seed())
    first = settings.storage_dir / data_folders.RESTORE_MEMORY
    second = settings.backup_dir / f".{data_folders.RESTORE_MEMORY}"
    change(first, chance)
    second.write_bytes(b"\xff\xfe")

    for _ in range(2):
        with running_service(settings) as service:
            assert ids(service) == installation.expected
            problem = next(each for each in service.status()["problems"] if each["code"] == "restore_memory_damaged")
            assert str(first) in problem["message"]
    shutil.rmtree(first) if first.is_dir() else first.unlink()
    second.unlink()
    (settings.restore_dir / "old.tar.gz").rename(tmp_path / "moved-out")
    with running_service(settings) as service:
        assert ids(service) == installation.expected
        assert "restore_memory_damaged" not in codes(service)


@pytest.mark.slow
def test_a_start_without_the_disk_of_restore_forgets_nothing(installation: Installation, tmp_path: Path) -> None:
    settings = installation.copy(tmp_path / "copy")
    settings.restore_dir.rename(tmp_path / "away")
    for _ in range(2):
        with running_service(settings) as service:
            assert ids(service) == installation.expected
    shutil.rmtree(settings.restore_dir)
    (tmp_path / "away").rename(settings.restore_dir)
    with running_service(settings) as service:
        assert ids(service) == installation.expected
    (settings.restore_dir / "old.tar.gz").rename(tmp_path / "old.tar.gz")
    with running_service(settings) as service:
        assert ids(service) == installation.expected
    (tmp_path / "old.tar.gz").rename(settings.restore_dir / "old.tar.gz")
    with running_service(settings) as service:
        assert ids(service) != installation.expected, "dropped again on purpose, it is restored"


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_list_of_starts_lets_no_take_over_restore_anything(
    installation: Installation, tmp_path: Path, change: Change
) -> None:
    storage = installation.copy(tmp_path / "copy").storage_dir
    assert starts_to_serve(storage, SERVICE) == []
    assert starts_to_serve(storage, "another") == ["another"]
    change(storage / data_folders.SERVICES, random.Random(series_seed()))
    assert starts_to_serve(storage, SERVICE) == []
    remember_starts(storage, [SERVICE])
    assert starts_to_serve(storage, SERVICE) == []
    assert starts_to_serve(storage, "another") == ["another"]


RECOVERED_FROM = sorted(BACKUP_FILES - {data_folders.INSTALLATION_KEY})


def try_recoveries(installation: Installation, folder: Path, pairs: list[tuple[str, Change]], seeded: Any) -> None:
    for name, change in pairs:
        installation.copy(folder / "copy")
        settings = settings_in(folder / "copy", AUTO_RECOVER="true")
        shutil.rmtree(settings.storage_dir)
        path = settings.backup_dir / name
        print(name, change.__name__)
        change(path, seeded)
        check_start(installation, settings, path, recovers=True)


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 1])
def test_a_recovery_of_a_lost_storage_has_every_event_whatever_a_small_file_holds(
    installation: Installation, tmp_path: Path, part: int
) -> None:
    chance = random.Random(series_seed())
    try_recoveries(installation, tmp_path, [(name, chance.choice(CHANGES)) for name in RECOVERED_FROM[part::2]], chance)


@pytest.mark.soak
def test_a_recovery_of_a_lost_storage_has_every_event_whatever_any_change_makes_of_a_small_file(
    installation: Installation, tmp_path: Path
) -> None:
    chance = random.Random(series_seed())
    pairs = [(name, change) for name in RECOVERED_FROM for change in CHANGES]
    try_recoveries(installation, tmp_path, pairs + [(name, flip_bit) for name in RECOVERED_FROM], chance)
