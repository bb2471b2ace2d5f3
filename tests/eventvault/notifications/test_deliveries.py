"""Which message is tried when at which address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from eventvault.notifications.deliveries import FAILING, RETRY_SECONDS, Deliveries
from eventvault.notifications.outbox import NotificationOutbox
from eventvault.notifications.receivers import Receivers, Result
from eventvault.notifications.values import Message

ADDRESSES = ("ntfy://geheim", "json://example.org/geheim")


class ListedReceivers(Receivers):
    """Stands for the child process: takes or refuses what a test says, by the place of the address."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: dict[int, str] = {}
        self.taken: list[tuple[int, str]] = []
        self.asked: list[tuple[int, str]] = []

    def ask(self, kind: str, addresses: Mapping[int, str], seconds: float, **request: Any) -> dict[int, Result]:
        assert all(addresses[place] == ADDRESSES[place] for place in addresses)
        for place in addresses:
            self.asked.append((place, request["title"]))
            if place not in self.refusals:
                self.taken.append((place, request["title"]))
        return {place: Result(self.refusals.get(place), 0.5) for place in addresses}


class Case:
    def __init__(self, folder: Path) -> None:
        self.seconds = 1000.0
        self.receivers = ListedReceivers()
        self.background: list[Callable[[], None]] | None = None
        self.deliveries = Deliveries(
            ADDRESSES, self.receivers, now=lambda: self.seconds, in_background=self._in_background
        )
        self.outbox = NotificationOutbox(folder, self.deliveries.shown)

    def _in_background(self, work: Callable[[], None]) -> None:
        if self.background is None:
            work()
        else:
            self.background.append(work)

    def put(self, title: str) -> None:
        self.outbox.close_burst(lambda _: Message("failure", title, "body", 0, (0, 1)))

    def deliver(self) -> list[tuple[int, str]]:
        """Return what is tried."""
        before = len(self.receivers.asked)
        self.deliveries.deliver(self.outbox)
        return self.receivers.asked[before:]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_a_message_goes_to_every_address_once(case: Case) -> None:
    case.put("one")
    assert case.deliver() == [(0, "one"), (1, "one")]
    assert case.deliver() == []
    assert (case.outbox.messages, case.deliveries.wait_seconds(case.outbox)) == ((), None)
    assert (case.deliveries.counts, case.deliveries.problems()) == ({"delivered": 2, "failed": 0}, [])


def test_an_address_that_fails_is_tried_later_and_later_and_the_others_are_not_bothered(case: Case) -> None:
    case.receivers.refusals = {0: "500"}
    case.put("one")
    case.deliver()
    for rest in (*RETRY_SECONDS, RETRY_SECONDS[-1]):
        assert case.deliveries.wait_seconds(case.outbox) == pytest.approx(rest)
        case.seconds += rest - 0.1
        assert case.deliver() == []
        case.seconds += 0.2
        assert case.deliver() == [(0, "one")]
    assert case.receivers.taken == [(1, "one")]


def test_messages_reach_an_address_in_order(case: Case) -> None:
    case.receivers.refusals = {0: "500"}
    for title in ("one", "two", "three"):
        case.put(title)
    case.deliver()
    case.receivers.refusals = {}
    case.seconds += RETRY_SECONDS[0]
    case.deliver()
    assert [title for place, title in case.receivers.taken if place == 0] == ["one", "two", "three"]
    assert [title for place, title in case.receivers.taken if place == 1] == ["one", "two", "three"]


def test_while_one_address_hangs_the_others_get_the_next_messages(case: Case) -> None:
    case.receivers.refusals = {1: "500"}
    case.put("one")
    case.deliver()
    case.background = []
    case.receivers.refusals = {}
    case.seconds += RETRY_SECONDS[0]
    assert case.deliver() == []
    (hanging,) = case.background
    case.background = None
    case.put("two")
    assert case.deliver() == [(0, "two")], "what hangs is asked nothing more"
    assert case.deliveries.wait_seconds(case.outbox) is None
    hanging()
    assert case.deliver() == [(1, "two")]
    assert case.receivers.taken == [(0, "one"), (0, "two"), (1, "one"), (1, "two")]
    assert case.outbox.messages == ()


def test_a_stop_notes_what_was_delivered_and_counts_no_failure(case: Case) -> None:
    case.background = []
    case.put("one")
    case.deliver()
    assert not case.deliveries.finish(case.outbox)
    case.receivers.stop()
    case.receivers.refusals = {1: "no answer within 30 s"}
    case.background.pop()()
    assert case.deliveries.finish(case.outbox)
    assert [message.waiting for message in case.outbox.messages] == [(1,)]
    assert case.deliveries.counts == {"delivered": 1, "failed": 0}


def test_a_process_that_cannot_be_started_is_tried_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(11, "no more processes")

    with monkeypatch.context() as patch:
        patch.setattr(case.receivers, "ask", fail)
        case.put("one")
        case.deliver()
    assert case.deliver() == [(0, "one"), (1, "one")]


def test_health_names_an_address_that_keeps_failing_until_it_takes_one(case: Case) -> None:
    case.receivers.refusals = {1: "503 Service Unavailable"}
    case.put("one")
    for failures in range(1, FAILING + 1):
        assert case.deliveries.problems() == [], failures
        case.deliver()
        case.seconds += RETRY_SECONDS[-1]
    (problem,) = case.deliveries.problems()
    assert (problem.code, problem.about) == ("notify_failing", "json://example.org/…")
    assert "503 Service Unavailable" in problem.message
    assert "geheim" not in str(problem)
    case.receivers.refusals = {}
    case.deliver()
    assert case.deliveries.problems() == []
    assert case.deliveries.counts == {"delivered": 2, "failed": FAILING}


def test_a_test_message_says_what_became_of_it_at_each_address(case: Case) -> None:
    case.receivers.refusals = {1: "403 Forbidden"}
    taken, refused = case.deliveries.send_to_all(Message("info", "test", "body", 0, (0, 1)))
    assert (taken.address, taken.delivered, taken.seconds, taken.problem) == ("ntfy://…", True, 0.5, None)
    assert (refused.address, refused.delivered, refused.problem) == ("json://example.org/…", False, "403 Forbidden")
