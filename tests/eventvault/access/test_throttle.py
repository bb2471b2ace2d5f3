"""Ten wrong tokens a minute block an address for a minute, then for two, four and five."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from eventvault.access import throttle
from eventvault.access.throttle import Throttle, address_group

SECOND = 1_000_000_000
ADDRESS = "198.51.100.4"


class Clock:
    def __init__(self) -> None:
        self.now = 5_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> Throttle:
    return Throttle(clock)


def fill(gate: Throttle, address: str = ADDRESS) -> None:
    """Use up the ten wrong tokens of a minute."""
    assert [gate.note_wrong(address) for _ in range(10)] == [0] * 10


def test_ten_wrong_tokens_are_free_and_the_next_one_has_to_wait(gate: Throttle) -> None:
    fill(gate)
    assert gate.note_wrong(ADDRESS) == 60


def test_ten_wrong_tokens_over_more_than_a_minute_block_nobody(gate: Throttle, clock: Clock) -> None:
    for _ in range(100):
        assert gate.note_wrong(ADDRESS) == 0
        clock.wait(6.7)


def test_any_minute_counts_not_only_the_one_since_the_first_wrong_token(gate: Throttle, clock: Clock) -> None:
    assert gate.note_wrong(ADDRESS) == 0
    clock.wait(59)
    assert [gate.note_wrong(ADDRESS) for _ in range(8)] == [0] * 8
    clock.wait(2)
    assert [gate.note_wrong(ADDRESS) for _ in range(3)] == [0, 0, 60]


def test_the_seconds_to_wait_are_rounded_up(gate: Throttle, clock: Clock) -> None:
    fill(gate)
    clock.wait(59.99)
    assert gate.note_wrong(ADDRESS) == 1
    clock.wait(0.01)
    assert gate.note_wrong(ADDRESS) == 0


def test_each_further_block_is_twice_as_long_up_to_five_minutes(gate: Throttle, clock: Clock) -> None:
    lengths = []
    for _ in range(5):
        fill(gate)
        lengths.append(gate.note_wrong(ADDRESS))
        clock.wait(lengths[-1])
    assert lengths == [60, 120, 240, 300, 300]


def test_trying_during_a_block_does_not_prolong_it(gate: Throttle, clock: Clock) -> None:
    fill(gate)
    for seconds in range(60, 0, -1):
        assert gate.note_wrong(ADDRESS) == seconds
        clock.wait(1)
    fill(gate)


def test_ten_minutes_after_a_block_the_next_one_is_a_first_one(gate: Throttle, clock: Clock) -> None:
    fill(gate)
    clock.wait(60 + 599)
    fill(gate)
    assert gate.note_wrong(ADDRESS) == 120
    clock.wait(120 + 600)
    fill(gate)
    assert gate.note_wrong(ADDRESS) == 60


def test_another_address_is_not_concerned(gate: Throttle) -> None:
    fill(gate)
    assert gate.note_wrong("198.51.100.5") == 0


def test_the_addresses_of_an_ipv6_network_are_one(gate: Throttle) -> None:
    for host in range(10):
        assert gate.note_wrong(f"2001:db8:1:2::{host:x}") == 0
    assert gate.note_wrong("2001:db8:1:2:ffff:ffff:ffff:ffff") == 60
    assert gate.note_wrong("2001:db8:1:3::1") == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("198.51.100.4", "::ffff:198.51.100.4", True),
        ("198.51.100.4", "198.51.100.4:80", True),
        ("", "no address", True),
        ("198.51.100.4", "", False),
        ("198.51.100.4", "198.51.100.40", False),
    ],
)
def test_an_address_is_one_however_it_is_written(one: str, other: str, *, same: bool) -> None:
    assert (address_group(one) == address_group(other)) is same


@pytest.mark.slow
def test_ten_thousand_wrong_tokens_a_second_take_no_memory_from_one_address_and_from_many(clock: Clock) -> None:
    gate = Throttle(clock, sets=16)
    fill(gate)
    tracemalloc.start()
    try:
        for number in range(1_000):
            clock.wait(0.0001)
            assert gate.note_wrong(ADDRESS)
            gate.note_wrong(f"10.{number >> 8 & 255}.{number & 255}.1")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 20_000
    assert gate.note_wrong(ADDRESS) == 60, "those who try once do not push out one that is blocked"


def test_of_many_addresses_that_share_their_slots_one_that_is_blocked_stays(clock: Clock) -> None:
    gate = Throttle(clock, sets=1)
    fill(gate)
    for number in range(1000):
        clock.wait(0.001)
        assert gate.note_wrong(f"10.0.{number >> 8}.{number & 255}") == 0
    assert gate.note_wrong(ADDRESS) == 59


@pytest.mark.slow
def test_all_processes_count_together(gate: Throttle) -> None:
    for _ in range(10):
        child = os.fork()
        if child == 0:
            os._exit(gate.note_wrong(ADDRESS))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert gate.note_wrong(ADDRESS) == 60


def test_a_slot_that_two_processes_wrote_at_once_counts_as_empty(gate: Throttle) -> None:
    fill(gate)
    for place in range(0, len(gate._memory), throttle._SLOT.size):
        gate._memory[place + 8] ^= 1
    fill(gate)
