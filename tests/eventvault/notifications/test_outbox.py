"""The outbox: what is noted is told at least once, also by the next store."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventvault import data_folders, small_files
from eventvault.notifications import outbox as outboxes
from eventvault.notifications.outbox import KEEP_MICROSECONDS, MOST_MESSAGES, NotificationOutbox
from eventvault.notifications.values import Change, Condition, Message

ADDRESSES = ("ntfy://…", "mailto://…@example.org")
CHANGE = Change("began", "backup_failed", "the disk is full", "make room", 5, 5)
CONDITION = Condition("backup_failed", "", "the disk is full", "make room", 5)


def message(number: int = 1, waiting: tuple[int, ...] = (0, 1), created: int = 0) -> Message:
    return Message("failure", f"title {number}", "body", created, waiting)


@pytest.fixture
def outbox(tmp_path: Path) -> NotificationOutbox:
    return NotificationOutbox(tmp_path, ADDRESSES)


def again(tmp_path: Path, addresses: tuple[str, ...] = ADDRESSES) -> NotificationOutbox:
    return NotificationOutbox(tmp_path, addresses)


def put(outbox: NotificationOutbox, *messages: Message) -> None:
    for one in messages:
        outbox.add([CHANGE], (CONDITION,), "", 7)
        outbox.close_burst(lambda _changes, one=one: one)  # type: ignore[misc]


def test_a_change_is_there_after_a_restart_and_begins_a_burst(outbox: NotificationOutbox, tmp_path: Path) -> None:
    assert (outbox.burst, outbox.restored) == (None, None)
    outbox.add([CHANGE], (CONDITION,), "2026-01-31T00:00:00.000Z", 7)
    outbox.add([CHANGE], (CONDITION,), "2026-01-31T00:00:00.000Z", 9)
    found = again(tmp_path)
    assert (found.burst, found.conditions, found.restored) == (7, (CONDITION,), "2026-01-31T00:00:00.000Z")
    found.close_burst(lambda changes: message(len(changes)))
    assert again(tmp_path).messages == (message(2),)
    assert again(tmp_path).burst is None


def test_a_message_is_gone_once_every_address_has_it(outbox: NotificationOutbox, tmp_path: Path) -> None:
    put(outbox, message(1), message(2))
    first, second = outbox.messages
    outbox.delivered(first, [1])
    assert again(tmp_path).messages == (message(1, (0,)), message(2))
    outbox.delivered(outbox.messages[0], [0])
    assert again(tmp_path).messages == (second,)


def test_where_the_addresses_changed_every_one_gets_what_waits(outbox: NotificationOutbox, tmp_path: Path) -> None:
    put(outbox, message(1, (1,)))
    assert again(tmp_path, ("json://x",)).messages == (message(1, (0,)),)


def test_what_cannot_be_delivered_is_dropped_after_days_and_counted(outbox: NotificationOutbox) -> None:
    put(outbox, message(1, created=0), message(2, created=KEEP_MICROSECONDS))
    outbox.drop_old(KEEP_MICROSECONDS + 1)
    assert ([each.title for each in outbox.messages], outbox.dropped) == (["title 2"], 1)


@pytest.mark.slow
def test_it_does_not_grow_without_end(outbox: NotificationOutbox) -> None:
    put(outbox, *(message(number) for number in range(MOST_MESSAGES + 5)))
    assert (len(outbox.messages), outbox.dropped, outbox.messages[0].title) == (MOST_MESSAGES, 5, "title 5")


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 100, b'{"format": 9}'])
def test_a_damaged_file_is_renamed_and_the_outbox_goes_on(tmp_path: Path, content: bytes) -> None:
    (tmp_path / data_folders.NOTIFICATIONS).write_bytes(content)
    found = again(tmp_path)
    assert (found.messages, found.problem) == ((), None)
    put(found, message())
    assert again(tmp_path).messages == (message(),)
    assert small_files.quarantined(tmp_path / data_folders.NOTIFICATIONS)


def test_a_disk_that_refuses_is_named_and_loses_nothing_while_the_store_lives(
    outbox: NotificationOutbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(outboxes.data_folders, "NOTIFICATIONS", "missing/notifications.json")
        lost = NotificationOutbox(tmp_path, ADDRESSES)
    put(lost, message())
    assert lost.messages == (message(),)
    assert lost.problem is not None
    assert "missing" in lost.problem


def refuse(*_: object, **__: object) -> None:
    raise OSError(5, "Input/output error")


def test_a_file_that_cannot_be_read_now_is_not_replaced(
    outbox: NotificationOutbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(outbox, message(1))
    with monkeypatch.context() as patch:
        patch.setattr(small_files, "read_or_quarantine", refuse)
        found = again(tmp_path)
        put(found, message(2))
        assert "Input/output error" in (found.problem or "")
    assert again(tmp_path).messages == (message(1),)
    put(found, message(3))
    assert found.problem is None
    assert again(tmp_path).messages == (message(1), message(2), message(3))
