"""kill -9 at each step of a restore: the next start has the old data or the new, whole, and no leftovers."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import orjson
import pytest

from eventvault.database.values import ScanQuery
from eventvault.events.event import draft
from eventvault.restore.swap.unpublished import RESTORED
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.schedule import series_seed, share
from tests.service import PROJECT
from tests.stores import running_service

RENAMES = "rename,renameat,renameat2"
SYNCS = "fsync,fdatasync"
REMOVALS = "unlink,unlinkat,rmdir"

needs_strace = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace to kill at a system call"),
]


def restoring(settings: Settings, *arguments: str) -> tuple[list[str], dict[str, str]]:
    environment = {**os.environ, **settings.to_environment(), "PYTHONPATH": str(PROJECT)}
    return [sys.executable, str(PROJECT / "tests" / "crash" / "restore_once.py"), *arguments], environment


def killed_at(number: int, calls: str, settings: Settings, *arguments: str) -> bool:
    """Whether the process was killed at its main thread's call of that number; else it came to its end."""
    command, environment = restoring(settings, *arguments)
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:signal=KILL:when={number}"]
    ran = subprocess.run(
        ["strace", "-q", "-o", "/dev/null", *inject, *command], env=environment, capture_output=True, check=False
    )
    if b"ptrace" in ran.stderr.lower():
        pytest.skip("strace may not trace a process here")
    assert ran.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), ran.stderr
    return ran.returncode != 0


def numbers(most: int) -> Iterator[int]:
    """Ascending numbers without end: one of the first four, and the next is larger by 1 to `most`, as chance has it."""
    chance = seeded()
    steps = (chance.randint(1, most) for _ in itertools.repeat(None))
    return itertools.accumulate(steps, initial=chance.randint(1, min(4, most)))


def append(store: StoreService, name: str, count: int) -> None:
    store.append([draft({"type": "a", "id": f"{name}-{number}", "source": "/test"}, 0) for number in range(count)])


def identities(store: StoreService) -> list[str]:
    page = store.scan(ScanQuery(limit=1000))
    events = [orjson.loads(event) for event in page.events]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    return [event["id"] for event in events]


def leftovers(settings: Settings) -> list[str]:
    prefixes = (".restoring-", ".checkpoint-", ".past-", ".event_registry_db", "restore_intent", ".kept")
    folders = (settings.storage_dir, settings.backup_dir, *(settings.backup_dir / "journal").glob("*/"))
    return [
        path.name
        for folder in folders
        for path in folder.iterdir()
        if path.name.startswith(prefixes) or path.name.endswith(".tmp")
    ]


@pytest.fixture
def new(settings: Settings) -> tuple[str, list[str]]:
    """An archive, and what it holds."""
    with running_service(settings) as store:
        append(store, "archived", 20)
        return store.create_backup().backup.name, identities(store)


def check(settings: Settings, old: list[str], new: list[str]) -> bool:
    """Whether the next start has the new data; anything but the old or the new is an error.

    What is left over is looked for once it has ended: meanwhile its own journal is being written.
    """
    with running_service(settings, service_starts=False) as store:
        there = identities(store)
        assert there in (old, new)
    assert leftovers(settings) == []
    return there == new


SERIES = [
    pytest.param(RENAMES, 7, id="renames"),
    pytest.param(SYNCS, 11, id="syncs"),
    pytest.param(RENAMES, 1, id="all renames", marks=pytest.mark.soak),
    pytest.param(SYNCS, 1, id="all syncs", marks=pytest.mark.soak),
    pytest.param(REMOVALS, 1, id="all removals", marks=pytest.mark.soak),
]
"""The calls to be killed at, and the largest step to the next one: with 1, it is every one.

A restore makes four renames and four syncs before it is decided, and after that 8 and 12 at least.
"""


@pytest.mark.parametrize(("calls", "most"), SERIES)
class TestKilled:
    pytestmark = needs_strace

    def test_while_a_request_restores(
        self, settings: Settings, new: tuple[str, list[str]], calls: str, most: int
    ) -> None:
        name, held = new
        outcomes = []
        for number in numbers(most):
            with running_service(settings, service_starts=False) as store:
                append(store, f"since-{number}", 3)
                old = identities(store)
            if not killed_at(number, calls, settings, "api", name):
                break
            outcomes.append(check(settings, old, held))
        assert False in outcomes, "no kill came before the restore was decided"
        assert True in outcomes, "no kill came after the restore was decided"
        assert check(settings, [], held)

    def test_while_a_request_restores_and_another_restore_waits_for_the_next_start(
        self, settings: Settings, new: tuple[str, list[str]], calls: str, most: int
    ) -> None:
        """The next start of the service takes up the one that waits where the request was not done, else never."""
        name, held = new
        with running_service(settings, service_starts=False) as store:
            append(store, "waiting", 1)
            waiting, staged = store.create_backup().backup.name, identities(store)
        outcomes = []
        for number in numbers(most):
            with running_service(settings, service_starts=False) as store:
                append(store, f"since-{number}", 3)
                store.restore(waiting, staged=True)
            if not killed_at(number, calls, settings, "api", name):
                break
            with running_service(settings, service_starts=False) as store:
                done = identities(store) == held
            with running_service(settings) as store:
                assert identities(store) == (held if done else staged)
                assert store.status()["problems"] == []
            assert leftovers(settings) == []
            outcomes.append(done)
        assert set(outcomes) == {False, True}

    def test_while_a_request_undoes(
        self, settings: Settings, new: tuple[str, list[str]], calls: str, most: int
    ) -> None:
        """Old and new take turns: each round undoes what the one before it brought, or tries again."""
        name, held = new
        with running_service(settings, service_starts=False) as store:
            append(store, "mistaken", 4)
            before = identities(store)
            store.restore(name)
        states = [held, before]
        outcomes = []
        for number in numbers(most):
            if not killed_at(number, calls, settings, "undo"):
                break
            swapped = check(settings, *states)
            outcomes.append(swapped)
            if swapped:
                states.reverse()
        assert set(outcomes) == {False, True}
        assert check(settings, [], states[1])

    def test_while_a_start_restores_what_lies_in_restore(
        self, settings: Settings, new: tuple[str, list[str]], calls: str, most: int
    ) -> None:
        """Nobody else starts in between, as the next start of a service would restore too."""
        name, held = new
        with running_service(settings, service_starts=False) as store:
            append(store, "since", 3)
        inbox = settings.restore_dir / name
        shutil.copy(settings.backup_dir / name, inbox)
        fired = 0
        for number in numbers(most):
            if not killed_at(number, calls, settings, "start"):
                break
            fired += 1
        assert fired
        assert not inbox.exists()
        assert (settings.restore_dir / "restored" / name).exists()
        assert check(settings, [], held)
        with running_service(settings) as store:
            append(store, "later", 1)
        with running_service(settings) as store:
            assert identities(store) == [*held, "later-0"], "it was applied again"


