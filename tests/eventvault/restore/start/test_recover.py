"""After a failed recovery the same files are read again only once one of them has changed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventvault.errors import ArchiveUnreadable
from eventvault.restore.builder import ArchiveSource, Builder
from eventvault.settings import Settings
from eventvault.store import lifecycle
from tests import processes
from tests.restoring import drafts, flip, generation, prefixes, problem_codes, put, set_clock_back
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def recovering(settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(lifecycle, "TICK_SECONDS", 3600.0)
    return settings_with({"AUTO_RECOVER": "true"})


@pytest.fixture
def damaged(settings: Settings) -> tuple[Path, bytes]:
    """The path of the only archive of a lost database, which is damaged, and its good content; there is no journal."""
    with running_service(settings) as service:
        service.append(drafts(2))
        path = Path(service.create_backup().backup.path)
    whole = path.read_bytes()
    flip(path, 900)
    shutil.rmtree(settings.storage_dir)
    shutil.rmtree(settings.backup_dir / "journal")
    return path, whole


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the archives that recoveries have begun to read."""
    names: list[str] = []
    build = Builder.build

    def counted(self: Builder, plan: Any, *arguments: Any, **more: Any) -> Any:
        if isinstance(plan, ArchiveSource):
            names.append(plan.path.name)
        return build(self, plan, *arguments, **more)

    monkeypatch.setattr(Builder, "build", counted)
    return names


def test_what_was_read_in_vain_is_not_read_again(
    recovering: Settings, damaged: tuple[Path, bytes], read: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), running_service(recovering) as service:
        before = list(read)
        said = problem_codes(service)
        for _ in range(3):
            service.lifecycle.try_to_open()
        assert before == [damaged[0].name]
        assert read == before
        assert problem_codes(service) == said
    assert said[0] == "database_missing"
    assert len([each for each in caplog.messages if "recovering it" in each]) == 1
    assert len([each for each in caplog.messages if "nothing of it could be recovered" in each]) == 1


def test_an_archive_that_is_put_back_is_recovered(
    settings_with: Callable[..., Settings], damaged: tuple[Path, bytes]
) -> None:
    path, whole = damaged
    with running_service(settings_with({"AUTO_RECOVER": "true"})) as service:
        assert problem_codes(service)[0] == "database_missing"
        aside = path.with_name(".whole")
        aside.write_bytes(whole)
        aside.replace(path)
        processes.wait_until(lambda: service.state == "serving", "it does not go on by itself")
        assert prefixes(service) == {"live": 2}


def test_a_journal_that_is_put_back_is_recovered(settings: Settings, recovering: Settings) -> None:
    with running_service(settings) as service:
        put(service, 2, "journaled")
    journal, aside = settings.backup_dir / "journal", settings.backup_dir / "aside"
    shutil.rmtree(settings.storage_dir)
    shutil.copytree(journal, aside)
    for segment in journal.glob("*/segment_*"):
        segment.unlink()
    with running_service(recovering) as service:
        assert problem_codes(service)[0] == "database_missing"
        shutil.rmtree(journal)
        aside.rename(journal)
        service.lifecycle.try_to_open()
        assert prefixes(service) == {"journaled": 2}


