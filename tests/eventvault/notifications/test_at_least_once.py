"""Whatever is killed and whatever fails: each thing is told at least once, and nothing that did not happen is told."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eventvault import small_files
from eventvault.errors import NoSpace
from eventvault.notifications import conditions, deliveries, notifier, outbox
from eventvault.notifications.conditions import Conditions
from eventvault.notifications.notifier import Notifier
from eventvault.notifications.outbox import NotificationOutbox
from eventvault.notifications.receivers import Receivers, Result
from eventvault.settings import load
from tests.stores import folders_beneath

pytestmark = pytest.mark.slow

CODES = ("a_code", "b_code", "c_code")
ADDRESSES = "json://one/x json://two/x"
LINE = re.compile(r"^- (\w+), (since|from) ", re.MULTILINE)

ACTIONS = ("look", "good backup", "bad backup", "receivers", "restart", "kill before a write", "kill after a write")

Step = tuple[set[str], str, int]
"""What health shows, what is done, and at which write or with which receivers."""
STEPS = st.lists(
    st.tuples(st.sets(st.sampled_from(CODES), max_size=2), st.sampled_from(ACTIONS), st.integers(0, 3)), max_size=20
)


class Killed(BaseException):
    """The store ends here."""


class Model:
    """One store after the other over one folder; the loop of the notifier is driven by hand."""

    def __init__(self, folder: Path) -> None:
        self.settings = load({**folders_beneath(folder), "NOTIFY_URLS": ADDRESSES})
        self.settings.storage_dir.mkdir()
        self.shown: set[str] = set()
        self.refuses: set[int] = set()
        self.told: dict[int, list[tuple[str, str]]] = {0: [], 1: []}
        self.seen: set[str] = set()
        """What there was at a look that nothing ended."""
        self.happened = {"backup_failed"}
        self.seconds = 0.0
        self.restart()

    def restart(self) -> None:
        self.notifier = Notifier(self.settings, self._status)
        self.notifier._deliveries._now = lambda: self.seconds
        self.notifier._deliveries._in_background = lambda work: work()
        self.outbox = NotificationOutbox(self.settings.storage_dir, self.notifier._deliveries.shown)
        self.conditions = Conditions(self.outbox.conditions, lambda: self.seconds)

    def look(self) -> None:
        self.seconds += 100.0
        self.happened |= self.shown
        self.notifier._work(self.outbox, self.conditions)
        self.seen |= self.shown

    def ask(self, kind: str, addresses: dict[int, str], _: float, **request: Any) -> dict[int, Result]:
        for place in addresses.keys() - self.refuses:
            self.told[place] += LINE.findall(request["body"])
        return {place: Result("refused" if place in self.refuses else None, 0.0) for place in addresses}

    def began(self, place: int) -> set[str]:
        return {code for code, word in self.told[place] if word == "since"}

    def ended(self, place: int) -> set[str]:
        return {code for code, word in self.told[place] if word == "from"}

    def _status(self) -> dict[str, Any]:
        problems = [{"code": code, "about": None, "message": code, "hint": "", "since": None} for code in self.shown]
        return {
            "status": "degraded" if problems else "ok",
            "problems": problems,
            "store": {"state": "serving"},
            "backup": {"available": True, "count": 0},
            "disk": {"backups": None, "storage": None, "same": None},
            "lastRestore": None,
        }


@contextmanager
def killing(number: int, *, after: bool) -> Iterator[None]:
    """End the store at the write of that number, before it or after it."""
    real, written = small_files.write, 0

    def write(*arguments: Any, **named: Any) -> None:
        nonlocal written
        written += 1
        if written > number and not after:
            raise Killed
        real(*arguments, **named)
        if written > number:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox.small_files, "write", write)
        yield


def take(model: Model, step: Step) -> None:
    model.shown, action, number = step
    match action:
        case "good backup":
            model.notifier.succeeded()
            model.look()
        case "bad backup":
            model.notifier.failed(NoSpace("full", hint=""))
            model.look()
            model.seen.add("backup_failed")
        case "receivers":
            model.refuses = {place for place in (0, 1) if number & 2**place}
        case "restart":
            model.restart()
        case "look":
            model.look()
        case _:
            try:
                with killing(number, after=action == "kill after a write"):
                    model.look()
            except Killed:
                model.restart()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "BURST_SECONDS", 0.0)
    monkeypatch.setattr(conditions, "OVER_SECONDS", 50.0)
    monkeypatch.setattr(deliveries, "RETRY_SECONDS", (50.0,))


def check(steps: list[Step], ask: Callable[[Callable[..., Any]], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = Model(Path(folder))
        ask(model.ask)
        for step in steps:
            take(model, step)
        model.refuses, model.shown = set(), set()
        model.notifier.succeeded()
        for _ in range(4):
            model.look()
        for place in model.told:
            assert model.seen <= model.began(place) <= model.happened
            assert model.ended(place) == model.began(place)
        assert (model.outbox.messages, model.outbox.conditions, model.outbox.burst) == ((), (), None)


@given(steps=STEPS)
@hypothesis_settings(max_examples=40, deadline=None)
def test_each_problem_that_was_seen_is_told_to_everybody_and_so_is_its_end(steps: list[Step]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        check(steps, lambda ask: patch.setattr(Receivers, "ask", ask))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(steps=STEPS)
@hypothesis_settings(max_examples=2000, deadline=None)
def test_so_it_is_in_a_long_series(steps: list[Step]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        check(steps, lambda ask: patch.setattr(Receivers, "ask", ask))