@pytest.mark.parametrize(
    "rounds", [pytest.param(3, id="short"), pytest.param(share(60), id="long", marks=pytest.mark.soak)]
)
def test_killed_at_any_instant(settings: Settings, new: tuple[str, list[str]], rounds: int) -> None:
    name, held = new
    command, environment = restoring(settings, "api", name)
    killer = Killer(command, environment)
    for number in killer.rounds(rounds):
        with running_service(settings, service_starts=False) as store:
            append(store, f"since-{number}", 3)
            old = identities(store)
        killer.run()
        check(settings, old, held)


@pytest.mark.parametrize(
    "rounds", [pytest.param(3, id="short"), pytest.param(share(180), id="long", marks=pytest.mark.soak)]
)
def test_a_restore_to_a_moment_killed_at_any_instant(
    settings_with: Callable[..., Settings], new: tuple[str, list[str]], rounds: int
) -> None:
    """Across an archive and the journal, whose segments are whole after each kill. Each restore is announced once."""
    settings = settings_with({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "KAFKA_PUBLISH_TOPIC": "published"})
    with running_service(settings, service_starts=False) as store:
        append(store, "journaled", 10)
    command, environment = restoring(settings, "moment", "25")
    killer = Killer(command, environment)
    for number in killer.rounds(rounds):
        with running_service(settings, service_starts=False) as store:
            append(store, f"since-{number}", 3)
            old = identities(store)
        killer.run()
        check(settings, old, old[:25])
        check_announcements(settings)
        with running_service(settings, service_starts=False) as store:
            assert store.journal.flush(10, survey=True)
            assert store.journal.folder.segments()[1] == []
            assert store.timeline()["gaps"] == []


def check_announcements(settings: Settings) -> None:
    """Nothing is published here, so what waits has one announcement for each generation that a restore began."""
    with running_service(settings, service_starts=False) as store, store.bus.using() as registry:
        waiting = [orjson.loads(body) for _, body in registry.outbox.messages()]
        began = [each.id for each in registry.identity.generations if each.parent is not None]
        assert [each["id"] for each in waiting if each["type"] == RESTORED] == began


@pytest.mark.parametrize(
    "rounds", [pytest.param(3, id="short"), pytest.param(share(60), id="long", marks=pytest.mark.soak)]
)
def test_an_undo_killed_at_any_instant(settings: Settings, new: tuple[str, list[str]], rounds: int) -> None:
    name, states = new[0], [new[1]]
    command, environment = restoring(settings, "undo")
    with running_service(settings, service_starts=False) as store:
        append(store, "mistaken", 4)
        states = [new[1], identities(store)]
        store.restore(name)
    killer = Killer(command, environment)
    states.reverse()
    for number in killer.rounds(rounds):
        with running_service(settings, service_starts=False) as store:
            append(store, f"since-{number}", 3)
            states[0] = identities(store)
        killer.run()
        if check(settings, *states):
            states.reverse()


def seeded() -> random.Random:
    return random.Random(series_seed())


class Killer:
    """Kills a command at a random instant of its run. The first run is not killed: it tells how long one takes.

    A busy machine makes that run longer than the next ones. So a run that ends before its instant tells it anew, and
    the rounds go on until some were killed.
    """

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._random = seeded()
        self._command = command
        self._environment = environment
        self._killed = 0
        began = time.monotonic()
        subprocess.run(command, env=environment, check=True)
        self._seconds = time.monotonic() - began

    def rounds(self, count: int) -> Iterator[int]:
        """Count the rounds: `count` of them, and more until one in five was killed."""
        for number in range(10 * count):
            if number >= count and self._killed >= count / 5:
                return
            yield number
        raise AssertionError(f"only {self._killed} of {10 * count} processes were killed on their way")

    def run(self) -> None:
        began = time.monotonic()
        process = subprocess.Popen(self._command, env=self._environment)
        try:
            process.wait(self._random.uniform(self._seconds / 3, self._seconds))
            self._seconds = time.monotonic() - began
        except subprocess.TimeoutExpired:
            process.kill()
            self._killed += 1
        process.wait()
