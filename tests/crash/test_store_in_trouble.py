"""What may go wrong inside a store or around it must not stop it for everybody else."""

from __future__ import annotations

import resource
import socket
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import plyvel
import pytest

from app.cli.backup.recover import RecoverCommand
from eventvault.database import opening
from eventvault.database.values import ScanQuery
from eventvault.errors import EventVaultError, ServiceRunning, TooBusy
from eventvault.events.event import EventDraft, draft
from eventvault.past import pool
from eventvault.rpc import frames
from eventvault.settings import Settings
from eventvault.store import lifecycle
from eventvault.store.rpc import wire
from eventvault.store.rpc.client import StoreClient
from eventvault.store.service import StoreService
from tests import processes


def drafts(name: str, count: int = 1) -> list[EventDraft]:
    return [draft({"type": "a", "id": f"{name}-{number}", "source": "/test"}, 0) for number in range(count)]


def test_a_caller_that_does_not_read_its_answer_keeps_nobody_waiting(
    store_client: StoreClient, settings: Settings
) -> None:
    with closing(frames.connect(settings.storage_dir / "store.sock", timeout=60)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        count = 50_000  # its answer is larger than what a socket holds
        frames.send(connection, wire.request("append", drafts("large", count), None, b"nonce---"))
        processes.wait_until(lambda: store_client.status()["store"]["events"] == count, "they are not appended")
        assert store_client.append(drafts("another")).results[0].sequence == count + 1
        slowly = wire.read_reply("append", frames.receive(connection))
        assert [appended.sequence for appended in slowly.results] == list(range(1, count + 1))


def test_an_unforeseen_error_fails_the_append_that_causes_it_and_no_other(
    store_service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = store_service.bus.registry
    assert registry is not None
    append = registry.append

    def failing(batches: Any) -> Any:
        if any(each.id == "bad-0" for batch in batches for each in batch.drafts):
            raise ZeroDivisionError("unforeseen")
        return append(batches)

    monkeypatch.setattr(registry, "append", failing)
    with pytest.raises(EventVaultError, match="the append failed"):
        store_service.append(drafts("bad"))
    assert store_service.append(drafts("good")).results[0].sequence == 1


def test_those_that_were_gathered_with_a_bad_append_are_not_failed(
    store_service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = store_service.bus.registry
    assert registry is not None
    append, answers = registry.append, {}

    def failing(batches: Any) -> Any:
        if any(each.id == "bad-0" for batch in batches for each in batch.drafts):
            raise ZeroDivisionError("unforeseen")
        return append(batches)

    monkeypatch.setattr(registry, "append", failing)
    with store_service.bus.committer.paused():
        for name in ("first", "bad", "last"):
            nonce = name.encode().ljust(8)[:8]
            store_service.event_log.submit(
                drafts(name), nonce, lambda answer, name=name: answers.update({name: answer})
            )
    processes.wait_until(lambda: len(answers) == 3, f"there are {answers}")
    assert isinstance(answers["bad"], EventVaultError)
    assert sorted(answers[name].results[0].sequence for name in ("first", "last")) == [1, 2]


def test_a_caller_whose_answer_cannot_be_delivered_does_not_end_the_committer(store_service: StoreService) -> None:
    def undeliverable(_: object) -> None:
        raise ZeroDivisionError("unforeseen")

    store_service.event_log.submit(drafts("undelivered"), b"nonce---", undeliverable)
    assert store_service.append(drafts("next")).results[0].sequence == 2


def test_a_store_without_free_descriptors_goes_on_when_some_are_free_again(
    store_client: StoreClient, settings: Settings
) -> None:
    store = int(store_client.status()["store"]["pid"])
    with ExitStack() as many:
        resource.prlimit(store, resource.RLIMIT_NOFILE, (64, 64))
        for _ in range(100):
            many.enter_context(closing(frames.connect(settings.storage_dir / "store.sock", timeout=60)))
        assert store_client.append(drafts("on a connection that is there")).results[0].sequence == 1
    assert store_client.append(drafts("afterwards")).results[0].sequence == 2
    assert store_client.status()["store"]["pid"] == store


def test_what_is_no_request_ends_its_connection_only(store_client: StoreClient, settings: Settings) -> None:
    for nonsense in (b"", b"\xff" * 20, wire.request("no-such-method"), wire.request("append", 1, 2, 3)):
        with closing(frames.connect(settings.storage_dir / "store.sock", timeout=60)) as connection:
            frames.send(connection, nonsense)
            assert connection.recv(1) == b""
    assert store_client.append(drafts("after")).results[0].sequence == 1


def test_a_store_leaks_neither_descriptors_nor_threads(store_client: StoreClient, settings: Settings) -> None:
    store = Path("/proc") / str(store_client.status()["store"]["pid"])

    def held() -> tuple[int, int]:
        return len(list((store / "fd").iterdir())), len(list((store / "task").iterdir()))

    def use() -> None:
        for _ in range(5):
            with closing(frames.connect(settings.storage_dir / "store.sock", timeout=60)) as connection:
                frames.send(connection, wire.request("ping"))
                frames.receive(connection)
        store_client.append(drafts("once"))
        store_client.restore(store_client.create_backup().backup.name)

    use()
    use()
    before = held()
    for _ in range(3):
        use()
    processes.wait_until(lambda: held() <= before, f"descriptors and threads grew from {before}")


def test_whoever_opens_while_it_is_being_opened_again_finds_it_open(
    store_service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = store_service.bus
    opens, begun, had_more_than = opening.open_checked, threading.Event(), threading.Event()

    def slowly(folder: Path, **more: Any) -> Any:
        begun.set()
        assert had_more_than.wait(60)
        return opens(folder, **more)

    monkeypatch.setattr(opening, "open_checked", slowly)
    reopening = threading.Thread(target=bus.reopen)
    reopening.start()
    assert begun.wait(60)
    second = threading.Thread(target=bus.init, args=([],))
    second.start()
    had_more_than.set()
    for thread in (reopening, second):
        thread.join()
    assert bus.problem is None
    assert store_service.append(drafts("after")).results[0].sequence == 1


@pytest.mark.parametrize(
    "error", [plyvel.IOError(b"IO error: x: Input/output error"), OSError(5, "x"), TooBusy("x"), ZeroDivisionError()]
)
def test_no_error_of_the_work_of_each_second_ends_it(
    store_service: StoreService, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    rounds: list[int] = []
    after: list[int] = []

    def failing() -> None:
        rounds.append(1)
        raise error

    monkeypatch.setattr(lifecycle, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(store_service.past, "close_idle", failing)
    monkeypatch.setattr(store_service.previous, "drop_unused", lambda: after.append(1))
    processes.wait_until(lambda: len(rounds) > 3, "the ticker ended")
    processes.wait_until(lambda: len(after) > 3, "what comes after the part that fails is not done")


def test_a_copy_that_cannot_be_closed_stops_no_other_from_being_closed(tmp_path: Path) -> None:
    class Bus:
        def __init__(self, error: Exception | None) -> None:
            self.error, self.closed = error, False

        def close(self) -> None:
            self.closed = True
            if self.error is not None:
                raise self.error

    errors = [None, plyvel.IOError(b"IO error"), OSError(5, "x"), None]
    copies = [pool._Copy(Bus(error), tmp_path / str(number), 0.0) for number, error in enumerate(errors)]  # type: ignore[arg-type]
    for copy in copies:
        copy.folder.mkdir()
    with pytest.raises((plyvel.IOError, OSError)):
        pool._close(copies)
    assert all(copy.bus.closed for copy in copies)  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_comes_back_while_its_copy_is_removed_is_served(
    store_service: StoreService, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_service.append(drafts("old", 5))
    made = store_service.create_backup()
    store_service.append(drafts("older", 5))
    generation = store_service.status()["store"]["generation"]
    store_service.restore(made.backup.name)
    query = ScanQuery(generation=generation, after=0, upto=10)
    assert len(store_service.scan(query).events) == 10

    removes, came, removed = pool.remove_durably, [], []

    def remove(path: Path) -> None:
        if not came:
            came.append(path)
            assert len(store_service.scan(query).events) == 10
        removes(path)
        removed.append(path)

    monkeypatch.setattr(pool, "remove_durably", remove)
    monkeypatch.setattr(store_service.past._open[generation], "idle", 0.0)
    store_service.past.close_idle()  # or what the store does each second is faster
    processes.wait_until(lambda: removed, "no copy is removed while it is read again")
    assert [each for each in store_service.settings.storage_dir.glob(".past-*") if any(each.iterdir())]
    assert len(store_service.scan(query).events) == 10


def test_a_store_without_free_descriptors_refuses_instead_of_keeping_its_clients_waiting(
    store_client: StoreClient, settings: Settings
) -> None:
    store = int(store_client.status()["store"]["pid"])
    before = resource.prlimit(store, resource.RLIMIT_NOFILE)
    with ExitStack() as many:
        connections = []
        resource.prlimit(store, resource.RLIMIT_NOFILE, (40, before[1]))
        for _ in range(50):
            connections.append(many.enter_context(closing(frames.connect(settings.storage_dir / "store.sock", 60))))
            frames.send(connections[-1], wire.request("ping"))
        replies = [frames.receive(connection) for connection in connections]
        with pytest.raises(TooBusy, match="no free descriptor"):
            wire.read_reply("ping", replies[-1])
        with closing(StoreClient.over(store_client.spawner)) as another, pytest.raises(TooBusy, match="descriptor"):
            another.append(drafts("refused"))
        assert store_client.append(drafts("on a connection that is there")).results[0].sequence == 1
        resource.prlimit(store, resource.RLIMIT_NOFILE, before)
    assert store_client.append(drafts("afterwards")).results[0].sequence == 2
    assert store_client.status()["store"]["pid"] == store


def test_a_limit_below_the_descriptors_in_use_lets_a_store_refuse_as_well(store_client: StoreClient) -> None:
    """The number of the descriptor that it gives up for that is below any limit that a store can live with."""
    store = int(store_client.status()["store"]["pid"])
    before = resource.prlimit(store, resource.RLIMIT_NOFILE)
    resource.prlimit(store, resource.RLIMIT_NOFILE, (processes.first_free_descriptor(store), before[1]))
    for _ in range(3):
        with closing(StoreClient.over(store_client.spawner)) as another, pytest.raises(TooBusy, match="descriptor"):
            another.append(drafts("refused"))
    resource.prlimit(store, resource.RLIMIT_NOFILE, before)
    assert store_client.append(drafts("afterwards")).results[0].sequence == 1


def test_a_recovery_takes_a_store_that_does_not_answer_for_one_that_runs(settings: Settings) -> None:
    settings.storage_dir.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(settings.storage_dir / "store.sock"))
        listener.listen()
        with pytest.raises(ServiceRunning):
            RecoverCommand(settings).require_sources()


@pytest.mark.parametrize("sent", [b"\x10", b"\x10\0\0\0", b"\x10\0\0\0half"])
def test_a_client_that_stops_in_the_middle_of_a_request_is_not_waited_for(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frames.set_deadline(theirs, 0.05)
        with pytest.raises(frames.NothingYet):
            frames.receive(theirs)
        ours.sendall(sent)
        with pytest.raises(TimeoutError, match=r"middle of a frame|sends nothing"):
            frames.receive(theirs)


def test_a_caller_goes_on_waiting_for_a_store_that_answers_others_and_for_no_other(
    store_client: StoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "EXCHANGE_SECONDS", 0.05)
    asked = []
    hello = store_client.spawner.hello

    def count() -> wire.StoreHello | None:
        asked.append(1)
        return hello() if len(asked) < 5 else None

    monkeypatch.setattr(store_client.spawner, "hello", count)
    ours, theirs = socket.socketpair()
    frames.set_deadline(ours, 0.05)
    with ours, theirs, pytest.raises(frames.NothingYet):
        store_client._receive(ours, None)
    assert len(asked) == 5
