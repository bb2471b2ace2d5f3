"""What the doctor finds in an installation whose service does not run. It changes nothing there, whatever is wrong."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import plyvel
import pytest

from eventvault import data_folders
from eventvault.doctor import gather as module
from eventvault.doctor.backups_on_disk import look_at_backups
from eventvault.doctor.facts import Backups, Database, Facts, Jobs, Start
from eventvault.doctor.gather import LoadedSettings, gather, load_settings
from eventvault.errors import Forbidden
from eventvault.files import is_there
from eventvault.jobs import unfinished
from eventvault.jobs.database import JobsDatabase
from eventvault.settings import Settings, load
from tests import processes
from tests.eventvault.jobs.rig import START, World, request
from tests.mounts import CannotMount, mount, read_only
from tests.restoring import drafts, flip, make_archive, make_foreign_database, set_clock_back
from tests.stores import folders_beneath, running_service

pytestmark = pytest.mark.slow

FOLDERS = ("storage", "backups", "restore")
JOBS = {"JOBS_ENABLED": "true"}


def everything_in(folder: Path) -> dict[str, object]:
    """Every file and folder of an installation with its mode, times, links and content."""
    found: dict[str, object] = {}
    for top in FOLDERS:
        for path in (folder / top, *sorted((folder / top).rglob("*"))):
            status = path.lstat() if is_there(path) else None
            is_file = status is not None and stat.S_ISREG(status.st_mode)
            times = status and (status.st_mode, status.st_mtime_ns, status.st_ctime_ns, status.st_nlink)
            found[str(path)] = times, path.read_bytes() if is_file else b""
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation of seven events: an archive of three, a previous database, and the journal."""
    folder = tmp_path_factory.mktemp("made")
    with running_service(settings_of(folder)) as service:
        service.append(drafts(3, "first"))
        name = service.create_backup("first").backup.name
        service.append(drafts(2, "gone"))
        service.restore(name)
        service.append(drafts(4, "second"))
        assert service.journal.flush()
    (folder / "restore").mkdir(exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The events are counted, however busy the machine is."""
    monkeypatch.setattr("eventvault.doctor.database_files.HEAD_SECONDS", 60.0)


def settings_of(folder: Path, **more: str) -> Settings:
    return load({**folders_beneath(folder), "JOURNAL_INTERVAL": "3600000", **more})


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    for name in FOLDERS:
        shutil.copytree(made / name, tmp_path / name, symlinks=True)
    return tmp_path


def look(folder: Path, **more: str) -> Facts:
    """Gather, and make sure that nothing was changed."""
    before = everything_in(folder)
    facts = gather(LoadedSettings(settings_of(folder, **more)), seconds=60)
    assert everything_in(folder) == before
    assert facts.unanswered == ()
    assert facts.failed == {}
    return facts


def database_of(facts: Facts) -> Database:
    assert facts.database is not None
    return facts.database


def backups_of(facts: Facts) -> Backups:
    assert facts.backups is not None
    return facts.backups


def jobs_of(facts: Facts) -> Jobs:
    assert facts.jobs is not None
    return facts.jobs


def start_of(facts: Facts) -> Start:
    assert facts.start is not None
    return facts.start


def codes(facts: Facts) -> list[str]:
    return [problem.code for problem in (*start_of(facts).problems, *start_of(facts).open)]


def log_of(folder: Path) -> Path:
    return max((folder / "storage" / data_folders.DATABASE).glob("*.log"))


def test_an_installation_in_good_order(folder: Path) -> None:
    facts = look(folder)
    assert facts.store.state == "none"
    assert facts.lock is not None
    assert not facts.lock.held
    database, backups = database_of(facts), backups_of(facts)
    assert (database.kind, database.events, database.problems, database.torn) == ("ours", 7, (), 0)
    assert (backups.archives, backups.good, backups.last_sequence, backups.gaps) == (1, 1, 7, ())
    assert backups.sources == ""
    assert codes(facts) == []
    assert facts.clock is not None
    assert facts.clock.forward
    assert set(facts.sizes) == {"STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR"}


def test_without_any_folder_there_is_nothing_and_nothing_is_made(tmp_path: Path) -> None:
    facts = look(tmp_path)
    assert [found.exists for found in facts.folders] == [False, False, False]
    assert (database_of(facts).kind, backups_of(facts), codes(facts)) == ("none", Backups(), [])
    assert list(tmp_path.iterdir()) == []


def test_the_torn_end_of_a_log_is_counted_and_stays(folder: Path) -> None:
    with log_of(folder).open("ab") as log:
        log.write(b"\x01" * 20)
    database = database_of(look(folder))
    assert (database.events, database.torn, database.problems) == (7, 20, ())


def test_a_lost_database_is_named_with_what_there_is_to_recover_it_from(folder: Path) -> None:
    shutil.rmtree(folder / "storage")
    facts = look(folder)
    assert database_of(facts).kind == "none"
    assert (backups_of(facts).sources, backups_of(facts).last_sequence) == ("1 archive and the journal", 7)
    assert backups_of(facts).last_time


def test_a_rest_without_current_is_no_database(folder: Path) -> None:
    (folder / "storage" / data_folders.DATABASE / "CURRENT").unlink()
    assert database_of(look(folder)).kind == "rest"


def test_a_missing_table_is_damage(folder: Path) -> None:
    tables = sorted((folder / "storage" / data_folders.DATABASE).glob("*.ldb"))
    tables[0].unlink()
    assert database_of(look(folder)).problems == (f"table {tables[0].stem} is missing",)


def test_a_log_whose_end_has_changed_lacks_events_that_the_journal_has(folder: Path) -> None:
    flip(log_of(folder), 12)
    facts = look(folder)
    assert (database_of(facts).events, backups_of(facts).last_sequence) == (3, 7)


def test_a_damaged_small_file_is_named_and_not_renamed(folder: Path) -> None:
    names = (data_folders.CLOCK, data_folders.PREVIOUS_DATABASES, data_folders.PROBLEMS)
    for name in names:
        (folder / "storage" / name).write_bytes(b'{\n "checksum": "sha256:' + b"0" * 64 + b'",\n "format": 1\n}\n')
    (folder / "backups" / data_folders.CATALOGUE).write_bytes(b"no JSON")
    facts = look(folder)
    damaged = {Path(str(problem.about)).name for problem in start_of(facts).problems if problem.code == "file_damaged"}
    assert damaged == {*names, data_folders.CATALOGUE}
    assert backups_of(facts).archives == 1


def test_a_staged_restore_and_one_that_is_half_done_are_what_a_start_goes_on_with(folder: Path) -> None:
    with running_service(settings_of(folder)) as service:
        (entry,) = service.list_backups()
        service.restore(entry.name, staged=True)
    assert start_of(look(folder)).staged == entry.name
    (folder / "storage" / data_folders.STAGED_RESTORE).rename(folder / "storage" / data_folders.INTENT)
    assert start_of(look(folder)).finishes == entry.name
    (folder / "storage" / data_folders.STAGED_RESTORE).write_text("{")
    (folder / "storage" / data_folders.INTENT).write_text("{")
    assert sorted(codes(look(folder))) == ["file_damaged", "staged_restore_damaged"]


def test_an_archive_in_restore_is_what_a_start_restores(folder: Path) -> None:
    make_archive(folder / "restore" / "dropped.tar.gz", "elsewhere")
    assert start_of(look(folder)).restores == "dropped.tar.gz"
    assert start_of(look(folder, AUTO_RESTORE_ENABLED="false")).restores is None


def test_the_database_of_another_program_is_recognised(folder: Path) -> None:
    database = folder / "storage" / data_folders.DATABASE
    shutil.rmtree(database)
    make_foreign_database(database)
    assert database_of(look(folder)).kind == "foreign"


def test_the_files_of_the_jobs_are_looked_at_and_stay(folder: Path) -> None:
    assert look(folder, **JOBS).jobs == Jobs()
    jobs_db = folder / "storage" / data_folders.JOBS_DATABASE
    database = JobsDatabase(jobs_db)
    database.open()
    database.write({b"key": b"value"})
    assert jobs_of(gather(LoadedSettings(settings_of(folder, **JOBS)), seconds=60)).is_open
    database.close()
    assert look(folder, **JOBS).jobs == Jobs(exists=True, tables=1)
    (log,) = jobs_db.glob("*.log")
    with log.open("ab") as file:
        file.write(b"\x01" * 20)
    assert jobs_of(look(folder, **JOBS)).torn == 20
    (table,) = jobs_db.glob("*.ldb")
    table.unlink()
    assert jobs_of(look(folder, **JOBS)).problems == (f"table {table.stem} is missing",)
    assert look(folder, JOBS_ENABLED="false").jobs is None


def test_jobs_that_a_start_brings_back_are_named(folder: Path) -> None:
    copy = folder / "backups" / data_folders.JOBS / data_folders.UNFINISHED_JOBS
    world = World()
    unfinished.write(copy, world.database, START)
    assert not jobs_of(look(folder, **JOBS)).returns
    world.submit(request("a"))
    world.turn()
    unfinished.write(copy, world.database, START)
    assert jobs_of(look(folder, **JOBS)).returns
    copy.write_bytes(copy.read_bytes()[:-9])
    assert jobs_of(look(folder, **JOBS)).returns


def test_a_backup_folder_that_is_away_is_no_folder_of_this_installation(folder: Path) -> None:
    shutil.rmtree(folder / "backups")
    facts = look(folder)
    assert codes(facts) == ["backups_changed"]
    assert (database_of(facts).events, backups_of(facts)) == (7, Backups())


def test_an_archive_that_is_gone_is_not_listed_and_the_catalogue_stays(folder: Path) -> None:
    for archive in (folder / "backups").glob("*.tar.gz"):
        archive.unlink()
    assert backups_of(look(folder)).archives == 0


def test_a_damaged_archive_is_a_problem(folder: Path) -> None:
    with running_service(settings_of(folder)) as service:
        (entry,) = service.list_backups()
        flip(Path(entry.path), 400)
        with pytest.raises(Exception, match="damaged"):
            service.verify_backup(entry.name)
    backups = backups_of(look(folder))
    assert [problem.code for problem in backups.problems] == ["backup_damaged"]
    assert (backups.archives, backups.good) == (1, 0)


def test_a_segment_that_is_gone_leaves_a_gap(folder: Path) -> None:
    with running_service(settings_of(folder)) as service:
        service.append(drafts(2, "third"))
        assert service.journal.flush()
        service.append(drafts(2, "fourth"))
        assert service.journal.flush()
    segments = sorted((folder / "backups" / "journal").rglob("segment_*"), key=lambda path: path.name)
    next(path for path in segments if path.name.startswith(f"segment_{8:019d}")).unlink()
    assert backups_of(look(folder)).gaps == ((8, 9),)


PLACES = (
    *("storage/clock.json", "storage/owner.lock", "storage/last_words.txt", "storage/store.sock"),
    *("storage/tokens.json", "backups/.catalogue.json", "backups/.installation.key", "backups/y.tar.gz"),
    "restore/x.tar.gz",
)


@pytest.mark.parametrize("place", PLACES)
def test_a_pipe_in_the_place_of_a_file_is_named_and_not_waited_for(folder: Path, place: str) -> None:
    path = folder / place
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    facts = look(folder)
    odd = [name for found in facts.folders for name in found.odd]
    assert odd == [f"{path} is a pipe"]


@pytest.mark.parametrize("name", ["CURRENT", "000009.log", "LOCK"])
def test_a_pipe_in_the_database_is_not_waited_for(folder: Path, name: str) -> None:
    path = folder / "storage" / data_folders.DATABASE / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    before = everything_in(folder)
    facts = gather(LoadedSettings(settings_of(folder)), seconds=60)
    assert everything_in(folder) == before
    assert facts.unanswered == ()
    assert [f"{path} is a pipe"] == [name for found in facts.folders for name in found.odd]


@pytest.mark.root
def test_a_device_is_named(folder: Path) -> None:
    os.mknod(folder / "restore" / "tape", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    assert [name for found in look(folder).folders for name in found.odd] == [f"{folder}/restore/tape is a device"]


@pytest.mark.root
def test_on_a_disk_that_is_read_only_everything_is_found(folder: Path) -> None:
    with read_only(folder / "storage"), read_only(folder / "backups"):
        facts = look(folder)
    storage = facts.folder("STORAGE_DIR")
    assert storage is not None
    assert storage.file_system is not None
    assert (storage.writable, storage.file_system.read_only) == (False, True)
    assert (database_of(facts).events, backups_of(facts).archives) == (7, 1)


def test_where_there_is_no_temporary_folder_the_events_are_not_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventvault.doctor.database_files.temporary_folder", lambda: folder / "storage")
    database = database_of(look(folder))
    assert (database.events, database.problems) == (None, ())
    assert database.unread


def test_another_program_that_has_the_database_open_is_named(folder: Path) -> None:
    database = folder / "storage" / data_folders.DATABASE
    with plyvel.DB(str(database)):
        found = database_of(gather(LoadedSettings(settings_of(folder)), seconds=60))
    assert found.holder == f"the process {os.getpid()}"


def wait_for_the_others(monkeypatch: pytest.MonkeyPatch, *, hanging: str) -> None:
    """Let the deadline be that of some parts alone: the others may be slow, as the machine may be busy.

    hanging: a regular expression of their names.
    """
    end = module._Parts.end

    def ended(parts: Any, name: str, seconds: float = math.inf) -> Any:
        deadline = parts._deadline
        if not re.fullmatch(hanging, name):
            parts._deadline += 60.0
        try:
            return end(parts, name, seconds)
        finally:
            parts._deadline = deadline

    monkeypatch.setattr(module._Parts, "end", ended)


def test_what_does_not_answer_in_time_is_named_and_the_rest_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()
    monkeypatch.setattr(module, "look_at_backups", lambda settings: end.wait(60))
    wait_for_the_others(monkeypatch, hanging="backups")
    began = time.monotonic()
    facts = gather(LoadedSettings(settings_of(folder)), seconds=0.5)
    end.set()
    assert time.monotonic() - began < 30
    assert (facts.unanswered, facts.backups) == (("backups",), None)
    assert facts.start is not None


def test_another_user_is_refused(folder: Path) -> None:
    def refuse() -> None:
        raise Forbidden("not yours", hint="sudo")

    with pytest.raises(Forbidden):
        gather(LoadedSettings(settings_of(folder)), check_user=refuse)


@pytest.mark.parametrize(
    ("wrong", "is_known"),
    [({"MAX_BACKUPS": "ten"}, True), ({"MAX_BACKUPS": "ten", "PORT": "-"}, True), ({"BACKUP_DIR": "storage"}, False)],
)
def test_a_setting_that_is_not_allowed_does_not_hide_the_rest(
    wrong: dict[str, str], is_known: bool, tmp_path: Path
) -> None:
    settings, problems, _ = load_settings({**folders_beneath(tmp_path), "STORAGE_DIR": "storage", **wrong})
    assert (settings is not None) is is_known
    assert len(problems) == len(wrong)
    assert all(problem.split()[0] in {*wrong, "STORAGE_DIR"} for problem in problems)


def servers_of(disk: Path) -> list[int]:
    """The processes that serve a file system of the tests."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            command = processes.command_line(int(process.name))
            found += [int(process.name)] if "limited_file_system" in command and str(disk) in command else []
    return found


@pytest.mark.root
def test_a_disk_that_hangs_is_named_within_seconds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(module, "HANGING_SECONDS", 1.0)
    wait_for_the_others(monkeypatch, hanging="(?!STORAGE_DIR|RESTORE_DIR|store|lock|database).*")
    (folder / "disk").mkdir()
    try:
        with mount("linkless", folder / "disk") as disk:
            shutil.copytree(folder / "backups", disk / "backups")
            (server,) = servers_of(disk)
            os.kill(server, signal.SIGSTOP)
            try:
                began = time.monotonic()
                found = load_settings({**folders_beneath(folder), "BACKUP_DIR": str(disk / "backups")})
                facts = gather(found, seconds=60)
                took = time.monotonic() - began
            finally:
                os.kill(server, signal.SIGCONT)
    except CannotMount as reason:
        pytest.skip(str(reason))
    assert found.hanging == ("BACKUP_DIR",)
    assert took < 30
    backups = facts.folder("BACKUP_DIR")
    assert backups is not None
    assert backups.problem == "its disk does not answer"
    assert "backups" in facts.unanswered
    assert database_of(facts).events == 7


def test_the_newest_backup_is_that_of_the_latest_restore_whatever_the_clock_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_service(settings_of(tmp_path)) as service:
        service.append(drafts(3, "first"))
        name = service.create_backup().backup.name
        service.append(drafts(4, "replaced"))
        service.create_backup()
        set_clock_back(monkeypatch, days=300)
        service.restore(name)
        service.append(drafts(1, "second"))
        service.create_backup()

    assert look_at_backups(settings_of(tmp_path)).newest_sequence == 4
