"""The jobs `verify`, `rehearse`, `export` and `prune`, on a store in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.builtin_jobs import operations
from eventvault.errors import StoreUnavailable
from eventvault.operations.entry import OperationQuery
from eventvault.settings import load
from eventvault.store.service import StoreService
from tests.processes import wait_until
from tests.restoring import drafts, flip
from tests.stores import folders_beneath, running_service
from worker.jobs import Stopped
from worker.testing import run_job


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreService]:
    folder = tmp_path_factory.mktemp("jobs")
    with running_service(load({**folders_beneath(folder), "AUTO_BACKUP_ENABLED": "false"})) as service:
        service.append(drafts(5))
        service.create_backup("first")
        yield service


@pytest.fixture(autouse=True)
def own_store(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "_store", lambda: service)


@pytest.mark.slow
def test_the_newest_backup_is_verified_and_its_operation_names_the_job(service: StoreService) -> None:
    outcome = run_job("verify", {}, job_id="j-1")
    assert outcome.error is None
    assert outcome.result["backup"]["name"] == service.list_backups()[0].name
    newest = service.list_operations(OperationQuery(limit=1))[0]
    assert (newest.kind, newest.started_by, newest.state) == ("verify", "job:j-1", "succeeded")


@pytest.mark.slow
def test_what_is_not_there_or_damaged_ends_the_job(service: StoreService) -> None:
    missing = run_job("verify", {"backup": "backup_2020-01-01_000000.tar.gz"})
    assert missing.error is not None
    assert not missing.retry
    damaged = service.create_backup("damaged").backup
    flip(Path(damaged.path), 200)
    outcome = run_job("verify", {"backup": damaged.name})
    assert outcome.error is not None
    assert not outcome.retry
    service.delete_backup(damaged.name, force=True)


@pytest.mark.slow
def test_a_restore_is_rehearsed() -> None:
    outcome = run_job("rehearse", {})
    assert outcome.error is None
    assert (outcome.result["rehearsal"]["ok"], outcome.result["rehearsal"]["compared"]) == (True, 5)
    assert run_job("rehearse", {"sequence": 3}).result["rehearsal"]["ok"] is True


def test_events_are_exported_into_a_file_of_the_service(service: StoreService) -> None:
    outcome = run_job("export", {"type": "a"})
    assert outcome.error is None
    everything = run_job("export", {}).result
    assert everything["events"] == 5
    assert Path(service.export_path(everything["operation"])).exists()
    assert everything["file"] == f"/api/operations/{everything['operation']}/file"


def test_backups_that_no_rule_keeps_are_removed() -> None:
    assert run_job("prune", {}).result["removed"] == []


@pytest.mark.parametrize(
    ("job_type", "payload", "field"),
    [
        ("verify", {"name": "x"}, "name"), ("rehearse", {"backup": "a", "sequence": 1}, "_schema"),
        ("rehearse", {"pointInTime": "yesterday"}, "pointInTime"), ("export", {"limit": 5}, "limit"),
        ("export", {"from": "x"}, "from"), ("prune", {"dryRun": True}, "dryRun"),
        ("verify", {"records": "maybe"}, "records"),
    ],
)  # fmt: skip
def test_a_wrong_payload_is_refused_for_good(job_type: str, payload: dict[str, Any], field: str) -> None:
    outcome = run_job(job_type, payload)
    assert not outcome.retry
    assert outcome.error is not None
    assert list(outcome.error.fields or {}) == [field]


def test_what_passes_by_itself_is_tried_again(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("no store process answers", hint="")

    monkeypatch.setattr("app.store_retry._RETRY_SECONDS", 0.0)
    monkeypatch.setattr(service, "prune_backups", is_away)
    outcome = run_job("prune", {})
    assert (outcome.retry, outcome.after) == (True, 60.0)


def test_a_job_that_is_stopped_cancels_its_operation(service: StoreService, monkeypatch: pytest.MonkeyPatch) -> None:
    began = threading.Event()

    def interrupt(_: Any) -> None:
        began.set()
        raise Stopped("cancelled")

    cancelled: list[str] = []
    real = service.cancel_operation
    monkeypatch.setattr(service, "cancel_operation", lambda each: cancelled.append(each) or real(each))
    monkeypatch.setattr(operations, "follow", lambda store, operation_id, show: interrupt(operation_id))
    outcome = run_job("rehearse", {})
    assert outcome.error is not None
    assert outcome.error.code == "job_cancelled"
    assert len(cancelled) == 1

    def has_ended() -> bool:
        states = {each.id: each.state for each in service.list_operations(OperationQuery(limit=100))}
        return states[cancelled[0]] == "cancelled"

    wait_until(has_ended, "the rehearsal goes on, and no other one may begin")
