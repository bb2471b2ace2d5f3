"""Each call of each verb fails once, with each error of the system: nothing is lost or marked, and all goes on.

A run without a fault counts the calls that touch the data folders, of the store and of its chores. `make test` tries a
few of them, chosen by one seed, `make soak` all: SOAK_SHARE=0.15 lets each call fail once, with an error that the seed
chooses. Both print how long the service took to acknowledge an event again: 5 s are promised. In a start they are
counted from the call that failed.
"""

from __future__ import annotations

import errno
import itertools
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from eventvault import data_folders
from eventvault.restore.values import Moment
from eventvault.settings import Settings, load
from eventvault.store.rpc.client import StoreClient
from tests import processes
from tests.crash.test_each_system_error import ANSWERS, ERRORS, PROMISED_SECONDS, answer_of, check, seconds_in_words
from tests.failing_calls import FailingCalls
from tests.restoring import drafts, ids
from tests.schedule import series_seed, share
from tests.stores import READY_CHORES, STORE_COMMAND, folders_beneath, running_client

pytestmark = pytest.mark.slow

SAMPLE = 2
"""How many calls of each verb `make test` lets fail."""
AT_ONCE = 4


@dataclass(frozen=True)
class Verb:
    """prepare: what the verb needs; it returns the name of an archive. do: gets that name, and any number.

    first: as for `FailingCalls.arm`.
    """

    prepare: Callable[[StoreClient], str]
    do: Callable[[StoreClient, str, int], object]
    first: str = ""


def nothing(_client: StoreClient) -> str:
    return ""


def backup(client: StoreClient) -> str:
    return client.create_backup().backup.name


def newest(client: StoreClient) -> str:
    entries = client.list_backups()
    return entries[0].name if entries else backup(client)


def restored(client: StoreClient) -> str:
    client.restore(backup(client))
    return ""


def append(client: StoreClient, _name: str, number: int) -> object:
    return client.append(drafts(1, f"tried-{number}"))


VERBS = {
    "append": Verb(nothing, append),
    "reopening": Verb(nothing, append, first="fdatasync"),
    "create": Verb(nothing, lambda client, _name, _number: client.create_backup()),
    "verify": Verb(newest, lambda client, name, _number: client.verify_backup(name)),
    "restore": Verb(backup, lambda client, name, _number: client.restore(name)),
    "moment": Verb(
        nothing,
        lambda client, _name, _number: client.restore_moment(Moment(sequence=client.status()["store"]["events"])),
    ),
    "undo": Verb(restored, lambda client, _name, _number: client.undo()),
}


def settings_in(folder: Path, **more: str) -> Settings:
    return load({**folders_beneath(folder / "data"), "MAX_BACKUPS": "5", **more})


def failing_in(folder: Path) -> FailingCalls:
    return FailingCalls(folder / "data", folder)


def cases(count: int, number: int) -> list[tuple[int, str]]:
    """Return each call with each error, in an order of chance. Every call comes once before one of them comes again."""
    chosen = random.Random(number)
    begin = chosen.randrange(len(ERRORS))
    return [
        (call, ERRORS[(begin + call + turn) % len(ERRORS)])
        for turn in range(len(ERRORS))
        for call in chosen.sample(range(1, count + 1), count)
    ]


@dataclass(frozen=True)
class Failure:
    """call: the one that failed, "" if the run had fewer calls. seconds: until an event was acknowledged again."""

    call: str
    seconds: float


@dataclass(frozen=True)
class Target:
    """Work whose calls can fail, one in each run. count: its calls without a fault. fail: gets a call and an error."""

    name: str
    count: int
    fail: Callable[[int, str], Failure]


def fail_each(target: Target, chosen: Sequence[tuple[int, str]]) -> int:
    """Return how many faults fired: a run may have fewer calls than the one that was counted."""
    failures: list[Failure] = []
    for call, error in chosen:
        failure = target.fail(call, error)
        if not failure.call:
            continue
        failures.append(failure)
        if failure.seconds > PROMISED_SECONDS:
            print(f"{target.name}, call {call}, {error} at {failure.call}: back after {failure.seconds:.1f} s")
    seconds = seconds_in_words([failure.seconds for failure in failures])
    print(f"{target.name}, {target.count} calls: {len(failures)} of {len(chosen)} faults fired; {seconds}")
    return len(failures)


def in_parts(tmp_path: Path, target_in: Callable[[Path], AbstractContextManager[Target]]) -> None:
    """Try all cases, with several stores at a time, as most of it is a wait. The runs differ in how many calls they
    have, so the most that one of them had are tried."""
    number = series_seed()
    folders = [tmp_path / str(part) for part in range(AT_ONCE)]
    with ExitStack() as stack, ThreadPoolExecutor(AT_ONCE) as pool:
        targets = [stack.enter_context(target_in(folder)) for folder in folders]
        count = max(target.count for target in targets)
        every = cases(count, number)
        chosen = every[: share(len(every))]
        parts = [pool.submit(fail_each, target, chosen[part::AT_ONCE]) for part, target in enumerate(targets)]
        if errors := [error for part in parts if isinstance(error := part.exception(), Exception)]:
            raise ExceptionGroup(f"SEED={number}", errors)
    fired = sum(part.result() for part in parts)
    print(f"{fired} of {len(chosen)} faults fired, of {len(every)}")
    assert fired or len(chosen) < count, "each call was to fail once, and none did"


