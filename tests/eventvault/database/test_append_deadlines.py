"""No append waits without end: what is not begun is taken out of the queue, what is being written gets an answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventvault import clock
from eventvault.database import commit
from eventvault.database.bus import EventBus
from eventvault.database.registry import AppendBatch, EventRegistry, create_database
from eventvault.database.values import AppendResult
from eventvault.errors import EventVaultError, OutcomeUnknown, TooBusy
from eventvault.events import event
from tests.processes import wait_until

pytestmark = pytest.mark.slow

Answers = dict[str, AppendResult | EventVaultError]


def batch(name: str) -> AppendBatch:
    return AppendBatch([event.draft({"type": "t", "id": name}, clock.now())], name[:8].ljust(8).encode())


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what follows take as long as it takes on a busy machine."""
    monkeypatch.setattr(commit, "QUEUE_SECONDS", 60.0)
    monkeypatch.setattr(commit, "ANSWER_SECONDS", 60.0)


def be_hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what waits, or is being written, pass its deadline soon."""
    monkeypatch.setattr(commit, "QUEUE_SECONDS", 0.2)
    monkeypatch.setattr(commit, "ANSWER_SECONDS", 0.4)


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventBus]:
    """A bus whose deadlines come once a test has called `be_hasty`."""
    be_patient(monkeypatch)
    monkeypatch.setattr(commit, "_CHECK_SECONDS", 0.02)
    create_database(tmp_path / "event_registry_db")
    bus = EventBus(tmp_path / "event_registry_db")
    bus.init([])
    yield bus
    bus.close()


class SlowDisk:
    """Holds each write until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()
        real = EventRegistry.append

        def append(registry: EventRegistry, batches: Any) -> Any:
            self.begun.set()
            self.let_go.wait(30)
            return real(registry, batches)

        monkeypatch.setattr(EventRegistry, "append", append)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    slow = SlowDisk(monkeypatch)
    yield slow
    slow.let_go.set()


def submit(bus: EventBus, answers: Answers, *names: str) -> None:
    for name in names:
        bus.committer.submit(batch(name), lambda answer, name=name: answers.__setitem__(name, answer))


def stored(bus: EventBus) -> list[str]:
    with bus.using() as registry:
        return [event.indexed_of(value).id for _, value in registry.events(0, registry.last_sequence)]


def test_what_waits_behind_a_slow_write_is_taken_out_of_the_queue_and_never_lands(
    bus: EventBus, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: Answers = {}
    submit(bus, answers, "written")
    assert disk.begun.wait(30)
    be_hasty(monkeypatch)
    submit(bus, answers, "one", "two", "three")
    wait_until(lambda: len(answers) == 4, "not all have an answer")

    assert all(isinstance(answers[name], TooBusy) for name in ("one", "two", "three"))
    assert isinstance(answers["written"], OutcomeUnknown)
    disk.let_go.set()
    be_patient(monkeypatch)
    assert bus.committer.append(batch("later")).last_sequence == 2
    assert stored(bus) == ["written", "later"]


def test_what_is_answered_as_unknown_is_answered_once(
    bus: EventBus, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[AppendResult | EventVaultError] = []
    bus.committer.submit(batch("written"), answers.append)
    assert disk.begun.wait(30)
    be_hasty(monkeypatch)
    wait_until(lambda: answers, "there is no answer")
    disk.let_go.set()
    be_patient(monkeypatch)
    bus.committer.append(batch("later"))
    assert [type(answer) for answer in answers] == [OutcomeUnknown]


def test_what_waits_for_a_pause_is_taken_out_of_the_queue(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Answers = {}
    be_hasty(monkeypatch)
    with bus.committer.paused():
        submit(bus, answers, "one", "two")
        wait_until(lambda: len(answers) == 2, "not all have an answer")
        with pytest.raises(TooBusy):
            bus.committer.append(batch("three"))
    assert all(isinstance(answer, TooBusy) for answer in answers.values())
    be_patient(monkeypatch)
    bus.committer.append(batch("later"))
    assert stored(bus) == ["later"]


def test_a_write_that_ends_in_time_is_acknowledged(bus: EventBus, disk: SlowDisk) -> None:
    answers: Answers = {}
    submit(bus, answers, "written")
    assert disk.begun.wait(30)
    disk.let_go.set()
    wait_until(lambda: answers, "there is no answer")
    assert isinstance(answers["written"], AppendResult)
    assert stored(bus) == ["written"]
