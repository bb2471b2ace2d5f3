"""The quarantine of messages that are no job is bounded, and so is what a flood of them costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eventvault.jobs import keys, quarantine
from eventvault.jobs.queue import QueueLimits
from eventvault.jobs.transport import Position, Submitted
from tests.eventvault.jobs.rig import MemoryDatabase, World


class CountingDatabase(MemoryDatabase):
    """Counts the keys of the quarantine that are read."""

    read = 0

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for key, value in super().scan(start, stop, reverse=reverse):
            self.read += key.startswith(keys.QUARANTINE)
            yield key, value


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("tests.eventvault.jobs.rig.MemoryDatabase", CountingDatabase)
    return World(positions=True, limits=QueueLimits(publishes=True))


def send(world: World, offsets: range, partition: int = 0) -> None:
    """Let messages that are none come in one turn."""
    world.wire.submitted = [Submitted(None, b"{", (), Position("jobs", partition, offset + 1)) for offset in offsets]
    world.turn()


def quarantined(world: World, partition: int = 0) -> list[int]:
    prefix = keys.quarantine_key("jobs", partition, 0)[:-8]
    return [int.from_bytes(key[-8:], "big") for key in world.database.keys_of(prefix)]


@pytest.mark.slow
def test_a_flood_reads_each_message_that_makes_room_once(world: World) -> None:
    assert isinstance(world.database, CountingDatabase)
    send(world, range(1_000))
    for number in range(1, 4):
        before = world.database.read
        send(world, range(1_000 * number, 1_000 * number + 1_000))
        assert world.database.read - before <= 1_001
        assert quarantined(world) == list(range(1_000 * number, 1_000 * number + 1_000))


def test_the_newest_of_a_turn_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "MAX_QUARANTINED", 3)
    send(world, range(10))
    assert quarantined(world) == [7, 8, 9]
    send(world, range(2), partition=1)
    assert (quarantined(world), quarantined(world, 1)) == ([9], [0, 1])


def test_a_message_before_those_that_were_removed_makes_room_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MAX_QUARANTINED", 2)
    send(world, range(5, 9), partition=3)
    send(world, range(1))
    send(world, range(1, 3))
    send(world, range(3, 4))
    assert (quarantined(world), quarantined(world, 3)) == ([2, 3], [])