def test_an_archive_that_could_not_be_opened_is_tried_again(
    recovering: Settings, damaged: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged[0].write_bytes(damaged[1])
    build = Builder.build
    tries = 0

    def unreadable_once(self: Builder, plan: Any, *arguments: Any, **more: Any) -> Any:
        nonlocal tries
        tries += isinstance(plan, ArchiveSource)
        if tries == 1:
            raise ArchiveUnreadable(f"{plan.path} cannot be opened: too many open files", hint="x")
        return build(self, plan, *arguments, **more)

    monkeypatch.setattr(Builder, "build", unreadable_once)
    with running_service(recovering) as service:
        assert problem_codes(service) == ["backups_unavailable"]
        service.lifecycle.try_to_open()
        assert prefixes(service) == {"live": 2}


@pytest.mark.parametrize("member", ["generation", "sequence", "origin", "events", "size", "installation", "checksum"])
def test_a_flipped_bit_of_the_catalogue_costs_a_recovery_no_event(
    settings: Settings, recovering: Settings, member: str
) -> None:
    with running_service(settings) as service:
        for number in range(3):
            put(service, 5, f"batch{number}")
            service.create_backup()
        put(service, 5, "journaled")
    shutil.rmtree(settings.storage_dir)
    catalogue = settings.backup_dir / ".catalogue.json"
    flip(catalogue, catalogue.read_bytes().index(f'"{member}"'.encode()) + len(member) + 5)

    with running_service(recovering) as service:
        assert prefixes(service) == {"batch0": 5, "batch1": 5, "batch2": 5, "journaled": 5}
        assert problem_codes(service) == ["catalogue_damaged"]


def lose_storage_and_record(settings: Settings) -> None:
    shutil.rmtree(settings.storage_dir)
    (settings.backup_dir / "journal" / "registry.json").unlink()


def test_of_two_restores_of_one_backup_the_later_one_is_recovered_whatever_the_clock_said(
    settings: Settings, recovering: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_service(settings) as service:
        put(service, 2, "first")
        name = service.create_backup().backup.name
        service.restore(name)
        put(service, 1, "second")
        set_clock_back(monkeypatch, days=300)
        service.restore(name)
        put(service, 1, "third")
    lose_storage_and_record(settings)

    with running_service(recovering) as service:
        assert prefixes(service) == {"first": 2, "third": 1}


def test_a_generation_is_recovered_rather_than_the_one_it_descends_from_whatever_the_clock_said(
    settings: Settings, recovering: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_service(settings) as service:
        put(service, 2, "first")
        service.restore(service.create_backup().backup.name)
        put(service, 1, "second")
        name = service.create_backup().backup.name
        put(service, 1, "replaced")
        set_clock_back(monkeypatch, days=300)
        service.restore(name)
        put(service, 1, "third")
    lose_storage_and_record(settings)

    with running_service(recovering) as service:
        assert prefixes(service) == {"first": 2, "second": 1, "third": 1}


def test_of_archives_alone_the_one_of_the_latest_restore_is_recovered_whatever_the_clock_said(
    settings: Settings, recovering: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_service(settings) as service:
        put(service, 2, "first")
        name = service.create_backup().backup.name
        for prefix, days in (("second", 0), ("third", 300), ("fourth", 100)):
            set_clock_back(monkeypatch, days)
            service.restore(name)
            service.append(drafts(1, prefix))
            service.create_backup()
    shutil.rmtree(settings.storage_dir)
    shutil.rmtree(settings.backup_dir / "journal")

    with running_service(recovering) as service:
        assert prefixes(service) == {"first": 2, "fourth": 1}


def test_a_database_that_was_put_back_goes_on_after_all_that_was_recorded_whatever_the_clock_said(
    settings: Settings, recovering: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = settings.storage_dir.with_name("copy")
    with running_service(settings) as service:
        put(service, 2, "first")
        name = service.create_backup().backup.name
    shutil.copytree(settings.database, copy)
    with running_service(settings) as service:
        service.restore(name)
        put(service, 1, "second")
        later = generation(service)
    shutil.rmtree(settings.database)
    shutil.copytree(copy, settings.database)
    set_clock_back(monkeypatch, days=300)
    with running_service(settings) as service:
        assert problem_codes(service) == ["rolled_back"]
        assert generation(service) != later
        put(service, 1, "third")
    lose_storage_and_record(settings)

    with running_service(recovering) as service:
        assert prefixes(service) == {"first": 2, "third": 1}


def test_a_registry_that_was_begun_anew_is_recovered_rather_than_the_one_before_whatever_the_clock_said(
    settings: Settings, settings_with: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_service(settings) as service:
        put(service, 2, "before")
        service.create_backup()
    shutil.rmtree(settings.storage_dir)
    set_clock_back(monkeypatch, days=300)
    with running_service(settings_with({"AUTO_RECOVER": "empty"})) as service:
        put(service, 1, "anew")
    lose_storage_and_record(settings)

    with running_service(settings_with({"AUTO_RECOVER": "true"})) as service:
        assert prefixes(service) == {"anew": 1}
