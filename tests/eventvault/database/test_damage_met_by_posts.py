"""Damage that a post meets: in the look-up of an identity, or because a merge of LevelDB met it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plyvel
import pytest

from eventvault import clock
from eventvault.database import keys
from eventvault.database import registry as registry_module
from eventvault.database.bus import EventBus
from eventvault.database.identities import Identities
from eventvault.database.opening import open_checked
from eventvault.database.registry import AppendBatch, create_database
from eventvault.database.values import AppendResult
from eventvault.errors import DatabaseDamaged, EventVaultError
from eventvault.events import event
from tests.restoring import flip

Answer = AppendResult | EventVaultError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database that merges often."""
    monkeypatch.setattr(registry_module, "WRITE_BUFFER_BYTES", 128 * 1024)
    create_database(tmp_path / "event_registry_db")
    return tmp_path / "event_registry_db"


@pytest.fixture
def bus(folder: Path) -> Iterator[EventBus]:
    bus = EventBus(folder)
    yield bus
    bus.close()


def batch(*names: str) -> AppendBatch:
    """Events whose data does not compress."""
    drafts = [event.draft({"type": "t", "id": name, "data": os.urandom(200).hex()}, clock.now()) for name in names]
    return AppendBatch(drafts, os.urandom(8))


def post(bus: EventBus, names: list[str]) -> list[int]:
    return [appended.sequence for appended in bus.committer.append(batch(*names)).results]


def fill(bus: EventBus, batches: int, prefix: str) -> None:
    for number in range(batches):
        post(bus, [f"{prefix}-{number}-{each}" for each in range(100)])


def opens(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Gets an entry for each opening from now on."""
    counted: list[None] = []

    def counting(*arguments: Any, **options: Any) -> Any:
        counted.append(None)
        return open_checked(*arguments, **options)

    monkeypatch.setattr("eventvault.database.opening.open_checked", counting)
    return counted


def post_until_refused(bus: EventBus) -> EventVaultError:
    for number in range(400):
        try:
            fill(bus, 1, f"more-{number}")
        except EventVaultError as error:
            return error
    raise AssertionError("no merge met the damage")


@pytest.mark.slow
def test_damage_that_a_merge_met_refuses_posts_without_a_reopening_and_reads_go_on(
    folder: Path, bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus.init([])
    fill(bus, 60, "whole")
    bus.close()
    for table in folder.glob("*.ldb"):
        if size := table.stat().st_size:  # a merge that the end interrupts may leave an empty one
            flip(table, size // 3)
    bus = EventBus(folder)
    stopped: list[None] = []
    bus.on_writes_stopped = lambda: stopped.append(None)
    bus.init([])
    counted = opens(bus, monkeypatch)

    refused = post_until_refused(bus)
    again = [post_until_refused(bus) for _ in range(200)]

    assert {type(error) for error in (refused, *again)} == {DatabaseDamaged}
    assert (len(counted), len(stopped)) == (0, 1)
    assert isinstance(bus.problem, DatabaseDamaged)
    with bus.using() as registry:
        last = registry.last_sequence
        assert registry.at(last)
        with pytest.raises(DatabaseDamaged), bus.using():
            list(registry.events(0, last))
    bus.close()


class DamagedAt:
    """An open LevelDB with a damaged block: what a look-up of one key meets."""

    def __init__(self, db: Any, key: bytes) -> None:
        self._db = db
        self._key = key

    def get(self, key: bytes, **options: Any) -> Any:
        if key == self._key:
            raise plyvel.CorruptionError(b"Corruption: block checksum mismatch")
        return self._db.get(key, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


@pytest.mark.parametrize("name", ["victim-1-50", "victim-2-99", "never posted"])
def test_a_look_up_that_meets_damage_fails_alone_and_health_names_it(
    folder: Path, bus: EventBus, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bus.init([])
    fill(bus, 3, "victim")
    registry = bus.registry
    assert registry is not None
    registry._db = DamagedAt(registry._db, keys.identity_key(name, batch(name).drafts[0].source))
    registry._identities = Identities(registry._db)
    counted = opens(bus, monkeypatch)
    before = bus.registry
    answers: dict[str, Answer] = {}
    with bus.committer.paused():
        for each in ("a", name, "b", "c"):
            bus.committer.submit(batch(each), lambda answer, each=each: answers.__setitem__(each, answer))
    bus.committer.append(batch("last"))

    assert {each: type(answer) for each, answer in answers.items()} == {
        "a": AppendResult, name: DatabaseDamaged, "b": AppendResult, "c": AppendResult,
    }  # fmt: skip
    assert (bus.registry, counted) == (before, [])
    assert isinstance(bus.problem, DatabaseDamaged)
    assert post(bus, ["later"]) == [305]
