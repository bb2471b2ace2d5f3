"""LevelDB looks at no error of `readdir`, and does not read what it does not list. No acknowledged record is lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import plyvel
import pytest

from eventvault.data_folders import OPENING_SUFFIX
from eventvault.database import opening, unread_logs
from eventvault.database.checkpoint import take_checkpoint
from eventvault.database.opening import open_checked
from eventvault.errors import DatabaseDamaged, DatabaseLocked
from eventvault.leveldb.examine import examine_database
from tests.failing_calls import FailingCalls
from tests.schedule import series_seed
from tests.service import PROJECT

OPENER = """
import json, sys
from contextlib import closing
from pathlib import Path
import plyvel
from eventvault.database.opening import open_checked
from eventvault.errors import EventVaultError
for line in sys.stdin:
    try:
        with closing(open_checked(Path(json.loads(line)))) as db:
            db.put(b"later", b"")
        print(json.dumps(""), flush=True)
    except (EventVaultError, OSError, plyvel.Error) as error:
        print(json.dumps(type(error).__name__), flush=True)
"""
"""Opens each database whose path it reads, appends to it, and writes what error it met, "" if none."""
KEYS = [b"%05d" % number for number in range(1500)]


def made_in(folder: Path, logs: int) -> Path:
    """A copy of a database with tables and so many logs that LevelDB has yet to read; its values tell new from old."""
    with closing(plyvel.DB(str(folder / "db"), create_if_missing=True, write_buffer_size=2**16)) as db:
        for value in (b"older", b"newer"):
            for number, key in enumerate(KEYS):
                db.put(key, value + bytes(random.Random(number).randbytes(100)))
                if value == b"newer" and number % 50 == 0:
                    copy = folder / f"copy-{number}"
                    take_checkpoint(folder / "db", copy, contextlib.nullcontext)
                    found = examine_database(copy)
                    if found.tables and [log.records > 0 for log in found.logs] == [True] * logs:
                        return copy
    pytest.skip(f"LevelDB never had {logs} logs")


@pytest.fixture(scope="module", params=[1, 2], ids=["one log", "two logs"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_in(tmp_path_factory.mktemp("made"), request.param)


@pytest.fixture(scope="module")
def content(original: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, bytes]:
    return content_of(Path(shutil.copytree(original, tmp_path_factory.mktemp("whole") / "db")))


def content_of(folder: Path) -> dict[bytes, bytes]:
    with closing(open_checked(folder)) as db:
        found = dict(db)
    return {key: value for key, value in found.items() if key != b"later"}


class Opener:
    """A process whose calls can fail."""

    def __init__(self, failing: FailingCalls) -> None:
        self._command = failing.command([sys.executable, "-c", OPENER])
        self.begin()

    def begin(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self._command, cwd=PROJECT, stdin=pipe, stdout=pipe, text=True)

    def open(self, folder: Path) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(str(folder)) + "\n")
        self.process.stdin.flush()
        return str(json.loads(self.process.stdout.readline()))

    def end(self) -> None:
        self.process.communicate(timeout=20)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def failing(data: Path, tmp_path: Path) -> FailingCalls:
    return FailingCalls(data, tmp_path)


@pytest.fixture
def opener(failing: FailingCalls) -> Iterator[Opener]:
    opener = Opener(failing)
    yield opener
    opener.end()


def calls_of(opener: Opener, failing: FailingCalls, folder: Path) -> int:
    failing.arm()
    assert opener.open(folder) == ""
    return failing.disarm()[0]


@pytest.mark.slow
def test_each_call_of_an_opening_fails_and_no_record_is_lost(
    original: Path, content: dict[bytes, bytes], data: Path, failing: FailingCalls, opener: Opener
) -> None:
    """The database that was opened in spite of the failure was written to, so what it lacks would be lost."""
    chosen = random.Random(series_seed())
    count = calls_of(opener, failing, Path(shutil.copytree(original, data / "counted")))
    seen: set[str] = set()
    for call in range(1, count + 1):
        folder = Path(shutil.copytree(original, data / f"{call}"))
        failing.arm(call, chosen.choice([errno.EIO, errno.ENOMEM, errno.ESTALE]))
        answer = opener.open(folder)
        _, failed = failing.disarm()
        if failed.startswith("fcntl"):  # LevelDB takes what it cannot unlock for open until the process ends
            opener.end()
            opener.begin()
        seen.add(failed.split(" ")[0])
        assert answer != DatabaseDamaged.__name__, failed
        assert content_of(folder) == content, f"call {call}, {failed}: {answer}"
        assert not list(folder.glob(f"*{OPENING_SUFFIX}")), failed
        shutil.rmtree(folder)
    assert {"readdir", "readdir64", "open", "link", "rename"} <= seen


def forget(folder: Path, *names: str) -> Sequence[str]:
    """Do what LevelDB does to logs (default: all) that it does not see: it begins after them, and removes them."""
    logs = names or [log.name for log in examine_database(folder).logs]
    for name in logs:
        (folder / name).rename(folder.with_name(name))
    with closing(plyvel.DB(str(folder))):
        pass
    return logs


WRITER = """
import sys
import plyvel
db = plyvel.DB(sys.argv[1], write_buffer_size=2**16)
print(flush=True)
while True:
    for number in range(1000):
        db.put(b"%05d" % number, bytes(1000))
