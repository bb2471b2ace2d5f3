"""A bit flips anywhere in the live database: after six restarts with posts and merges, every event that is read is
right, or the damage is named; nothing is dropped without a word. The same of the outbox and the quarantine."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from eventvault import clock
from eventvault.database import registry as registry_module
from eventvault.database.generation import NO_BOUND
from eventvault.errors import DatabaseDamaged, EventVaultError
from eventvault.events import event
from eventvault.events.event import EventDraft
from eventvault.settings import load
from eventvault.store.service import StoreService
from tests.quarantine import ids_of, letter, take_letters
from tests.restoring import problem_codes
from tests.schedule import series_seed, share
from tests.stores import folders_beneath, running_service

NAMES = {"database_damaged", "rolled_back"}
"""The codes of problems that name damage of the database."""
RESTARTS = 6
PUBLISHES = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "KAFKA_PUBLISH_TOPIC": "published"}
LETTERS = 5


@pytest.fixture(autouse=True)
def merging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "WRITE_BUFFER_BYTES", 64 * 1024)


class Named(Exception):
    """The damage is named, so the run ends."""


class Run:
    """One installation with a flipped bit. stored: the events as they were acknowledged, by sequence."""

    def __init__(self, folder: Path) -> None:
        self.settings = load({**folders_beneath(folder), "JOURNAL_INTERVAL": "20", **PUBLISHES})
        self.stored: dict[int, bytes] = {}

    @contextmanager
    def service(self) -> Iterator[StoreService]:
        with running_service(self.settings) as service:
            if service.state != "serving":
                assert set(problem_codes(service)) & NAMES, service.status()["problems"]
                raise Named
            yield service

    def post(self, service: StoreService, batches: int) -> None:
        for _ in range(batches):
            drafts = _drafts()
            try:
                results = service.append(drafts).results
            except DatabaseDamaged as error:
                assert set(problem_codes(service)) & NAMES
                raise Named from error
            with service.bus.using() as registry:
                self.stored |= {result.sequence: registry.at(result.sequence) for result in results}

    def check(self, service: StoreService) -> None:
        """Read all events, and look some of them up by their identity. Nothing wrong is read, named or not."""
        named = set(problem_codes(service)) & NAMES
        try:
            with service.bus.using() as registry:
                read = dict(registry.events(0, NO_BOUND))
                wrong = [sequence for sequence, value in read.items() if self.stored.get(sequence, value) != value]
                found = {name: registry.find(name) for name in map(_id_of, random.sample([*read.values()], 40))}
                unpublished = list(registry.outbox.pending(0, NO_BOUND - 1))
            letters = len(ids_of(service))
        except DatabaseDamaged as error:
            assert set(problem_codes(service)) & NAMES
            raise Named from error
        assert wrong == []
        if named:
            raise Named
        assert read.keys() == self.stored.keys()
        assert unpublished == sorted(self.stored)
        assert letters == LETTERS
        assert all(_id_of(read[sequence]) == name for name, sequence in found.items())
        stored = [event.draft(orjson.loads(value), clock.now()) for value in list(read.values())[:: len(read) // 5]]
        try:
            assert all(result.duplicate for result in service.append(stored).results)
        except EventVaultError as error:
            assert set(problem_codes(service)) & NAMES
            raise Named from error


def _drafts() -> list[EventDraft]:
    events = [{"type": "t", "id": os.urandom(8).hex(), "data": os.urandom(100).hex()} for _ in range(60)]
    return [event.draft(each, clock.now()) for each in events]


def _id_of(value: bytes) -> str:
    name: str = orjson.loads(value)["id"]
    return name


@pytest.fixture(params=[True, False], ids=["with an archive", "without an archive"])
def template(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """An installation that was stopped in order, with tables of several levels and a log."""
    run = Run(tmp_path / "template")
    with run.service() as service:
        take_letters(service, *map(letter, range(LETTERS)))
        run.post(service, 20)
        if request.param:
            service.create_backup()
        run.post(service, 5)
    return run


def flip_a_bit(database: Path, chance: random.Random) -> tuple[str, int]:
    """Each kind of file is as likely, and so is each byte of it."""
    files = [path for path in database.iterdir() if path.suffix in (".ldb", ".log") or path.name.startswith("MANIFEST")]
    kind = chance.choice(sorted({path.suffix for path in files if path.stat().st_size}))
    path = chance.choice(sorted(path for path in files if path.suffix == kind and path.stat().st_size))
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content) * 8)
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    return path.name, place


def outcome(template: Run, folder: Path, chance: random.Random) -> str:
    shutil.copytree(template.settings.storage_dir.parent, folder)
    run = Run(folder)
    run.stored = dict(template.stored)
    flipped = flip_a_bit(run.settings.database, chance)
    print(*flipped)
    try:
        for _ in range(RESTARTS):
            with run.service() as service:
                run.check(service)
                run.post(service, 3)
                run.check(service)
    except Named:
        return "named"
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the ticker of the stopped service may write a last note
    return "right"


SHORT_AND_LONG = [
    pytest.param(6, id="short"),
    *(pytest.param(share(100), id=f"long-{part}", marks=pytest.mark.soak) for part in range(1, 11)),
]
"""The long form makes 2,000 flips, half of them with an archive."""


@pytest.mark.slow
@pytest.mark.parametrize("flips", SHORT_AND_LONG)
def test_every_event_is_right_or_the_damage_is_named(template: Run, tmp_path: Path, flips: int) -> None:
    chance = random.Random(series_seed())
    outcomes = [outcome(template, tmp_path / f"flip-{number}", chance) for number in range(flips)]
    print({each: outcomes.count(each) for each in set(outcomes)})