def request(client: StoreClient, failing: FailingCalls, name: str) -> Target:
    verb, numbers = VERBS[name], itertools.count()

    def tried(call: int = 0, error: int = 0) -> tuple[str, int, str]:
        prepared = verb.prepare(client)
        failing.arm(call, error, first=verb.first)
        answer = answer_of(lambda: verb.do(client, prepared, next(numbers)))
        return answer, *failing.disarm()

    def fail(call: int, error: str) -> Failure:
        before = set(ids(client))
        answer, _, failed = tried(call, getattr(errno, error))
        about = f"{name}, call {call} of {count}, {error} at {failed or 'none'}"
        assert answer in ANSWERS | {"done", "moment_unavailable"}, f"{about}: {answer}"
        return Failure(failed, check(client, before, about))

    tried()  # what is made once is there now
    answer, count, _ = tried()
    assert (answer, count > 0) == ("done", True)
    return Target(name, count, fail)


@contextmanager
def request_in(folder: Path, name: str) -> Iterator[Target]:
    folder.mkdir()
    failing = failing_in(folder)
    with running_client(settings_in(folder), failing.command(READY_CHORES)) as client:
        client.append(drafts(20))
        yield request(client, failing, name)
        processes.wait_until(lambda: not client.status()["problems"], "health names a fault that is gone")


def test_some_calls_of_each_request_fail(tmp_path: Path) -> None:
    failing, number = failing_in(tmp_path), series_seed(1)
    with running_client(settings_in(tmp_path), failing.command(READY_CHORES)) as client:
        client.append(drafts(20))
        targets = [request(client, failing, name) for name in VERBS]
        assert sum(fail_each(target, cases(target.count, number)[:SAMPLE]) for target in targets)


def test_a_store_that_cannot_unlock_its_database_gives_way_to_another(tmp_path: Path) -> None:
    """LevelDB takes the database for open from then on, in this process."""
    settings, failing = settings_in(tmp_path), failing_in(tmp_path)
    with running_client(settings, failing.command(READY_CHORES)) as client:
        client.append(drafts(20))
        name, before, store = backup(client), set(ids(client)), client.status()["store"]["pid"]
        failing.arm(first=f"fcntl of {settings.database}/LOCK")
        answer = answer_of(lambda: client.restore(name))
        failing.disarm()
        assert answer in ANSWERS | {"done"}
        check(client, before, "unlock")
        assert client.status()["store"]["pid"] != store


@pytest.mark.parametrize("call", ["stat64", "fstat64"])
def test_a_store_that_cannot_look_at_its_lock_file_goes_on(tmp_path: Path, call: str) -> None:
    """It owns the database still. What it works on would be broken off, if it ended."""
    settings, failing = settings_in(tmp_path), failing_in(tmp_path)
    with running_client(settings, failing.command(READY_CHORES)) as client:
        client.append(drafts(20))
        store = client.status()["store"]["pid"]
        for _ in range(2):  # the second look comes from a store that has survived the first one
            failing.arm(first=f"{call} of {settings.storage_dir / data_folders.OWNER_LOCK}")
            processes.wait_until(lambda: failing.has_first_failed, "the store does not look at its lock file")
            failing.disarm()
        check(client, set(ids(client)), call)
        assert client.status()["store"]["pid"] == store


@pytest.mark.soak
@pytest.mark.parametrize("name", VERBS)
def test_each_call_of_a_request_fails(tmp_path: Path, name: str) -> None:
    in_parts(tmp_path, partial(request_in, name=name))


@contextmanager
def started(settings: Settings, failing: FailingCalls, call: int = 0, error: int = 0) -> Iterator[StoreClient]:
    """A client of a store whose start has such a fault; the store that the client starts in its place has none."""
    failing.arm(call, error)
    try:
        with running_client(settings, failing.command(STORE_COMMAND)) as client:
            yield client
    finally:
        failing.disarm()


@contextmanager
def start_in(folder: Path, *, recover: bool) -> Iterator[Target]:
    """recover: STORAGE_DIR is lost before each start."""
    folder.mkdir(exist_ok=True)
    settings, failing = settings_in(folder, AUTO_RECOVER="true"), failing_in(folder)
    name = "recovery" if recover else "start"
    with running_client(settings) as client:
        client.append(drafts(20))
        client.create_backup()
        client.append(drafts(5, "journaled"))
        acknowledged = set(ids(client))

    def lose() -> None:
        if recover:
            shutil.rmtree(settings.storage_dir)

    def fail(call: int, error: str) -> Failure:
        lose()
        with started(settings, failing, call, getattr(errno, error)) as client:
            _, failed = failing.disarm()
            check(client, acknowledged, f"{name}, call {call} of {count}, {error} at {failed or 'none'}")
            seconds = failing.seconds_since_failure()
            acknowledged.update(ids(client))
        return Failure(failed, seconds)

    lose()
    began = time.monotonic()
    with started(settings, failing) as client:
        count, _ = failing.disarm()
        check(client, acknowledged, name)
        print(f"without a fault a {name} takes {time.monotonic() - began:.2f} s")
        acknowledged.update(ids(client))
    yield Target(name, count, fail)


@pytest.mark.parametrize("recover", [False, True], ids=["start", "recovery"])
def test_a_call_of_a_start_fails(tmp_path: Path, recover: bool) -> None:
    number = series_seed(1)
    with start_in(tmp_path, recover=recover) as target:
        fail_each(target, cases(target.count, number)[:1])


@pytest.mark.soak
@pytest.mark.parametrize("recover", [False, True], ids=["start", "recovery"])
def test_each_call_of_a_start_fails(tmp_path: Path, recover: bool) -> None:
    in_parts(tmp_path, partial(start_in, recover=recover))