"""


@contextlib.contextmanager
def written_by_another(folder: Path) -> Iterator[int]:
    """Yield the id of a process that writes much into the database."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            yield writer.pid
        finally:
            writer.kill()


def test_a_process_that_ends_before_it_notices_leaves_what_the_next_one_needs(
    original: Path, content: dict[bytes, bytes], data: Path
) -> None:
    folder = Path(shutil.copytree(original, data / "db"))
    unread_logs.add_second_names(folder, examine_database(folder))
    assert forget(folder)
    assert content_of(folder) == content
    assert content_of(folder) == content


def test_a_second_name_that_is_no_longer_needed_changes_nothing(original: Path, data: Path) -> None:
    """Whoever opened the database without a look at it has read the logs, and has written since."""
    folder = Path(shutil.copytree(original, data / "db"))
    unread_logs.add_second_names(folder, examine_database(folder))
    with closing(plyvel.DB(str(folder))) as db:
        for key in KEYS:
            db.put(key, b"newest")
    assert set(content_of(folder).values()) == {b"newest"}
    assert not list(folder.glob(f"*{OPENING_SUFFIX}"))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EACCES])
def test_without_links_the_logs_are_copied(
    original: Path, content: dict[bytes, bytes], data: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no link")

    monkeypatch.setattr(os, "link", refuse)
    folder = Path(shutil.copytree(original, data / "db"))
    unread_logs.add_second_names(folder, examine_database(folder))
    unread_logs.add_second_names(folder, examine_database(folder))
    assert forget(folder)
    assert content_of(folder) == content
    assert {path.suffix for path in folder.iterdir()} <= {"", ".log", ".ldb", ".old"}


def test_an_empty_log_of_leveldb_refuses_no_database(
    original: Path, content: dict[bytes, bytes], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread_logs, "read_file", lambda path: b"")
    assert content_of(Path(shutil.copytree(original, data / "db"))) == content


def test_an_earlier_log_that_was_not_read_is_put_back_though_a_later_one_was_read(
    original: Path, content: dict[bytes, bytes], data: Path
) -> None:
    folder = Path(shutil.copytree(original, data / "db"))
    unread_logs.add_second_names(folder, examine_database(folder))
    forget(folder, examine_database(folder).logs[0].name)
    assert content_of(folder) == content


def test_a_database_that_another_process_writes_is_left_alone(
    original: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "LOCK_TIMEOUT_SECONDS", 0.3)
    folder = Path(shutil.copytree(original, data / "db"))
    with written_by_another(folder) as process:
        for _ in range(5):
            with pytest.raises(DatabaseLocked, match=f"the process {process};"):
                open_checked(folder)
    assert not list(folder.glob(f"*{OPENING_SUFFIX}"))
