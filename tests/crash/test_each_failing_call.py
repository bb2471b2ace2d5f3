"""Each call of each verb fails once, with each error of the system: nothing is lost or marked, and all goes on.

A run without a fault counts the calls that touch the data folders, of the store and of its chores. `make test` tries a
few of them, chosen by one seed, `make soak` all: SOAK_SHARE=0.15 lets each call fail about once, with an error that the
seed chooses.
"""

from __future__ import annotations

import errno
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from eventvault.restore.values import Moment
from eventvault.settings import Settings, load
from eventvault.store.rpc.client import StoreClient
from tests.crash.test_each_system_error import ANSWERS, ERRORS, answer_of, check
from tests.failing_calls import FailingCalls
from tests.restoring import drafts, ids
from tests.schedule import series_seed, share
from tests.stores import STORE_COMMAND, folders_beneath, running_client

pytestmark = pytest.mark.slow

READY_CHORES = [sys.executable, "-m", "tests.crash.store_with_ready_chores"]
SAMPLE = 2
"""How many calls of each verb `make test` lets fail."""
AT_ONCE = 4
Choose = Callable[[int], Sequence[tuple[int, str]]]
"""Gets the number of calls, and returns which of them are to fail, and by which error."""


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


def in_parts(tmp_path: Path, work: Callable[[Path, Choose], int]) -> None:
    """Do the work for all cases, of several stores at a time, as most of it is a wait. It returns how many fired."""
    number = series_seed()

    def do(part: int) -> int:
        folder = tmp_path / str(part)
        folder.mkdir()

        def choose(count: int) -> list[tuple[int, str]]:
            every = cases(count, number)
            return every[: share(len(every))][part::AT_ONCE]

        return work(folder, choose)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert sum(pool.map(do, range(AT_ONCE)))


def fail_each(client: StoreClient, failing: FailingCalls, name: str, choose: Choose) -> int:
    """Return how many faults fired: a run may have fewer calls than the one that was counted."""
    verb, fired = VERBS[name], 0

    def tried(number: int, call: int = 0, error: int = 0) -> tuple[str, int, str]:
        prepared = verb.prepare(client)
        failing.arm(call, error, first=verb.first)
        answer = answer_of(lambda: verb.do(client, prepared, number))
        return answer, *failing.disarm()

    tried(0)  # what is made once is there now
    answer, count, _ = tried(1)
    assert (answer, count > 0) == ("done", True)
    chosen = choose(count)
    for number, (call, error) in enumerate(chosen, 2):
        before = set(ids(client))
        answer, _, failed = tried(number, call, getattr(errno, error))
        about = f"{name}, call {call} of {count}, {error} at {failed or 'none'}"
        fired += bool(failed)
        assert answer in ANSWERS | {"done", "moment_unavailable"}, f"{about}: {answer}"
        check(client, before, about, is_busy=True)
    print(f"{name}, {count} calls: {fired} of {len(chosen)} faults fired")
    return fired


def test_some_calls_of_each_request_fail(tmp_path: Path) -> None:
    failing, number = failing_in(tmp_path), series_seed(1)
    with running_client(settings_in(tmp_path), failing.command(READY_CHORES)) as client:
        client.append(drafts(20))
        assert sum(fail_each(client, failing, name, lambda count: cases(count, number)[:SAMPLE]) for name in VERBS)


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


@pytest.mark.soak
@pytest.mark.parametrize("name", VERBS)
def test_each_call_of_a_request_fails(tmp_path: Path, name: str) -> None:
    def fail_part(folder: Path, choose: Choose) -> int:
        failing = failing_in(folder)
        with running_client(settings_in(folder), failing.command(READY_CHORES)) as client:
            client.append(drafts(20))
            return fail_each(client, failing, name, choose)

    in_parts(tmp_path, fail_part)


@contextmanager
def started(settings: Settings, failing: FailingCalls, call: int = 0, error: int = 0) -> Iterator[StoreClient]:
    """A client of a store whose start has such a fault; the store that the client starts in its place has none."""
    failing.arm(call, error)
    try:
        with running_client(settings, failing.command(STORE_COMMAND)) as client:
            yield client
    finally:
        failing.disarm()


def fail_starts(folder: Path, choose: Choose, *, recover: bool) -> int:
    """recover: STORAGE_DIR is lost before each start."""
    settings, failing = settings_in(folder, AUTO_RECOVER="true"), failing_in(folder)
    with running_client(settings) as client:
        client.append(drafts(20))
        client.create_backup()
        client.append(drafts(5, "journaled"))
        acknowledged = set(ids(client))

    def lose() -> None:
        if recover:
            shutil.rmtree(settings.storage_dir)

    lose()
    with started(settings, failing) as client:
        count, _ = failing.disarm()
        assert set(ids(client)) == acknowledged
    chosen, fired = choose(count), 0
    for call, error in chosen:
        lose()
        with started(settings, failing, call, getattr(errno, error)) as client:
            _, failed = failing.disarm()
            about = f"{'recovery' if recover else 'start'}, call {call} of {count}, {error} at {failed or 'none'}"
            fired += bool(failed)
            check(client, acknowledged, about, is_busy=True)
            acknowledged = set(ids(client))
    print(f"{count} calls: {fired} of {len(chosen)} faults fired")
    return fired


@pytest.mark.parametrize("recover", [False, True], ids=["start", "recovery"])
def test_a_call_of_a_start_fails(tmp_path: Path, recover: bool) -> None:
    number = series_seed(1)
    fail_starts(tmp_path, lambda count: cases(count, number)[:1], recover=recover)


@pytest.mark.soak
@pytest.mark.parametrize("recover", [False, True], ids=["start", "recovery"])
def test_each_call_of_a_start_fails(tmp_path: Path, recover: bool) -> None:
    in_parts(tmp_path, partial(fail_starts, recover=recover))
