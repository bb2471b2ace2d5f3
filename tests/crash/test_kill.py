"""kill -9 and SIGSTOP of each process of the service, while it is busy and while it is idle."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from eventvault.store.rpc.server import LINGER_SECONDS
from tests import processes
from tests.crash.load import LOST, check_history, exported, loading
from tests.schedule import series_seed
from tests.service import Service

SHORT_AND_LONG = [pytest.param(2, id="short"), pytest.param(25, id="long", marks=pytest.mark.soak)]


@pytest.fixture
def seeded() -> random.Random:
    return random.Random(series_seed())


@pytest.fixture(scope="module")
def idle(module_service: Callable[..., Service]) -> Service:
    """A service of one worker whose stores are killed, one after another."""
    return module_service(workers=1)


def the_store(running: Service) -> int:
    """The store that answers."""
    return int(running.get("/api/health").json()["store"]["pid"])


def another_store_than(old: int, running: Service, seconds: float = 60) -> None:
    """Wait for it without sending a request."""
    processes.wait_until(
        lambda: old not in running.stores() and running.stores(), f"no store took the place of {old}", seconds
    )


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def is_stopped(pid: int) -> bool:
    """Whether all of its threads stand still; the signal takes a moment to reach them."""
    return set(processes.states(pid)) == {"T"}


def full_house(running: Service, workers: int, without: set[int]) -> None:
    def complete() -> bool:
        there = running.workers()
        return len(there) == workers and not without & set(there)

    processes.wait_until(complete, f"the workers are {running.workers()}", 60)


@pytest.mark.parametrize("rounds", SHORT_AND_LONG)
def test_no_client_notices_that_the_store_is_killed(
    service: Callable[..., Service], seeded: random.Random, rounds: int
) -> None:
    running = service()
    killed = set()
    with loading(running.port) as load:
        for _ in range(rounds):
            processes.wait_until(lambda: the_store(running) not in killed, "no other store answers")
            store = the_store(running)
            os.kill(store, signal.SIGKILL)
            killed.add(store)
            load.advance(seeded.randrange(1, 30))
    assert not load.troubles
    check_history(exported(running.port), load.acknowledged)


@pytest.mark.parametrize("rounds", SHORT_AND_LONG)
def test_a_killed_worker_costs_its_connections_and_nothing_else(
    service: Callable[..., Service], seeded: random.Random, rounds: int
) -> None:
    running = service(workers=3)
    store = the_store(running)
    killed = set()
    with loading(running.port, writers=6) as load:
        for _ in range(rounds):
            worker = seeded.choice(running.workers())
            os.kill(worker, signal.SIGKILL)
            killed.add(worker)
            full_house(running, 3, killed)
            load.advance(seeded.randrange(1, 20))
    assert len(killed) == rounds
    assert set(load.troubles) <= {LOST}, "a worker that holds no connection at that moment costs nothing at all"
    assert the_store(running) == store
    check_history(exported(running.port), load.acknowledged)


def test_a_store_waits_for_workers_that_a_busy_machine_starts_late(service: Callable[..., Service]) -> None:
    """A master that is stopped starts none."""
    running = service(workers=2)
    store, workers = the_store(running), running.workers()
    running.process.send_signal(signal.SIGSTOP)
    try:
        processes.wait_until(lambda: is_stopped(running.process.pid), "the master goes on")
        processes.kill(workers)
        time.sleep(LINGER_SECONDS + 2)  # there is nothing to wait for: the store goes on as before
        assert running.stores() == [store]
    finally:
        running.process.send_signal(signal.SIGCONT)
    full_house(running, 2, set(workers))
    running.wait_until_ready()
    assert the_store(running) == store


@pytest.mark.parametrize("rounds", [pytest.param(1, id="short"), pytest.param(20, id="long", marks=pytest.mark.soak)])
def test_everything_ends_with_a_master_that_is_killed_and_the_next_start_is_whole(
    service: Callable[..., Service], rounds: int
) -> None:
    acknowledged: dict[str, int] = {}
    running = service()
    for number in range(rounds):
        with loading(running.port, name=f"round{number}") as load:
            running.process.kill()
            running.process.wait()
            processes.wait_until(lambda: not running.processes(), "the orphans live on")  # noqa: B023
        acknowledged |= load.acknowledged
        assert is_free(running.port)
        running = service()
    check_history(exported(running.port), acknowledged)


@pytest.mark.parametrize("rounds", [pytest.param(1, id="short"), pytest.param(6, id="long", marks=pytest.mark.soak)])
def test_a_store_that_hangs_is_replaced_and_nothing_is_lost_or_doubled(
    service: Callable[..., Service], rounds: int
) -> None:
    running = service()
    with loading(running.port) as load:
        for _ in range(rounds):
            store = the_store(running)
            os.kill(store, signal.SIGSTOP)
            load.advance()
            assert store not in running.stores()
    assert not load.troubles
    check_history(exported(running.port), load.acknowledged)


def test_health_does_not_wait_for_a_store_that_hangs(idle: Service) -> None:
    store = the_store(idle)
    os.kill(store, signal.SIGSTOP)
    processes.wait_until(lambda: is_stopped(store), "the store goes on")
    processes.wait_until(  # an answer of half a second ago still counts
        lambda: idle.get("/api/health", again=False).json()["store"]["state"] == "unreachable",
        "health does not name the store",
    )
    another_store_than(store, idle)


def test_an_idle_service_gets_another_store_by_itself(idle: Service) -> None:
    idle.wait_until_ready()
    for _ in range(2):
        (store,) = idle.stores()
        os.kill(store, signal.SIGKILL)
        another_store_than(store, idle)


def test_whoever_is_born_again_leaves_alone_what_lies_in_restore(
    service: Callable[..., Service], settings_environment: dict[str, str]
) -> None:
    running = service()
    running.post("/api/events", {"type": "early", "id": "early"})
    archive = Path(running.post("/api/backup/create", {}).json()["backupPath"])
    running.post("/api/events", {"type": "late", "id": "late"})
    dropped = Path(settings_environment["RESTORE_DIR"]) / archive.name
    shutil.copy(archive, dropped)

    store, workers = the_store(running), running.workers()
    processes.kill([store, workers[0]])
    another_store_than(store, running)
    full_house(running, 2, {workers[0]})
    running.wait_until_ready()
    assert running.get("/api/events/late").status == 200

    store, workers = the_store(running), running.workers()
    processes.kill([store])
    running.process.send_signal(signal.SIGHUP)
    full_house(running, 2, set(workers))
    running.wait_until_ready()
    assert running.get("/api/events/late").status == 200
    assert running.get("/api/health").json()["lastRestore"] is None
    assert dropped.exists()

    running.stop()
    again = service()
    processes.wait_until(lambda: not dropped.exists(), "the archive is not taken at the next start of the service", 60)
    again.wait_until_ready()
    assert again.get("/api/events/late").status == 404
    assert again.get("/api/events/early").status == 200
