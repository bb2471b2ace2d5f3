"""From health and backups to a message, across stores. The receivers are a list; real ones are in other tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventvault import clock
from eventvault.errors import NoSpace, NotifyNotConfigured
from eventvault.notifications import conditions, deliveries, notifier
from eventvault.notifications.notifier import Notifier
from eventvault.notifications.receivers import Receivers, Result
from eventvault.settings import Settings
from tests import processes

pytestmark = pytest.mark.slow

PROBLEM = {"code": "backup_damaged", "about": "a", "message": "a is damaged", "hint": "make another"}
ADDRESS = {"NOTIFY_URLS": "json://127.0.0.1/geheim"}


class Case:
    """Health as the test sets it, and what the receivers got."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = settings
        self.messages: list[dict[str, Any]] = []
        self.status: dict[str, Any] = {
            "status": "ok",
            "problems": [],
            "store": {"state": "serving"},
            "backup": {"available": True, "count": 0},
            "disk": {"backups": {"daysLeft": None}, "storage": {}, "same": True},
            "lastRestore": None,
        }
        self.refuses = False
        self.looks = 0
        monkeypatch.setattr(Receivers, "ask", self._ask)
        self.notifier: Notifier | None = None

    def _ask(self, kind: str, addresses: dict[int, str], _: float, **request: Any) -> Any:
        if self.refuses:
            return dict.fromkeys(addresses, Result("503", 0.1))
        self.messages.append(request)
        return dict.fromkeys(addresses, Result(None, 0.1))

    def titles(self) -> list[str]:
        return [message["title"].partition(": ")[2] for message in self.messages]

    def start(self) -> Notifier:
        self.notifier = Notifier(self.settings, self._look)
        self.notifier.start()
        return self.notifier

    def stop(self) -> None:
        if self.notifier is not None and self.notifier._thread is not None:
            self.notifier.stop()
            self.notifier._thread.join(20)
            assert not self.notifier._thread.is_alive()

    def restart(self) -> Notifier:
        self.stop()
        return self.start()

    def _look(self) -> dict[str, Any]:
        self.looks += 1
        return self.status

    def show(self, *problems: dict[str, Any], **more: Any) -> None:
        """Let health show these problems, and wait until it was looked at."""
        self.status = {**self.status, "status": "degraded" if problems else "ok", "problems": problems, **more}
        self.look()

    def look(self) -> None:
        before = self.looks
        assert self.notifier is not None
        self.notifier.check_soon()
        processes.wait_until(lambda: self.looks >= before + 2, "nobody looks")

    def wait_for(self, *titles: str) -> None:
        processes.wait_until(lambda: self.titles() == list(titles), f"not told: {titles}")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "BURST_SECONDS", 0.2)
    monkeypatch.setattr(notifier, "CHECK_SECONDS", 0.02)
    monkeypatch.setattr(conditions, "OVER_SECONDS", 0.1)
    monkeypatch.setattr(deliveries, "RETRY_SECONDS", (0.05,))


