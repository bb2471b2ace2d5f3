"""The state that a store reports during a slow start."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eventvault.settings import Settings
from eventvault.store.owners import health
from eventvault.store.service import StoreService
from tests.restoring import drafts, make_foreign_database
from tests.stores import running_service

pytestmark = pytest.mark.slow

SettingsWith = Callable[..., Settings]


@pytest.fixture
def state_of_start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Call it with settings: returns `store.state` of health during the start, before anything is done."""

    monkeypatch.setattr(health, "STARTING_SECONDS", 0.0)

    def state(settings: Settings, *, service_starts: bool = True) -> str:
        service = StoreService(settings, service_starts=service_starts, with_kafka=False, health_shared=0.0)
        seen: list[str] = []
        begin = service._startup.run

        def run(*, service_starts: bool) -> None:
            seen.append(service.status()["store"]["state"])
            begin(service_starts=service_starts)

        monkeypatch.setattr(service._startup, "run", run)
        service.initialize()
        try:
            assert service.status()["store"]["state"] in ("serving", "failed")
        finally:
            service.stop()
            service.bus.close()
        return seen[0]

    return state


@pytest.fixture
def archive(settings: Settings) -> Path:
    """An archive of a service that has stopped."""
    with running_service(settings) as service:
        service.append(drafts(2))
        path = service.create_backup().backup.path
    return Path(path)


def test_a_start_that_only_opens_the_database_is_short(settings: Settings, state_of_start: Callable[..., str]) -> None:
    assert state_of_start(settings) == "starting"
    assert state_of_start(settings) == "starting"


@pytest.mark.parametrize(("recover", "state"), [("true", "restoring"), ("false", "starting"), ("empty", "starting")])
def test_a_start_that_recovers_a_lost_database_is_restoring(
    settings_with: SettingsWith, state_of_start: Callable[..., str], archive: Path, recover: str, state: str
) -> None:
    settings = settings_with({"AUTO_RECOVER": recover})
    shutil.rmtree(settings.storage_dir)
    assert state_of_start(settings) == state


@pytest.mark.parametrize("service_starts", [True, False])
def test_a_start_that_imports_another_programs_database_is_restoring(
    settings: Settings, state_of_start: Callable[..., str], service_starts: bool
) -> None:
    make_foreign_database(settings.database)
    assert state_of_start(settings, service_starts=service_starts) == "restoring"


@pytest.mark.parametrize(("service_starts", "state"), [(True, "restoring"), (False, "starting")])
def test_what_waits_for_a_start_of_the_service_is_restored_by_no_other(
    settings: Settings, state_of_start: Callable[..., str], archive: Path, service_starts: bool, state: str
) -> None:
    shutil.copyfile(archive, settings.restore_dir / "waiting.tar.gz")
    assert state_of_start(settings, service_starts=service_starts) == state


def test_a_start_that_applies_what_was_staged_for_it_is_restoring(
    settings: Settings, state_of_start: Callable[..., str], archive: Path
) -> None:
    with running_service(settings) as service:
        service.restore(archive.name, staged=True)
    assert state_of_start(settings, service_starts=False) == "starting"
    assert state_of_start(settings) == "restoring"
