"""Each error of the system, at some call of each verb: nothing is lost or marked, and the service goes on by itself.

`make test` tries a few, `make soak` many; the seed is printed. strace makes the k-th call of each thread fail, in the
store and in its children.
"""

from __future__ import annotations

import random
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from eventvault.errors import EventVaultError
from eventvault.settings import Settings
from eventvault.store.rpc.client import StoreClient
from tests import processes
from tests.restoring import drafts, ids
from tests.schedule import series_seed, share
from tests.stores import STORE_COMMAND, running_client, wait_until_gone

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace to make system calls fail"),
]

ERRORS = ("EIO", "EROFS", "EMFILE", "ENOMEM", "ESTALE", "EACCES", "EINTR")
CALLS = (
    "openat", "read", "pread64", "write", "pwrite64", "fsync", "fdatasync", "rename", "link", "unlink", "mkdir",
    "getdents64", "newfstatat", "fallocate", "ftruncate", "fcntl", "copy_file_range", "mmap",
)  # fmt: skip
ANSWERS = {
    "no_space", "too_busy", "disk_failed", "archive_unreadable", "backups_unavailable", "write_failed", "restoring",
    "store_unavailable", "cancelled", "database_locked", "journal_failed", "journal_unreadable", "restore_running",
}  # fmt: skip
"""Codes of answers that mean: try again. A journal that cannot be read makes a moment unavailable for a while, too."""
DAMAGE = {"backup_damaged", "database_damaged", "journal_damaged", "catalogue_damaged", "rolled_back"}
LAST_CALL = 40
PROMISED_SECONDS = 5
"""So soon the service goes on once the fault is gone, on a machine that is not busy: the series print how soon."""
DEADLINE_SECONDS = 60

Verb = Callable[[StoreClient], object]


def a_moment(client: StoreClient) -> object:
    from eventvault.restore.values import Moment

    return client.restore_moment(Moment(sequence=client.status()["store"]["events"]))


VERBS: dict[str, Verb] = {
    "append": lambda client: client.append(drafts(1, f"more-{time.monotonic_ns()}")),
    "create": lambda client: client.create_backup(),
    "verify": lambda client: client.verify_backup(client.list_backups()[0].name),
    "restore": lambda client: client.restore(client.create_backup().backup.name),
    "moment": a_moment,
    "undo": lambda client: client.undo(),
}


REOPENS = "fdatasync:error=EIO:when=1"
"""A write fails, so the database is opened again."""


def faults_of(chosen: random.Random, last: int) -> list[str]:
    """Choose a fault at some call; in half of the cases it is one of a reopening."""
    calls = [call for call in CALLS if call != "fdatasync"]
    fault = f"{chosen.choice(calls)}:error={chosen.choice(ERRORS)}:when={chosen.randrange(1, last)}"
    if chosen.random() < 0.5:
        return [REOPENS, fault]
    return [f"{chosen.choice(CALLS)}:error={chosen.choice(ERRORS)}:when={chosen.randrange(1, last)}"]


@contextmanager
def failing(pid: int, faults: Sequence[str], log: Path) -> Iterator[None]:
    """The faults are injected into the process `pid` and its children while the context lasts."""
    calls = ",".join(fault.split(":")[0] for fault in faults)
    injected = [part for fault in faults for part in ("-e", f"inject={fault}")]
    command = ["strace", "-f", "-q", "-p", str(pid), "-o", str(log), "-e", f"trace={calls}", *injected]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        processes.wait_until(lambda: is_traced(pid) or tracer.poll() is not None, "strace does not attach")
        if tracer.poll() is not None and _exists(pid):
            pytest.skip("strace may not attach to a process here")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            tracer.wait(10)
        tracer.kill()
        tracer.wait()


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def is_traced(pid: int) -> bool:
    with suppress(OSError):
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
    return False


def check(client: StoreClient, acknowledged: set[str], tried: str) -> float:
    """With the fault gone, the service goes on by itself, has everything, and calls nothing damaged.

    Returns the seconds until an event was acknowledged.
    """
    began = time.monotonic()
    deadline = began + DEADLINE_SECONDS
    while True:
        try:
            name = f"check-{time.monotonic_ns()}"
            client.append(drafts(1, name))
            acknowledged.add(f"{name}-0")
            seconds = time.monotonic() - began
            break
        except EventVaultError as error:
            if time.monotonic() > deadline:
                problems = client.status()["problems"]
                raise AssertionError(f"{tried}: the service does not go on: {error}; {problems}") from error
        time.sleep(0.1)
    missing = acknowledged - set(ids(client))
    assert not missing, f"{tried}: lost {sorted(missing)}"
    damage = [problem for problem in client.status()["problems"] if problem["code"] in DAMAGE]
    assert not damage, f"{tried}: {damage}"
    marked = {entry.name: entry.problem for entry in client.list_backups() if entry.problem}
    assert not marked, f"{tried}: {marked}"
    return seconds


