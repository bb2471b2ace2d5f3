"""A lock that another program holds keeps nobody waiting beyond a deadline."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventvault import file_locks
from eventvault.file_locks import holder_of, holding, is_range_locked, lock_handle, lock_range, open_lock_file
from tests.mounts import read_only

HOLDER = """
import contextlib, fcntl, sys
files = [open(path, "rb") for path in sys.argv[1:]]
for file in files:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another_program(*paths: Path, options: Sequence[str] = ()) -> Iterator[int]:
    """Yield the id of a process that holds an exclusive lock on each file that nobody else has locked."""
    command = [sys.executable, *options, "-c", HOLDER, *map(str, paths)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"locked\n"
        try:
            yield program.pid
        finally:
            program.communicate(timeout=60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "x.lock").touch()
    return tmp_path / "x.lock"


@pytest.mark.slow
@pytest.mark.parametrize("exclusive", [True, False])
def test_a_lock_that_another_program_holds_is_waited_for_until_the_deadline(path: Path, exclusive: bool) -> None:
    with held_by_another_program(path), path.open("rb") as file:
        started = time.monotonic()
        assert not lock_handle(file.fileno(), exclusive=exclusive, seconds=0.3)
        assert time.monotonic() - started >= 0.3
    with path.open("rb") as file:
        assert lock_handle(file.fileno(), exclusive=exclusive, seconds=0)


def test_the_holder_is_named(path: Path) -> None:
    with held_by_another_program(path) as pid, path.open("rb") as file:
        assert holder_of(file.fileno()) in (f"another program (process {pid})", "another program")
    with path.open("rb") as file:
        assert holder_of(file.fileno()) == "another program"


def test_the_service_and_its_chores_are_told_from_another_program(path: Path) -> None:
    with path.open("rb") as file, path.open("rb") as locked:
        if not Path("/proc/locks").read_text(encoding="ascii"):
            pytest.skip("the kernel shows no locks here")
        fcntl.flock(locked, fcntl.LOCK_EX)
        assert holder_of(file.fileno()) == f"this service (process {os.getpid()})"
        fcntl.flock(locked, fcntl.LOCK_UN)
        with held_by_another_program(path, options=["-X", "eventvault.chores"]) as chore:
            assert holder_of(file.fileno()) == f"this service (process {chore})"


@pytest.mark.parametrize("refusal", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_where_there_are_no_locks_nobody_holds_one(path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int) -> None:
    def none(_file: int, _how: int) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(fcntl, "flock", none)
    with path.open("rb") as file:
        assert lock_handle(file.fileno(), exclusive=True, seconds=0)


def test_processes_of_ours_go_one_at_a_time(path: Path) -> None:
    with holding(path, 5) as first, holding(path, 0) as second:
        assert (first, second) == (True, False)
    with holding(path, 0) as again:
        assert again


@pytest.mark.parametrize("kind", ["held", "pipe", "folder", "link", "missing"])
def test_nobody_else_keeps_them_from_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.lock"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(tmp_path / "elsewhere")
        case "held":
            path.touch()
            with held_by_another_program(path), holding(path, 0.1) as first, holding(path, 0) as second:
                assert (first, second) == (True, False)
            return
    with holding(path, 0.1) as first, holding(path, 0) as second:
        assert (first, second) == (True, False)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_the_lock_is_free_once_its_process_is_killed(path: Path) -> None:
    program = "import sys; from eventvault.file_locks import *\nfrom pathlib import Path\n"
    program += "with holding(Path(sys.argv[1]), 5) as locked:\n print(locked, flush=True)\n sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        with holding(path, 0) as locked:
            assert not locked
        other.kill()
    with holding(path, 5) as locked:
        assert locked


def test_a_lock_file_is_made_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    with holding(tmp_path / "new.lock", 0) as locked:
        assert locked
        assert (tmp_path / "new.lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.root
def test_on_a_read_only_disk_a_lock_file_that_is_there_is_locked_and_a_missing_one_names_the_disk(path: Path) -> None:
    with read_only(path.parent):
        handle = open_lock_file(path)
        assert lock_range(handle, 0)
        os.close(handle)
        with pytest.raises(OSError, match="Read-only file system"):
            open_lock_file(path.with_name("missing.lock"))


def test_a_look_waits_for_about_a_second() -> None:
    assert 0.5 <= file_locks.LOCK_SECONDS <= 2


def test_whether_a_lock_file_is_locked_is_found_without_taking_the_lock(path: Path) -> None:
    with path.open("rb") as look, path.open("r+b") as holder:
        assert not is_range_locked(look.fileno())
        assert lock_range(holder.fileno(), 0)
        assert is_range_locked(look.fileno())
        assert not is_range_locked(look.fileno(), offset=1)
    with path.open("rb") as look, path.open("r+b") as other, held_by_another_program(path):
        assert not is_range_locked(look.fileno())  # a `flock` of anybody
        assert lock_range(other.fileno(), 0)
