"""A text that lasts is logged at once, and then at the pace."""

from __future__ import annotations

from eventvault.kafka.log_pace import LogPace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_text_is_due_at_first_and_when_the_time_is_over() -> None:
    clock = Clock()
    pace = LogPace[str](60.0, clock)
    assert [pace.is_due("events", "away"), pace.is_due("events", "away")] == [True, False]
    clock.now = 59.9
    assert not pace.is_due("events", "away")
    clock.now = 60.0
    assert pace.is_due("events", "away")
    clock.now = 119.9
    assert not pace.is_due("events", "away")


def test_another_text_or_another_key_is_due_at_once() -> None:
    pace = LogPace[str](60.0, Clock())
    asked = [("events", "away"), ("events", "full"), ("orders", "full"), ("orders", "full"), ("events", "away")]
    assert [pace.is_due(*each) for each in asked] == [True, True, True, False, True]


def test_a_key_that_a_caller_removes_is_due_again() -> None:
    pace = LogPace[None](60.0, Clock())
    assert pace.is_due(None)
    assert not pace.is_due(None)
    del pace.logged[None]
    assert pace.is_due(None)
