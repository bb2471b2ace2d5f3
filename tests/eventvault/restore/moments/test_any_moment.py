"""Any series of appends, backups, prunes, restores, undos, losses and restarts: the timeline keeps its promise."""

from __future__ import annotations

import importlib
import random
import secrets
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from eventvault.chores import CHORES
from eventvault.database.registry import EventRegistry, open_leveldb
from eventvault.database.values import ScanQuery
from eventvault.errors import MomentUnavailable, NothingToUndo
from eventvault.events import event
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.restoring import drafts, leftovers
from tests.schedule import series_seed

FEW, MANY = 25, 400


def here(name: str, **arguments: Any) -> dict[str, Any]:
    """Run a chore in this process: the same plain data in and out, without the time to start a process."""
    chore = getattr(importlib.import_module(CHORES[name]), name)
    answer: dict[str, Any] = orjson.loads(orjson.dumps(chore(**orjson.loads(orjson.dumps(arguments)))))
    return answer


class Series:
    """A store and its model: generation → the lines of all events that it ever had."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings = settings
        self.random = random.Random(seed)
        self.model: dict[str, list[bytes]] = {}
        self.archives: dict[str, list[bytes]] = {}
        self.done: list[str] = []
        self.open()
        self.model[self.present] = []

    def open(self) -> None:
        self.service = StoreService(self.settings, service_starts=True, with_kafka=False, health_shared=0.0)
        self.service.chores.run = here  # type: ignore[method-assign]
        self.service.initialize()
        assert self.service.state == "serving", self.service.bus.problem

    def close(self, *, killed: bool = False) -> None:
        """killed: the journal does not write its last events."""
        if killed:
            self.service.journal.flush = lambda *_, **__: True  # type: ignore[method-assign]
        self.service.stop()
        self.service.bus.close()

    @property
    def present(self) -> str:
        return self.service.bus.registry.identity.generation  # type: ignore[union-attr]

    def lines(self) -> list[bytes]:
        found: list[bytes] = []
        while page := self.service.scan(ScanQuery(after=len(found), limit=1000)).events:
            found += page
        return found

    def append(self) -> None:
        self.service.append(drafts(self.random.randint(1, 5), secrets.token_hex(4), subject="s"))
        self.model[self.present] = self.lines()

    def back_up(self) -> None:
        self.archives[self.service.create_backup().backup.name] = self.model[self.present]

    def prune(self) -> None:
        for entry in self.service.list_backups():
            if self.random.random() < 0.5:
                self.service.delete_backup(entry.name, force=True)

    def restore(self) -> None:
        there = sorted(entry.name for entry in self.service.list_backups())
        if there:
            name = self.random.choice(there)
            restored = self.service.restore(name)
            self.model[restored.generation or ""] = self.archives[name]

    def restore_moment(self) -> None:
        generation, count = self.pick()
        events = self.model[generation][:count]
        by_time = bool(count) and self.random.random() < 0.5
        if by_time:
            instant = event.recorded_of(events[-1])
            events = [line for line in self.model[generation] if event.recorded_of(line) <= instant]
            moment = Moment(instant=instant, generation=generation)
        else:
            moment = Moment(sequence=count, generation=generation)
        try:
            restored = self.service.restore_moment(moment)
        except MomentUnavailable:
            assert by_time or not self.named(generation, count), "the timeline names it"
            return
        self.model[restored.generation or ""] = events

    def undo(self) -> None:
        try:
            kept = self.service.list_undo()
            restored = self.service.undo()
        except NothingToUndo:
            return
        self.model[restored.generation or ""] = self.model[kept[0].generation or ""]

    def restart(self) -> None:
        self.close(killed=self.random.random() < 0.5)
        self.open()

    def lose_storage(self) -> None:
        """All events are recovered, as the journal has them: the store was stopped in order."""
        before = self.model[self.present]
        assert self.service.journal.flush(5.0, survey=True)
        self.close()
        shutil.rmtree(self.settings.storage_dir)
        self.open()
        self.model[self.present] = before

    def lose_segment(self) -> None:
        found = self.service.journal.folder.segments()[0]
        if found:
            self.random.choice(found).path.unlink(missing_ok=True)

    def tidy(self) -> None:
        assert self.service.journal.flush(5.0, survey=True)

    def pick(self) -> tuple[str, int]:
        """Choose a moment of the timeline."""
        known = [each for each in self.service.timeline()["generations"] if each["id"] in self.model]
        chosen = self.random.choice(known)
        return chosen["id"], self.random.randint(0, chosen["lastSequence"])

    def named(self, generation: str, count: int) -> bool:
        there = self.service.timeline()["generations"]
        return any(each["id"] == generation and each["lastSequence"] >= count for each in there)

    def step(self) -> None:
        ways = [self.append] * 8 + [self.back_up] * 3 + [self.restore_moment] * 3
        ways += [self.prune, self.restore, self.undo, self.restart, self.lose_storage, self.lose_segment, self.tidy]
        way = self.random.choice(ways)
        self.done.append(way.__name__)
        way()
        assert self.lines() == self.model[self.present], self.done

    def check(self) -> None:
        timeline = self.service.timeline()
        assert timeline["window"]["newest"]["sequence"] == len(self.model[self.present])
        for each in timeline["generations"]:
            if each["id"] in self.model:
                assert each["lastSequence"] <= len(self.model[each["id"]]), self.done
        for _ in range(3):
            generation, count = self.pick()
            try:
                found = self.contents(Moment(sequence=count, generation=generation))
            except MomentUnavailable:
                assert not self.named(generation, count), self.done  # retention took it in between
                continue
            assert found == self.model[generation][:count], self.done
            if count:
                self.check_time(generation, event.recorded_of(found[-1]))

    def check_time(self, generation: str, instant: int) -> None:
        """A time is refused only at the last event that can be restored, if later ones by then may be lost."""
        by_then = sum(event.recorded_of(line) <= instant for line in self.model[generation])
        try:
            found = self.contents(Moment(instant=instant, generation=generation))
        except MomentUnavailable:
            assert not self.named(generation, by_then + 1), self.done
            return
        assert found == self.model[generation][:by_then], self.done

    def contents(self, moment: Moment) -> list[bytes]:
        staging = self.settings.storage_dir / f".past-{secrets.token_hex(4)}"
        made = self.service.moments.materialise(moment, staging)
        with closing(open_leveldb(made.folder)) as db:
            registry = EventRegistry(db, made.folder)
            found = [value for _, value in registry.events(0, registry.last_sequence)]
            with db.iterator(prefix=b"i") as identities, db.iterator(prefix=b"s") as subjects:
                assert sum(1 for _ in identities) == sum(1 for _ in subjects) == len(found)
        shutil.rmtree(staging)
        return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rounds", "steps"),
    [
        pytest.param(3, FEW, id="short"),
        pytest.param(20, MANY, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(7200)]),
    ],
)
def test_every_moment_that_the_timeline_names_can_be_had(
    tmp_path: Path, settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, rounds: int, steps: int
) -> None:
    monkeypatch.setattr("eventvault.journal.journal.SURVEY_SECONDS", 0.2)
    first = series_seed()
    for number in range(rounds):
        seed = first + number
        print(f"SEED={seed}")
        folders = {name: str(tmp_path / str(number) / name) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
        series = Series(settings_with({**folders, "JOURNAL_INTERVAL": "50", "AUTO_RECOVER": "true"}), seed)
        try:
            for step in range(steps):
                series.step()
                if step % 5 == 4:
                    series.check()
            series.check()
            series.close()
            assert not leftovers(series.settings.storage_dir, series.settings.backup_dir)
        except BaseException:
            print(series.done)
            raise
