"""What one thread hands to another one: bounded, in order, and visible to a selector."""

from __future__ import annotations

import select
import threading

from eventvault.kafka.jobs import inbox as module
from eventvault.kafka.jobs.inbox import Inbox


def is_readable(inbox: Inbox) -> bool:
    return bool(select.select([inbox.fileno()], [], [], 0)[0])


def test_each_lane_keeps_its_order_and_its_limit() -> None:
    inbox = Inbox(2)
    inbox.put(0, [1, 2, 3], [1, 1, 1])
    inbox.put(1, ["a"], [1])
    assert inbox.take(0, [2, 0]) == [[1, 2], []]
    assert inbox.take(0, [0, 0]) == [[], []]
    assert inbox.take(0, [9, 9]) == [[3], ["a"]]
    assert inbox.take(0, [9, 9]) == [[], []]


def test_its_descriptor_is_readable_while_it_has_something() -> None:
    inbox = Inbox(1)
    assert not is_readable(inbox)
    inbox.put(0, [1, 2], [1, 1])
    assert is_readable(inbox)
    inbox.take(0, [1])
    assert is_readable(inbox)
    inbox.take(0, [1])
    assert not is_readable(inbox)
    inbox.close()
    inbox.close()


def test_a_full_lane_holds_up_whoever_puts_into_it_and_nobody_else() -> None:
    inbox = Inbox(2)
    inbox.put(0, [0], [module.MOST_BYTES])
    waiting = threading.Thread(target=inbox.put, args=(0, [1], [1]))
    waiting.start()
    inbox.put(1, ["a"], [1])
    assert waiting.is_alive()
    assert inbox.take(0, [9, 9]) == [[0], ["a"]]
    waiting.join(60)
    assert not waiting.is_alive()
    assert inbox.take(10, [9, 9]) == [[1], []]


def test_a_closed_one_holds_up_nobody() -> None:
    inbox = Inbox(1)
    inbox.put(0, [0], [module.MOST_BYTES])
    waiting = threading.Thread(target=inbox.put, args=(0, [1], [1]))
    waiting.start()
    inbox.close()
    waiting.join(60)
    assert not waiting.is_alive()
    inbox.put(0, [2], [1])
    assert inbox.take(0, [9]) == [[]]


def test_a_wait_ends_by_wake_and_by_what_comes() -> None:
    inbox = Inbox(1)
    inbox.wake()
    assert inbox.take(60, [9]) == [[]]
    assert inbox.was_woken
    threading.Timer(0.02, inbox.put, (0, [1], [1])).start()
    assert inbox.take(60, [9]) == [[1]]
    assert not inbox.was_woken
