"""The child processes of the store."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import plyvel
import pytest

from eventvault import chores as chores_module
from eventvault.chores import IDLE_NICENESS, NICENESS, Chores, as_event_vault_error, start_process
from eventvault.errors import (
    ArchiveDamaged,
    ArchiveUnsafe,
    Cancelled,
    DiskFailed,
    EventVaultError,
    NoSpace,
    TooBusy,
)
from eventvault.progress import Activity, running
from tests import processes
from tests.service import PROJECT

LEAST_URGENT = 19


@pytest.fixture(autouse=True)
def _as_in_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chore is a Python of its own, as it is in a store process."""
    monkeypatch.setattr("eventvault.chores.start_process", start_process)


class Argument:
    """An argument that calls `look` while it is encoded: the child process has started by then."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def __str__(self) -> str:
        self._look()
        return "/nowhere"


def niceness(pid: int = 0) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


def is_idle_for_disks(pid: int) -> bool:
    """Whether the process reads and writes only while nobody else wants the disk."""
    call = {"x86_64": 252, "aarch64": 31}[os.uname().machine]
    return bool(ctypes.CDLL(None).syscall(call, 1, pid) >> 13 == 3)


@pytest.mark.slow
@pytest.mark.parametrize("less_urgent", [NICENESS, 0, IDLE_NICENESS])
def test_a_chore_is_so_many_steps_less_urgent_than_whoever_began_it(less_urgent: int, tmp_path: Path) -> None:
    found: list[tuple[int, bool]] = []

    def look() -> None:
        (child,) = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
        processes.wait_until(
            lambda: "pipe" in Path(f"/proc/{child}/wchan").read_text(), "it does not wait for its arguments"
        )
        found.append((niceness(int(child)), is_idle_for_disks(int(child))))

    with ThreadPoolExecutor(1) as pool:
        chores = Chores(niceness=less_urgent)
        archive = str(tmp_path / "archive.tar.gz")  # is missing
        begun = pool.submit(chores.run, "check_archive", archive=archive, scratch=str(tmp_path), depth=Argument(look))
        with pytest.raises(EventVaultError):
            begun.result(120)
    assert found == [(min(LEAST_URGENT, niceness() + less_urgent), less_urgent == IDLE_NICENESS)]


def test_a_chore_that_is_cancelled_says_so_and_nothing_more_is_begun() -> None:
    chores = Chores()
    with pytest.raises(Cancelled, match="check_archive was cancelled"):
        chores.run("check_archive", archive=Argument(chores.cancel))
    with pytest.raises(Cancelled):
        chores.run("check_archive", archive=Argument(lambda: pytest.fail("a process was begun")))


def test_an_error_of_a_chore_is_a_full_disk_only_if_the_system_says_so() -> None:
    path = "/mnt/quota exceeded: File too large"
    assert isinstance(as_event_vault_error("it", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)), NoSpace)
    for number in (errno.EIO, errno.EACCES):
        error = as_event_vault_error("it", OSError(number, os.strerror(number), path))
        assert isinstance(error, DiskFailed)


@pytest.mark.parametrize(
    ("chore", "number", "kind"),
    [
        ("check_archive", signal.SIGKILL, TooBusy),
        ("check_archive", signal.SIGTERM, TooBusy),
        ("check_archive", signal.SIGBUS, DiskFailed),
        ("check_archive", signal.SIGSEGV, ArchiveUnsafe),
        ("check_archive", signal.SIGABRT, ArchiveUnsafe),
        ("prepare_restore", signal.SIGILL, ArchiveUnsafe),
        ("check_tables", signal.SIGSEGV, TooBusy),
    ],
)
def test_a_chore_that_dies_is_answered_by_what_ended_it(chore: str, number: int, kind: type[Exception]) -> None:
    """What a process does to itself is the fault of the archive that it reads; what comes from outside is not."""

    def kill() -> None:
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
        os.kill(int(children[-1]), number)

    with pytest.raises(kind) as caught:
        Chores().run(chore, archive="/nowhere/a.tar.gz", depth=Argument(kill))
    assert type(caught.value) is kind
    assert ("a.tar.gz" in str(caught.value)) == (kind is ArchiveUnsafe)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_folder_of_a_chore_is_removed_however_it_ends(number: int, tmp_path: Path) -> None:
    def kill() -> None:
        (folder,) = tmp_path.iterdir()
        (folder / "unpacked").mkdir()
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
        os.kill(int(children[-1]), number)

    with pytest.raises((TooBusy, ArchiveUnsafe)):
        Chores().run("check_archive", archive="/nowhere", scratch=str(tmp_path), depth=Argument(kill))
    assert not list(tmp_path.iterdir())


UNEXPECTED = [KeyError("x"), ValueError("no"), RecursionError("deep"), plyvel.Error(b"odd"), OverflowError("large")]


@pytest.mark.parametrize("error", UNEXPECTED)
def test_any_error_of_a_chore_that_reads_an_archive_is_an_error_of_the_archive(error: Exception) -> None:
    assert type(as_event_vault_error("check_archive", error, "a.tar.gz")) is ArchiveDamaged
    assert "a.tar.gz" in str(as_event_vault_error("check_archive", error, "a.tar.gz"))


def test_an_archive_that_needs_too_much_memory_is_unsafe_and_a_disk_that_fails_is_not_its_fault() -> None:
    assert isinstance(as_event_vault_error("it", MemoryError(), "a.tar.gz"), ArchiveUnsafe)
    assert isinstance(as_event_vault_error("it", MemoryError()), TooBusy)
    for number, kind in ((errno.EIO, DiskFailed), (errno.ENOSPC, NoSpace), (errno.EMFILE, TooBusy)):
        assert isinstance(as_event_vault_error("it", OSError(number, os.strerror(number)), "a.tar.gz"), kind)


MEMORY = """
import resource, sys
from eventvault import chores
chores._limit_memory()
try:
    bytes(2 * resource.getrlimit(resource.RLIMIT_DATA)[0])
