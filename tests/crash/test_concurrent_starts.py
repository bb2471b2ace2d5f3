"""However many want a store at the same moment, there is one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from eventvault.events.event import draft
from eventvault.settings import Settings
from eventvault.store.process.spawn import Spawner
from eventvault.store.rpc.client import StoreClient
from tests import processes
from tests.crash.load import check_history, exported, loading
from tests.service import Service
from tests.stores import STORE_COMMAND, ask_again_while_the_machine_is_busy, wait_until_gone

CLIENTS = 20


def test_twenty_clients_at_once_start_one_store(settings: Settings) -> None:
    clients = [StoreClient(Spawner(settings, STORE_COMMAND, service="together"), patience=90.0) for _ in range(CLIENTS)]
    begin = threading.Barrier(CLIENTS)
    for client in clients:
        ask_again_while_the_machine_is_busy(client)

    def use(number: int) -> tuple[int, int]:
        begin.wait()
        appended = clients[number].append([draft({"type": "a", "id": str(number), "source": "/test"}, 0)])
        return appended.results[0].sequence, clients[number].status()["store"]["pid"]

    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            used = list(pool.map(use, range(CLIENTS)))
        assert sorted(sequence for sequence, _ in used) == list(range(1, CLIENTS + 1))
        assert len({pid for _, pid in used}) == 1
        started = [pid for pid in _children_of_this() if "app.store" in processes.command_line(pid)]
        assert started == [used[0][1]]
    finally:
        for client in clients:
            client.close()
        clients[0].spawner.end("")
        wait_until_gone(used[0][1])


def _children_of_this() -> list[int]:
    """Of any of its threads, which come and go."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it ended meanwhile
                if processes.parent(int(folder.name)) == os.getpid():
                    found.append(int(folder.name))
    return found


def test_two_services_started_at_once_on_one_folder_share_one_store(service: Callable[..., Service]) -> None:
    both = [service(wait=False), service(wait=False)]
    for one in both:
        one.wait_until_ready()
    with (
        loading(both[0].port, writers=2, name="first") as first,
        loading(both[1].port, writers=2, name="second") as second,
    ):
        first.advance(10)
        second.advance(10)

    def stores() -> list[int]:
        return both[0].stores() + both[1].stores()

    processes.wait_until(lambda: len(stores()) == 1, "there is more than one store")
    everything = exported(both[0].port)
    check_history(everything, first.acknowledged | second.acknowledged)
    assert exported(both[1].port) == everything
