from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plyvel
import pytest

from eventvault import clock
from eventvault.database import bus as bus_module
from eventvault.database import registry as registry_module
from eventvault.database.bus import EventBus
from eventvault.database.generation import ROLLED_BACK
from eventvault.database.registry import AppendBatch, EventRegistry, create_database
from eventvault.errors import DatabaseDamaged, EventVaultError, NoSpace, TooBusy, WriteFailed
from eventvault.events import event
from tests import processes


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[EventBus]:
    create_database(tmp_path / "event_registry_db")
    bus = EventBus(tmp_path / "event_registry_db")
    bus.init([])
    yield bus
    bus.close()


def batch(*ids: str) -> AppendBatch:
    return AppendBatch(
        [event.draft({"type": "t", "id": name}, clock.now()) for name in ids], "".join(ids)[:8].ljust(8).encode()
    )


class FailingWrites:
    """Makes the next writes of a registry fail as LevelDB does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.error: Exception = plyvel.IOError("IO error: 000005.log: Input/output error")
        real = EventRegistry.append

        def append(registry: EventRegistry, batches: Any) -> Any:
            if self.left:
                self.left -= 1
                raise self.error
            return real(registry, batches)

        monkeypatch.setattr(registry_module.EventRegistry, "append", append)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> FailingWrites:
    return FailingWrites(monkeypatch)


def test_many_callers_share_one_order_and_each_gets_its_own_answer(bus: EventBus) -> None:
    answers: dict[str, int] = {}

    def post(name: str) -> None:
        answers[name] = bus.committer.append(batch(name)).results[0].sequence

    threads = [threading.Thread(target=post, args=(f"id-{number}",)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers.values()) == list(range(1, 41))
    with bus.using() as registry:
        assert all(registry.find(name) == sequence for name, sequence in answers.items())


def test_after_a_failed_write_the_database_is_opened_again_and_the_append_lands(
    bus: EventBus, failing: FailingWrites
) -> None:
    before = bus.registry
    failing.left = 1

    result = bus.committer.append(batch("a"))

    assert result.results[0].sequence == 1
    assert bus.registry is not before


def test_a_write_that_fails_again_is_not_acknowledged_and_later_ones_are(bus: EventBus, failing: FailingWrites) -> None:
    failing.left = 2
    with pytest.raises(WriteFailed):
        bus.committer.append(batch("a"))

    assert bus.committer.append(batch("b")).results[0].sequence == 1


def test_a_full_disk_is_said_to_be_full(bus: EventBus, failing: FailingWrites) -> None:
    failing.left, failing.error = 2, plyvel.IOError("IO error: 000005.log: No space left on device")

    with pytest.raises(NoSpace):
        bus.committer.append(batch("a"))


def test_a_swap_waits_for_the_users_and_later_users_see_the_new_database(bus: EventBus, tmp_path: Path) -> None:
    other = tmp_path / "other"
    create_database(other)
    entered, leave, swapped = threading.Event(), threading.Event(), threading.Event()

    def read() -> None:
        with bus.using():
            entered.set()
            leave.wait(30)
            assert not swapped.is_set()

    def swap() -> None:
        with bus.swapping(), bus.replacing():
            swapped.set()
            bus.database.rename(tmp_path / "old")
            other.rename(bus.database)

    bus.committer.append(batch("a"))
    reader = threading.Thread(target=read)
    swapper = threading.Thread(target=swap)
    reader.start()
    entered.wait(30)
    swapper.start()
    leave.set()
    swapper.join()
    reader.join()

    with bus.using() as registry:
        assert registry.last_sequence == 0


def test_an_append_during_a_swap_lands_in_the_new_database(bus: EventBus, tmp_path: Path) -> None:
    other = tmp_path / "other"
    create_database(other)
    answered = threading.Event()

    with bus.swapping(), bus.replacing():
        bus.committer.submit(batch("late"), lambda result: answered.set())
        bus.database.rename(tmp_path / "old")
        other.rename(bus.database)

    assert answered.wait(30)
    with bus.using() as registry:
        assert registry.find("late") == 1


def test_a_damaged_log_is_refused_with_what_can_be_done(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    create_database(folder)
    bus = EventBus(folder)
    bus.init([])
    for number in range(50):
        bus.committer.append(batch(f"event-{number}"))
    bus.close()
    log = next(path for path in folder.glob("*.log") if path.stat().st_size)
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)

    damaged = EventBus(folder)
    with pytest.raises(DatabaseDamaged) as raised:
        damaged.init([])

    assert "restore" in raised.value.hint
    assert damaged.registry is None


def test_a_torn_tail_is_opened_with_what_was_whole(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    create_database(folder)
    bus = EventBus(folder)
    bus.init([])
    for number in range(50):
        bus.committer.append(batch(f"event-{number}"))
    bus.close()
    log = next(path for path in folder.glob("*.log") if path.stat().st_size)
    log.write_bytes(log.read_bytes()[:-7])

    bus = EventBus(folder)
    bus.init([])
    try:
        assert bus.registry is not None
        assert bus.registry.last_sequence == 49
    finally:
        bus.close()


def lose_events_at_the_next_opening(bus: EventBus) -> None:
    """What the comparison with archives and journal does if acknowledged events are missing."""

    def check(registry: EventRegistry, _: object) -> None:
        identity, last = registry.identity, registry.last_sequence
        registry.begin_generation(
            identity.forked(at_sequence=last, reason=ROLLED_BACK, instant=clock.now(), previous=None)
        )

    bus.check = check


@pytest.mark.parametrize("with_posts", [False, True])
@pytest.mark.parametrize("partitions", [1, 3])
def test_what_kafka_has_queued_is_not_written_after_events_were_lost(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch, with_posts: bool, partitions: int
) -> None:
    """Its offsets lie behind the messages of the lost events: these would never be read again."""
    bus.committer.append(batch("first"))
    lose_events_at_the_next_opening(bus)
    generation = bus.generations()[-1]
    real, writing, failed = EventRegistry.append, threading.Event(), threading.Event()

    def append(registry: EventRegistry, batches: Any) -> Any:
        if not failed.is_set():
            writing.set()
            assert failed.wait(60)
            raise plyvel.IOError("IO error: 000005.log: Input/output error")
        return real(registry, batches)

    monkeypatch.setattr(EventRegistry, "append", append)
    answers: dict[str, Any] = {}
    answered = threading.Semaphore(0)

    def submit(name: str, of: AppendBatch) -> None:
        def done(answer: object) -> None:
            answers[name] = answer
            answered.release()

        bus.committer.submit(of, done)

    submit("being written", batch("failing"))
    assert writing.wait(60)
    offset = [(b"koffset", b"9")]
    queued = {f"kafka-{number}": batch(f"kafka-{number}") for number in range(partitions)}
    for name, of in queued.items():
        submit(name, AppendBatch(of.drafts, of.nonce, offset, generation))
    if with_posts:
        submit("post", batch("post"))
    failed.set()
    for _ in range(1 + partitions + with_posts):
        assert answered.acquire(timeout=60)

    assert [answers[name].code for name in ("being written", *queued)] == ["write_failed"] * (1 + partitions)
    with bus.using() as registry:
        assert registry.get_value(b"koffset") is None
        assert registry.last_sequence == 1 + with_posts
    present = bus.generations()[-1]
    again = AppendBatch(queued["kafka-0"].drafts, b"12345678", offset, present)
    assert bus.committer.append(again).last_sequence == 2 + with_posts


@pytest.mark.slow
@pytest.mark.parametrize("how", ["swap", "reopen", "reopen_after"])
def test_a_reader_that_does_not_end_keeps_nobody_waiting_without_end(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(bus_module, "USERS_SECONDS", 0.1)
    bus.committer.append(batch("before"))
    replaced: list[int] = []

    def swap() -> None:
        with bus.swapping(), bus.replacing():
            replaced.append(1)

    work = {
        "swap": swap,
        "reopen": bus.reopen,
        "reopen_after": lambda: bus.reopen_after(lambda: replaced.append(1)),
    }[how]
    with bus.using() as registry:
        with pytest.raises(TooBusy, match="reads of the database that are under way"):
            work()
        assert replaced == []
        assert registry.last_sequence == 1
    if how == "reopen":  # its write failed, so nothing may be acknowledged until it is opened anew
        with pytest.raises(EventVaultError):
            bus.committer.append(batch("not yet"))
        bus.init([])
    assert bus.committer.append(batch("after")).results[0].sequence == 2


def test_a_consumer_that_does_not_end_fails_the_swap_and_is_started_again(bus: EventBus) -> None:
    class Hanging:
        running = True

        def start(self) -> None:
            self.running = True

        def stop(self) -> None:
            self.running = False
            raise TooBusy("this waited for the Kafka consumer")

        def accept_loss(self, topic: str, partition: int, cause: str) -> None: ...

    consumer, replaced = Hanging(), list[int]()
    bus._consumers = [consumer]
    with pytest.raises(TooBusy, match="Kafka consumer"), bus.swapping(), bus.replacing():
        replaced.append(1)
    assert (consumer.running, replaced) == (True, [])
    assert bus.committer.append(batch("after")).results[0].sequence == 1


def test_a_committer_that_waits_for_work_is_not_stuck_and_one_that_writes_makes_steps(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    activity = bus.committer._activity
    assert activity is not None
    bus.committer.append(batch("first"))
    processes.wait_until(lambda: activity.stepped is None, "it does not rest")
    release, entered = threading.Event(), threading.Event()
    real = EventRegistry.append

    def slowly(registry: EventRegistry, batches: Any) -> Any:
        entered.set()
        assert release.wait(60)
        return real(registry, batches)

    monkeypatch.setattr(EventRegistry, "append", slowly)
    poster = threading.Thread(target=lambda: bus.committer.append(batch("second")), daemon=True)
    poster.start()
    assert entered.wait(60)
    assert activity.stepped is not None
    assert "writes appends" in activity.describe()
    release.set()
    poster.join(60)
    processes.wait_until(lambda: activity.stepped is None, "it does not rest")