except MemoryError:
    import mmap, os, tempfile
    with tempfile.TemporaryFile() as file:
        file.truncate(2 * resource.getrlimit(resource.RLIMIT_DATA)[0])
        mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
    print("limited, and a large file can be mapped")
"""


LOADED = """
import importlib, sys
from eventvault import chores
import app.store.__main__
for module in set(chores.CHORES.values()):
    importlib.import_module(module)
print("marshmallow" in sys.modules)
"""


@pytest.mark.slow
def test_neither_a_store_nor_its_chores_load_what_only_events_of_others_need() -> None:
    """It would take a fifth of the time that a store takes to start, and more of a chore's."""
    command = [sys.executable, "-c", LOADED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=60, check=True)
    assert done.stdout == "False\n"


@pytest.mark.slow
def test_the_memory_of_a_chore_is_limited_and_that_of_mapped_tables_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout == "limited, and a large file can be mapped\n"


@pytest.mark.slow
def test_arguments_that_no_pipe_holds_arrive_at_a_chore_that_reads_them_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores_module, "CHORE_SECONDS", 30.0)
    late = """import sys, time; time.sleep(1); sys.stdout.write('{"result": {"read": %s}}' % len(sys.stdin.read()))"""

    def begin(_name: str, _niceness: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", late], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(chores_module, "start_process", begin)
    assert Chores().run("write_archive", text="x" * 300_000)["read"] > 300_000


@pytest.mark.slow
@pytest.mark.parametrize("state", ["stopped", "asleep"])
def test_a_chore_that_makes_no_step_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str) -> None:
    monkeypatch.setattr(chores_module, "STEP_SECONDS", 0.05)
    monkeypatch.setattr(chores_module, "CHORE_SECONDS", 0.5)
    started: list[subprocess.Popen[bytes]] = []

    def hang(_name: str, _niceness: int) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["sleep", "600"], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        if state == "stopped":
            started[0].send_signal(signal.SIGSTOP)
        return started[0]

    monkeypatch.setattr(chores_module, "start_process", hang)
    with (
        running("create_backup") as activity,
        pytest.raises(DiskFailed, match="write_archive failed: its process made"),
    ):
        Chores().run("write_archive")
    assert activity.doing == f"waits for write_archive, process {started[0].pid}"
    assert started[0].wait(60) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("works", ["while :; do :; done", "while read line < /dev/zero; do :; done & wait"])
def test_a_chore_that_works_is_waited_for_and_makes_steps(monkeypatch: pytest.MonkeyPatch, works: str) -> None:
    monkeypatch.setattr(chores_module, "STEP_SECONDS", 0.05)
    monkeypatch.setattr(chores_module, "CHORE_SECONDS", 5.0)
    chores, started = Chores(), list[subprocess.Popen[bytes]]()

    def begin(_name: str, _niceness: int) -> subprocess.Popen[bytes]:
        command = ["sh", "-c", f"trap 'kill 0' TERM; {works}"]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True))
        return started[0]

    monkeypatch.setattr(chores_module, "start_process", begin)
    activities: list[Activity] = []

    def run() -> None:
        with running("create_backup") as activity, suppress(Cancelled, TooBusy):
            activities.append(activity)
            chores.run("write_archive")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    steps = set[float | None]()
    processes.wait_until(
        lambda: activities and (steps.add(activities[0].stepped) or len(steps) > 4), "it makes no step"
    )
    chores.cancel()
    os.killpg(started[0].pid, signal.SIGKILL)
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.slow
def test_the_work_of_a_process_that_ends_meanwhile_can_be_asked_for() -> None:
    for _ in range(200):
        child = subprocess.Popen(["true"])
        ending = threading.Thread(target=child.wait)
        ending.start()
        while ending.is_alive():
            chores_module.work_of(child.pid)
        ending.join()
        assert chores_module.work_of(child.pid) == ()
