"""What a message says."""

from __future__ import annotations

from eventvault.notifications.messages import MOST_SHOWN, compose, trial_message
from eventvault.notifications.values import Change, Condition, Message

AT = 1_700_000_000_000_000
FAILED = Change("began", "backup_failed", "the disk is full", "make room", AT - 5_000_000, AT)
OVER = Change("ended", "backup_failed", "the disk is full", "", AT - 5_000_000, AT)
DAMAGED = Change("began", "backup_damaged", "a.tar.gz is damaged", "make a new one", AT, AT)
RESTORED = Change("restored", "restore", "restored from a.tar.gz, 5 events", "", AT, AT)


def made(*changes: Change, health: str = "degraded") -> Message:
    over = {change.code for change in changes if change.kind == "ended"}
    began = [change for change in changes if change.kind == "began" and change.code not in over]
    known = [Condition(change.code, str(place), change.text, change.hint, AT) for place, change in enumerate(began)]
    return compose(changes, known, health=health, host="db1", at=AT, addresses=2)


def test_a_problem_is_in_the_title_and_says_what_to_do() -> None:
    message = made(FAILED)
    assert (message.kind, message.title, message.waiting) == ("failure", "EventVault on db1: backup failed", (0, 1))
    assert message.body.splitlines() == [
        "Problems:",
        "- backup_failed, since 2023-11-14T22:13:15.000Z: the disk is full",
        "  → make room",
        "",
        "Health is degraded. Open problems: 1 (backup_failed). GET /api/health shows them.",
    ]


def test_its_end_says_how_long_it_lasted() -> None:
    message = made(OVER, health="ok")
    assert (message.kind, message.title) == ("success", "EventVault on db1: backup failed is over")
    assert message.body.splitlines() == [
        "Over:",
        "- backup_failed, from 2023-11-14T22:13:15.000Z to 2023-11-14T22:13:20.000Z: the disk is full",
        "",
        "Health is ok. No problem is open.",
    ]


def test_a_restore_is_news_and_no_problem() -> None:
    message = made(RESTORED, health="ok")
    assert (message.kind, message.title) == ("info", "EventVault on db1: restored")
    assert "- restored from a.tar.gz, 5 events (2023-11-14T22:13:20.000Z)" in message.body


def test_a_burst_is_one_message_with_all_of_it() -> None:
    message = made(FAILED, DAMAGED, RESTORED)
    assert message.title == "EventVault on db1: 2 problems, restored"
    assert message.body.index("backup_failed") < message.body.index("backup_damaged") < message.body.index("Restored:")


def test_what_came_and_went_within_the_burst_is_over() -> None:
    message = made(FAILED, OVER, health="ok")
    assert (message.kind, message.title) == ("success", "EventVault on db1: backup failed is over")
    assert "Problems:" in message.body


def test_no_message_is_longer_than_can_be_read() -> None:
    many = [Change("began", f"code_{number}", "wrong", "mend it", AT, AT) for number in range(500)]
    body = made(*many).body.splitlines()
    assert f"- and {500 - MOST_SHOWN} more" in body
    assert len(body) < 3 * MOST_SHOWN


def test_a_test_says_that_it_is_one() -> None:
    message = trial_message("db1", AT, 1)
    assert (message.title, message.waiting) == ("EventVault on db1: test", (0,))
    assert "Nothing is wrong" in message.body