def seconds_in_words(seconds: list[float]) -> str:
    if not seconds:
        return "no time was measured"
    late = sum(each > PROMISED_SECONDS for each in seconds)
    return (
        f"back after {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s, {late} of {len(seconds)} later "
        f"than {PROMISED_SECONDS} s"
    )


def answer_of(work: Callable[[], object]) -> str:
    try:
        work()
    except EventVaultError as error:
        return error.code
    return "done"


@pytest.mark.parametrize("rounds", [3, pytest.param(share(600), id="long", marks=pytest.mark.soak)])
def test_each_error_of_the_system_at_some_call_of_each_verb(settings: Settings, tmp_path: Path, rounds: int) -> None:
    chosen, fired = random.Random(series_seed()), 0
    seconds = []
    with running_client(settings) as client:
        client.append(drafts(20))
        acknowledged = set(ids(client))
        first = client.create_backup().backup.name
        client.restore(first)
        log = tmp_path / "strace"
        for number in range(rounds):
            verb = chosen.choice(list(VERBS))
            faults = faults_of(chosen, LAST_CALL)
            tried = f"round {number}, {verb}, {faults}"
            if verb == "undo":  # what it replaces is what was appended since
                client.restore(client.create_backup().backup.name)
            before = set(ids(client))
            with failing(int(client.status()["store"]["pid"]), faults, log):
                answer = answer_of(lambda verb=verb: VERBS[verb](client))  # type: ignore[misc]
            fired += "(INJECTED)" in log.read_text(errors="replace")
            assert answer in ANSWERS | {"done", "moment_unavailable"}, f"{tried}: {answer}"
            seconds.append(check(client, before, tried))
            acknowledged = set(ids(client))
    print(f"{fired} of {rounds} faults fired; {seconds_in_words(seconds)}")
    assert fired or rounds < 20, "no fault fired"
    assert acknowledged


def detach(log: Path) -> None:
    """End the strace that writes `log`: what it traced goes on."""
    tracers = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if command[0] == b"strace" and str(log).encode() in command:
                tracers.append(int(process.name))
    for tracer in tracers:
        processes.kill([tracer], signal.SIGINT)
        wait_until_gone(tracer)


STARTS = """\
if mkdir {once}; then exec strace -I 2 -D -f -q -ttt -o {log} -e trace={call} -e inject={fault} "$@"; fi
exec "$@"
"""


@pytest.mark.parametrize("rounds", [1, pytest.param(share(200), id="long", marks=pytest.mark.soak)])
@pytest.mark.parametrize("recover", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_each_error_of_the_system_at_some_call_of_a_start(
    settings_with: Callable[..., Settings], tmp_path: Path, rounds: int, recover: bool
) -> None:
    settings = settings_with({"AUTO_RECOVER": "true"})
    chosen = random.Random(series_seed())
    with running_client(settings) as client:
        client.append(drafts(20))
        client.create_backup()
        client.append(drafts(5, "journaled"))
        acknowledged = set(ids(client))
    log, seconds = tmp_path / "strace", []
    for number in range(rounds):
        if recover:
            shutil.rmtree(settings.storage_dir)
        call = chosen.choice(CALLS)
        last = 3000 if call in ("openat", "newfstatat", "read") else LAST_CALL  # Python loads its modules first
        fault = f"{call}:error={chosen.choice(ERRORS)}:when={chosen.randrange(1, last)}"
        script = STARTS.format(once=tmp_path / f"once-{number}", log=log, call=call, fault=fault)
        with running_client(settings, ["sh", "-c", script, "sh", *STORE_COMMAND]) as client:
            detach(log)
            check(client, acknowledged, f"round {number}, start, {fault}")
            seconds += seconds_since_the_last_fault(log)
            acknowledged = set(ids(client))
    print(f"{len(seconds)} of {rounds} faults fired; {seconds_in_words(seconds)}")


def seconds_since_the_last_fault(log: Path) -> list[float]:
    """Empty if no fault was injected. Several threads may each have had one."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if "(INJECTED)" in line]
    return [time.time() - max(float(line.split()[1]) for line in lines)] if lines else []
