from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plyvel
import pytest

from eventvault import clock
from eventvault.database import registry as registry_module
from eventvault.database.bus import EventBus
from eventvault.database.registry import AppendBatch, EventRegistry, create_database
from eventvault.errors import DatabaseDamaged, NoSpace, WriteFailed
from eventvault.events import event


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

    def change() -> None:
        swapped.set()
        bus.database.rename(tmp_path / "old")
        other.rename(bus.database)

    bus.committer.append(batch("a"))
    reader = threading.Thread(target=read)
    swapper = threading.Thread(target=bus.swap, args=(change,))
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

    def change() -> None:
        bus.committer.submit(batch("late"), lambda result: answered.set())
        bus.database.rename(tmp_path / "old")
        other.rename(bus.database)

    bus.swap(change)

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
