"""The child processes of the store."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eventvault.chores import NICENESS, Chores, as_event_vault_error, start_process
from eventvault.errors import ArchiveError, Cancelled, DiskFailed, NoSpace, TooBusy

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


@pytest.mark.parametrize("less_urgent", [NICENESS, 0])
def test_a_chore_is_so_many_steps_less_urgent_than_whoever_began_it(less_urgent: int, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar.gz"
    os.mkfifo(archive)
    begun: list[int] = []

    def look() -> None:
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
        begun.append(int(children[-1]))

    with ThreadPoolExecutor(1) as pool:
        chores = Chores(niceness=less_urgent)
        said = pool.submit(chores.run, "check_archive", archive=str(archive), scratch=Argument(look), depth="members")
        with archive.open("wb"):  # opening succeeds once the chore reads
            seen = niceness(begun[0])
        with pytest.raises(ArchiveError):
            said.result(60)
    assert seen == min(LEAST_URGENT, niceness() + less_urgent)


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
    ("number", "kind"), [(signal.SIGKILL, TooBusy), (signal.SIGBUS, DiskFailed), (signal.SIGSEGV, TooBusy)]
)
def test_a_chore_that_dies_is_answered_so_that_it_is_tried_again(number: int, kind: type[Exception]) -> None:
    def kill() -> None:
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
        os.kill(int(children[-1]), number)

    with pytest.raises(kind) as caught:
        Chores().run("check_archive", archive=Argument(kill))
    assert type(caught.value) is kind
