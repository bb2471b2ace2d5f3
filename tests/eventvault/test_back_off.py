"""Waits grow with failures in a row, up to a bound."""

from __future__ import annotations

from eventvault.back_off import BackOff


def test_each_failure_in_a_row_waits_longer_up_to_the_bound() -> None:
    now = 100.0
    back_off = BackOff(0.0, 1.0, 5.0, monotonic=lambda: now)
    assert back_off.remaining == 0
    assert [back_off.fail() for _ in range(4)] == [0.0, 1.0, 5.0, 5.0]
    assert (back_off.failures, back_off.remaining) == (4, 5.0)
    now += 4
    assert back_off.remaining == 1.0
    now += 4
    assert back_off.remaining == 0
    back_off.fail()
    back_off.succeed()
    assert (back_off.failures, back_off.remaining, back_off.fail()) == (0, 0, 0.0)
