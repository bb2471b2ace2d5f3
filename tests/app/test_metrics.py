"""`/metrics` of one process; `test_gunicorn.py` tests several."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from eventvault.errors import StoreUnavailable
from eventvault.problems import Problem
from eventvault.store.memory.store import MemoryStore

pytestmark = pytest.mark.slow


def scraped(web: FlaskClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(web.get("/metrics", buffered=True).text)
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def value(web: FlaskClient, name: str, **labels: str) -> float:
    return scraped(web).get((name, frozenset(labels.items())), 0)


def test_requests_are_counted_by_route_and_status(web: FlaskClient) -> None:
    labels = {"method": "GET", "route": "/api/events/<event_id:event_id>"}
    counted = value(web, "eventvault_http_requests_total", **labels, status="404")
    timed = value(web, "eventvault_http_request_duration_seconds_count", **labels)
    for name in ("a", "b", "c"):
        web.get(f"/api/events/{name}")
    assert value(web, "eventvault_http_requests_total", **labels, status="404") == counted + 3
    assert value(web, "eventvault_http_request_duration_seconds_count", **labels) == timed + 3


def test_unknown_methods_and_paths_create_no_time_series(web: FlaskClient) -> None:
    web.open("/a/b/c", method="BREW")
    assert value(web, "eventvault_http_requests_total", method="OTHER", route="(none)", status="404") >= 1
    assert not any("/a/b/c" in str(labels) or "BREW" in str(labels) for _, labels in scraped(web))


def test_the_metrics_of_the_store_are_shown(
    web: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {"append_groups": 7, "group_size": {"buckets": [[1, 2], [8, 5], [None, 6]], "sum": 20}, "odd": "text"}
    status = {**store.status(), "metrics": numbers}
    sizes = {"totalSize": 99, "addedBytes": 60, "sharedBytes": 39, "uniqueBytes": 50}
    status["backup"] = {**status["backup"], "count": 3, "notProven": 2, **sizes, "keptBy": {"newest": 3, "daily": 2}}
    status["disk"] = {
        "backups": {"archives": 70, "free": 1000, "total": 4000, "daysLeft": 2},
        "storage": {"free": 500, "total": 900},
    }
    status["jobs"] = {"autoBackup": {"intervalMs": None, "cron": "0 3 * * *", "nextRun": "2026-01-31T03:00:00.000Z"}}
    late = Problem("backup_late", "it was due", "see why", "BACKUP_CRON")
    status["problems"] = [each.describe() for each in (late, Problem("stuck", "it stands", "wait", "journal"))]
    status["kafka"] = {
        "configured": True, "consumed": 4, "deadLetters": 2,
        "topics": [{"name": "a", "lag": 3}, {"name": "b", "lag": None}],
        "partitions": [{"topic": "a", "state": "consuming"}, {"topic": "a", "state": "consuming"}],
    }  # fmt: skip
    monkeypatch.setattr(store, "status", lambda: status)

    assert value(web, "eventvault_kafka_lag", topic="a") == 3
    assert value(web, "eventvault_kafka_partitions", topic="a", state="consuming") == 2
    assert value(web, "eventvault_kafka_consumed_total") == 4
    assert value(web, "eventvault_kafka_dead_letters_total") == 2
    assert value(web, "eventvault_append_groups_total") == 7
    assert value(web, "eventvault_group_size_bucket", le="8.0") == 5
    assert value(web, "eventvault_group_size_count") == 6
    assert value(web, "eventvault_backups") == value(web, "eventvault_backup_count") == 3
    assert value(web, "eventvault_backup_late", schedule="BACKUP_CRON") == 1
    assert value(web, "eventvault_backup_late", schedule="AUTO_BACKUP_INTERVAL") == 0
    assert value(web, "eventvault_backup_next_run_timestamp_seconds") == 1_769_828_400
    assert value(web, "eventvault_problems", code="stuck") == 1
    assert value(web, "eventvault_disk_free_bytes", folder="storage") == 500
    assert value(web, "eventvault_disk_size_bytes", folder="backups") == 4000
    assert value(web, "eventvault_disk_left_seconds", folder="backups") == 2 * 86_400
    assert value(web, "eventvault_backup_size_bytes") == 99
    assert value(web, "eventvault_backup_not_proven") == 2
    assert value(web, "eventvault_backup_kept", rule="daily") == 2
    assert value(web, "eventvault_backup_added_bytes") == 60
    assert value(web, "eventvault_backup_shared_bytes") == 39
    assert value(web, "eventvault_backup_unique_bytes") == 50
    assert value(web, "eventvault_backup_disk_bytes") == 70
    assert value(web, "eventvault_backup_disk_free_bytes") == 1000
    assert value(web, "eventvault_store_up") == 1
    assert value(web, "eventvault_status", state="ok") == 1


def test_an_unavailable_store_is_shown_as_down(
    web: FlaskClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise StoreUnavailable("away", hint="wait")

    monkeypatch.setattr(store, "status", away)
    assert web.get("/metrics").status_code == 200
    assert value(web, "eventvault_store_up") == 0
    assert value(web, "eventvault_status", state="unreachable") == 1
