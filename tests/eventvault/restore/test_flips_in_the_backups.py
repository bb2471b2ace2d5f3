"""A bit flips anywhere in an archive or a segment: what a recovery of a lost `storage/`, a restore or a restore to a
moment brings back is right, and nothing is missing without a word."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventvault import data_folders
from eventvault.database.generation import NO_BOUND
from eventvault.errors import ArchiveError, ArchiveUnreadable, JournalUnreadable, MomentUnavailable
from eventvault.restore.values import Moment
from eventvault.settings import Settings, load
from eventvault.store.service import StoreService
from tests.restoring import accept_incomplete_recovery, drafts, generation, problem_codes
from tests.schedule import series_seed, share
from tests.stores import folders_beneath, running_service

LACKS = {"recovery_incomplete", "database_missing", "rolled_back"}
"""The codes of problems that name events which are missing."""
SHORT_AND_LONG = [
    pytest.param(3, id="short"),
    *(pytest.param(share(100), id=f"long-{part}", marks=pytest.mark.soak) for part in range(1, 11)),
]
"""The long form makes 2,000 flips."""


class Template:
    """An installation that was stopped in order: two archives, and segments before, between and behind them."""

    def __init__(self, folder: Path) -> None:
        self.settings = settings_in(folder)
        self.archives: dict[str, int] = {}
        with running_service(self.settings) as service:
            for number, count in enumerate((40, 30, 30, 20)):
                for _ in range(2):
                    service.append(drafts(count, os.urandom(4).hex(), data=os.urandom(100).hex()))
                    assert service.journal.flush()
                if number in (1, 2):
                    self.archives[service.create_backup().backup.name] = service.status()["store"]["lastSequence"]
            self.stored, self.generation = events_of(service), generation(service)
        assert len(self.stored) == 240

    def flipped(self, folder: Path, chance: random.Random) -> tuple[Settings, Path]:
        """Return a copy in which one bit of an archive or of a segment is another, and that file."""
        shutil.copytree(self.settings.storage_dir.parent, folder)
        settings = settings_in(folder)
        segments = sorted((settings.backup_dir / data_folders.JOURNAL).glob("*/segment_*"))
        path = chance.choice(chance.choice([[settings.backup_dir / name for name in self.archives], segments]))
        content = bytearray(path.read_bytes())
        place = chance.randrange(len(content) * 8)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        print(path.name, place)
        return settings, path

    def is_right(self, service: StoreService) -> bool:
        """Whether nothing is missing. What is there must be right, and without a hole."""
        found = events_of(service)
        assert found.keys() == set(range(1, len(found) + 1))
        assert all(self.stored[sequence] == value for sequence, value in found.items())
        return found.keys() == self.stored.keys()


def settings_in(folder: Path) -> Settings:
    quiet = {"AUTO_BACKUP_ENABLED": "false", "JOURNAL_INTERVAL": "3600000", "AUTO_RECOVER": "true"}
    return load({**folders_beneath(folder), **quiet})


def events_of(service: StoreService) -> dict[int, bytes]:
    with service.bus.using() as registry:
        return dict(registry.events(0, NO_BOUND))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return Template(tmp_path_factory.mktemp("flips") / "template")


def recovered(template: Template, settings: Settings, _changed: Path) -> str:
    """Lose `storage/`, and start twice."""
    shutil.rmtree(settings.storage_dir)
    outcome = "right"
    with running_service(settings) as service:
        if service.state != "serving":
            assert LACKS & set(problem_codes(service)), service.status()["problems"]
            accept_incomplete_recovery(service)
            outcome = "named, and accepted"
            template.is_right(service)
        elif not template.is_right(service):
            assert LACKS & set(problem_codes(service)), service.status()["problems"]
            outcome = "named"
    with running_service(settings) as service:
        assert template.is_right(service) or outcome != "right"
    return outcome


def restored(template: Template, settings: Settings, changed: Path) -> str:
    """Restore each archive, and then the newest moment."""
    outcome = "right"
    with running_service(settings) as service:
        assert template.is_right(service)
        for name, last in template.archives.items():
            if is_refused(service.restore, name):
                assert name == changed.name
                outcome = "refused"
            else:
                template.is_right(service)
                assert len(events_of(service)) == last
        newest = Moment(sequence=len(template.stored), generation=template.generation)
        if is_refused(service.restore_moment, newest):
            return "refused"
        assert template.is_right(service)
    return outcome


def is_refused(restore: Callable[[Any], object], what: object) -> bool:
    """Whether it is refused as damaged or gone. Any other error, such as that of a disk that failed, is raised."""
    try:
        restore(what)
    except (ArchiveUnreadable, JournalUnreadable):
        raise
    except (ArchiveError, MomentUnavailable):
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("flips", SHORT_AND_LONG)
@pytest.mark.parametrize("bring_back", [recovered, restored])
def test_what_comes_back_is_right_or_what_is_missing_is_named(
    template: Template, tmp_path: Path, flips: int, bring_back: Callable[[Template, Settings, Path], str]
) -> None:
    chance = random.Random(series_seed())
    outcomes = []
    for number in range(flips):
        folder = tmp_path / str(number)
        outcomes.append(bring_back(template, *template.flipped(folder, chance)))
        shutil.rmtree(folder, ignore_errors=True)  # the ticker of the stopped service may write a last note
    print({each: outcomes.count(each) for each in set(outcomes)})