@pytest.fixture
def case(settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    settings = settings_with(ADDRESS)
    settings.storage_dir.mkdir()
    one = Case(settings, monkeypatch)
    yield one
    one.stop()


def test_a_failed_backup_is_told_once_and_so_is_the_next_good_one_in_a_later_store(case: Case) -> None:
    first = case.start()
    for _ in range(2):
        first.failed(NoSpace("the disk is full", hint="make room"))
    case.wait_for("backup failed")
    assert case.messages[0]["type"] == "failure"
    assert "the disk is full" in case.messages[0]["body"]

    again = case.restart()
    case.look()
    again.failed(NoSpace("the disk is still full"))
    case.look()
    again.succeeded()
    case.wait_for("backup failed", "backup failed is over")
    again.succeeded()
    case.look()
    assert case.messages[1]["type"] == "success"
    assert len(case.messages) == 2


def test_what_was_noted_before_a_kill_is_told_by_the_next_store(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "BURST_SECONDS", 600)
    case.start()
    case.show(PROBLEM)
    monkeypatch.setattr(notifier, "BURST_SECONDS", 0.2)
    case.restart()
    case.wait_for("backup damaged")


def test_what_no_receiver_took_is_delivered_by_the_next_store(case: Case) -> None:
    case.refuses = True
    first = case.start()
    case.show(PROBLEM)
    processes.wait_until(first.problems, "health does not name the address")
    assert [problem.code for problem in first.problems()] == ["notify_failing"]
    assert first.describe()["waiting"] == 1
    case.refuses = False
    second = case.restart()
    case.wait_for("backup damaged")
    processes.wait_until(lambda: second.describe()["waiting"] == 0, "it waits on")
    assert (second.problems(), second.counts()["delivered"]) == ([], 1)


def test_all_that_happens_within_a_minute_is_one_message(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "BURST_SECONDS", 600)
    case.start().failed(NoSpace("the disk is full"))
    others = [{**PROBLEM, "about": str(number)} for number in range(5)]
    case.show(*others)
    monkeypatch.setattr(notifier, "BURST_SECONDS", 0.2)
    case.wait_for("6 problems")


def test_a_restore_is_told_and_an_old_one_is_not(case: Case) -> None:
    old = {"kind": "backup", "source": "a.tar.gz", "at": "2020-01-31T00:00:00.000Z", "events": 5, "leftBehind": None}
    case.status["lastRestore"] = old
    case.start()
    case.look()
    at = clock.format_milliseconds(clock.now() + 1_000_000)
    case.show(lastRestore={**old, "kind": "undo", "source": "previous-1", "at": at, "leftBehind": {"count": 3}})
    case.wait_for("restored")
    assert "an undo brought back previous-1, 5 events; 3 events were set aside" in case.messages[0]["body"]
    case.restart()
    case.look()
    assert len(case.messages) == 1


def test_a_restore_between_two_stores_is_told_by_the_second(case: Case) -> None:
    case.start()
    case.look()
    case.stop()
    last = {
        "kind": "recovered",
        "source": "a.tar.gz",
        "at": "2020-01-31T00:00:00.000Z",
        "events": 5,
        "leftBehind": None,
    }
    case.status["lastRestore"] = last
    case.start()
    case.wait_for("restored")


@pytest.mark.parametrize("state", ["starting", "restoring", "stopping"])
def test_a_store_that_does_not_know_yet_what_is_wrong_tells_nothing(case: Case, state: str) -> None:
    case.status["store"] = {"state": state}
    case.start()
    case.show(PROBLEM)
    case.show(PROBLEM, store={"state": "serving"}, disk=None)
    assert case.settings.storage_dir.joinpath("notifications.json").exists() is False
    case.show(PROBLEM, store={"state": "failed"}, disk={"backups": None, "storage": None, "same": None})
    case.wait_for("backup damaged")


def test_health_that_fails_ends_nothing(case: Case) -> None:
    good = case.status
    case.start()
    case.status = {}
    case.look()
    case.status = good
    case.show(PROBLEM)
    case.wait_for("backup damaged")


def test_without_addresses_nothing_runs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Case(settings, monkeypatch)
    silent = one.start()
    silent.failed(NoSpace("the disk is full"))
    assert (silent._thread, silent.problems(), silent.describe()) == (None, [], {"addresses": [], "waiting": 0})
    with pytest.raises(NotifyNotConfigured):
        silent.send_test()


def test_no_file_has_a_secret(case: Case) -> None:
    case.refuses = True
    first = case.start()
    case.show(PROBLEM)
    processes.wait_until(first.problems, "health does not name the address")
    texts = [path.read_text() for path in Path(case.settings.storage_dir).rglob("*") if path.is_file()]
    assert texts
    assert not any("geheim" in text for text in texts)
    assert "geheim" not in f"{first.problems()}{first.describe()}"
