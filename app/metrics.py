"""`/metrics` for Prometheus: the requests of all gunicorn workers, and the store's own metrics.

prometheus-client's multiprocess mode adds up the workers' metrics (`PROMETHEUS_MULTIPROC_DIR`, set by
`gunicorn.conf.py`). Without it, in tests and under `flask run`, one process counts alone. The store has counters of its
own, which are read from `status()["metrics"]`, at most twice a second.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter as Counted
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from flask import Blueprint, Flask, Request, Response, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.store_status import Status, current_status
from eventvault import clock
from eventvault.errors import EventVaultError

disable_created_metrics()  # type: ignore[no-untyped-call]
_PROCESS_REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "eventvault_http_requests", "Answered requests.", ["method", "route", "status"], registry=_PROCESS_REGISTRY
)  # fmt: skip
DURATIONS = Histogram(
    "eventvault_http_request_duration_seconds",
    "Time from a request's arrival to the start of its answer.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
    registry=_PROCESS_REGISTRY,
)

STREAMS = Gauge(
    "eventvault_http_streams", "Open streams.", registry=_PROCESS_REGISTRY, multiprocess_mode="livesum"
)  # fmt: skip

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_ARRIVAL = "eventvault.arrival"

blueprint = Blueprint("metrics", __name__)


def install(app: Flask) -> None:
    """Count every request of `app`, and serve `/metrics`."""
    app.register_blueprint(blueprint)
    app.after_request(_count)


def record_arrival(environ: dict[str, Any]) -> None:
    environ[_ARRIVAL] = time.perf_counter()


def _count(response: Response) -> Response:
    current: Request = request._get_current_object()  # type: ignore[attr-defined]  # the proxy would cost each time
    method = current.method if current.method in _METHODS else "OTHER"
    route = _route(current)
    _requests(method, route, response.status_code).inc()
    began = current.environ.get(_ARRIVAL)
    if began is not None:
        _durations(method, route).observe(time.perf_counter() - began)
    return response


@cache
def _requests(method: str, route: str, status: int) -> Counter:
    return REQUESTS.labels(method, route, str(status))


@cache
def _durations(method: str, route: str) -> Histogram:
    return DURATIONS.labels(method, route)


def _route(current: Request) -> str:
    """Return the URL rule, not the path: each name in a path would create a time series."""
    return current.url_rule.rule if current.url_rule is not None else "(none)"


@blueprint.get("/metrics")
def metrics() -> Response:
    registry = CollectorRegistry()
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(_RegistryCollector(_PROCESS_REGISTRY))
    registry.register(StoreCollector(current_status()))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _RegistryCollector(Collector):
    """Collects the metrics of another registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        return iter(self._registry.collect())

    def describe(self) -> Iterator[Metric]:
        return iter(())


class StoreCollector(Collector):
    """Collects the store's metrics, and whether it answers."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        try:
            status = self._status.get()
        except EventVaultError:
            status = {}
        yield GaugeMetricFamily("eventvault_store_up", "1 while a store process answers.", value=float(bool(status)))
        yield from _state(status)
        yield from _problems(status.get("problems") or [])
        yield from _backups(status.get("backup") or {})
        yield from _retention((status.get("backup") or {}).get("keptBy") or {})
        yield from _schedule((status.get("jobs") or {}).get("autoBackup") or {}, status.get("problems") or [])
        yield from _disks(status.get("disk") or {})
        yield from _journal(status.get("journal") or {}, status.get("window") or {})
        yield from _operations(status.get("operations") or [])
        yield from _notifications(status.get("notifications") or {})
        yield from _job_queue(status.get("jobQueue") or {})
        yield from _kafka(status.get("kafka") or {})
        yield from _rehearsal(status.get("rehearsal") or {})
        yield from _publishing((status.get("kafka") or {}).get("publish") or {})
        for name, value in (status.get("metrics") or {}).items():
            yield from _metric(f"eventvault_{_snake(name)}", value)


def _state(status: Mapping[str, Any]) -> Iterator[Metric]:
    current = status.get("status", "unreachable")
    family = GaugeMetricFamily("eventvault_status", "1 for the current state of the service.", labels=["state"])
    for state in ("ok", "degraded", "restoring", "unreachable"):
        family.add_metric([state], float(state == current))
    yield family
    store_status = status.get("store") or {}
    for member, name in (("events", "eventvault_store_events"), ("lastSequence", "eventvault_store_last_sequence")):
        if isinstance(store_status.get(member), int):
            yield GaugeMetricFamily(name, f"`store.{member}` of /api/health.", value=store_status[member])


def _problems(problems: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    family = GaugeMetricFamily("eventvault_problems", "`problems` of /api/health, by code.", labels=["code"])
    for code, count in sorted(Counted(problem["code"] for problem in problems).items()):
        family.add_metric([code], count)
    yield family


def _backups(backup: Mapping[str, Any]) -> Iterator[Metric]:
    if isinstance(backup.get("count"), int):
        yield GaugeMetricFamily("eventvault_backups", "`backup.count` of /api/health.", value=backup["count"])
    if backup.get("latest"):
        yield GaugeMetricFamily(
            "eventvault_backup_newest_timestamp_seconds",
            "When the newest archive was made.",
            value=backup["latest"]["created"] / 1e6,
        )
    for member, name, what in (
        ("count", "count", "The same as `eventvault_backups`, under its earlier name."),
        ("notProven", "not_proven", "Archives that name this installation and are not proven to be made by it."),
        ("totalSize", "size_bytes", "`backup.totalSize` of /api/health: the archives' sizes."),
        ("addedBytes", "added_bytes", "What the archives took on the disk when they were made."),
        ("sharedBytes", "shared_bytes", "What the archives shared with earlier ones when they were made."),
        ("uniqueBytes", "unique_bytes", "What the archives share with no other one."),
    ):
        if isinstance(backup.get(member), int):
            yield GaugeMetricFamily(f"eventvault_backup_{name}", what, value=backup[member])
    if isinstance(backup.get("damagedCount"), int):
        yield GaugeMetricFamily(
            "eventvault_backup_damaged", "Archives that are known to be damaged.", value=backup["damagedCount"]
        )
    if isinstance(backup.get("oldestVerified"), int):
        yield GaugeMetricFamily(
            "eventvault_backup_oldest_verified_timestamp_seconds",
            "When the least recently verified archive was verified; absent if one never was.",
            value=backup["oldestVerified"] / 1e6,
        )


def _retention(counts: Mapping[str, int]) -> Iterator[Metric]:
    what = "How many archives a rule of retention keeps; one may be kept by several."
    family = GaugeMetricFamily("eventvault_backup_kept", what, labels=["rule"])
    for rule, count in sorted(counts.items()):
        family.add_metric([rule], count)
    yield family


def _schedule(job: Mapping[str, Any], problems: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    late = {(problem["about"] or {}).get("name") for problem in problems if problem["code"] == "backup_late"}
    family = GaugeMetricFamily(
        "eventvault_backup_late", "1 while the backup of a schedule is late.", labels=["schedule"]
    )
    for member, setting in (("intervalMs", "AUTO_BACKUP_INTERVAL"), ("cron", "BACKUP_CRON")):
        if job.get(member) is not None:
            family.add_metric([setting], float(setting in late))
    yield family
    if job.get("nextRun"):
        yield GaugeMetricFamily(
            "eventvault_backup_next_run_timestamp_seconds",
            "When the next scheduled backup begins.",
            value=clock.parse(job["nextRun"]) / 1e6,
        )


def _disks(disks: Mapping[str, Any]) -> Iterator[Metric]:
    folders = [(folder, disks.get(folder) or {}) for folder in ("backups", "storage")]
    for member, name, unit, what in (
        ("free", "eventvault_disk_free_bytes", 1, "What is free on the disk of a data folder."),
        ("total", "eventvault_disk_size_bytes", 1, "The size of the disk of a data folder."),
        (
            "daysLeft",
            "eventvault_disk_left_seconds",
            86_400,
            "How long the free space lasts; absent if that is unknown.",
        ),
    ):
        family = GaugeMetricFamily(name, what, labels=["folder"])
        for folder, disk in folders:
            if isinstance(disk.get(member), int | float):
                family.add_metric([folder], disk[member] * unit)
        yield family
    backups = disks.get("backups") or {}
    for member, name, what in (
        ("archives", "eventvault_backup_disk_bytes", "What all archives take on the disk, shared blocks counted once."),
        ("free", "eventvault_backup_disk_free_bytes", "What is free on the disk of BACKUP_DIR."),
    ):
        if isinstance(backups.get(member), int):
            yield GaugeMetricFamily(name, what, value=backups[member])


def _journal(journal: Mapping[str, Any], window: Mapping[str, Any]) -> Iterator[Metric]:
    for member, name, what in (
        ("secondsAtRisk", "eventvault_seconds_at_risk", "Age of the oldest event that is in no segment or archive."),
        ("lastSequence", "eventvault_journal_last_sequence", "Every event up to here is in a segment or an archive."),
    ):
        if isinstance(journal.get(member), int | float):
            yield GaugeMetricFamily(name, what, value=journal[member])
    for end, moment in window.items():
        name, what = f"eventvault_window_{end}_sequence", f"The {end} sequence that can be restored."
        yield GaugeMetricFamily(name, what, value=moment["sequence"])
        name, what = f"eventvault_window_{end}_timestamp_seconds", f"Time of the {end} moment that can be restored."
        yield GaugeMetricFamily(name, what, value=clock.parse(moment["time"]) / 1e6)


def _operations(operations: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    what = "Operations that run, or that began in the last 30 days."
    family = GaugeMetricFamily("eventvault_operations", what, labels=["kind", "state"])
    for group in operations:
        family.add_metric([group["kind"], group["state"]], float(group["count"]))
    yield family


def _notifications(notifications: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield how many notifications wait. The store counts how many were delivered, failed or dropped."""
    if isinstance(notifications.get("waiting"), int):
        what = "Notifications that an address of NOTIFY_URLS did not get yet."
        yield GaugeMetricFamily("eventvault_notifications_waiting", what, value=notifications["waiting"])


def _job_queue(queue: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield what the dispatcher of jobs has; nothing while it does not answer."""
    if not queue:
        return
    family = GaugeMetricFamily("eventvault_jobs", "`jobQueue.states` of /api/health.", labels=["state"])
    for state, count in queue["states"].items():
        family.add_metric([state], float(count))
    yield family
    for member in ("workers", "slots"):
        yield GaugeMetricFamily(f"eventvault_job_{member}", f"`jobQueue.{member}` of /api/health.", value=queue[member])
    oldest = GaugeMetricFamily(
        "eventvault_job_oldest_waiting_timestamp_seconds",
        "Since when the oldest job that is due waits, as seconds since the epoch; no sample if none waits.",
    )
    if queue["oldestWaiting"] is not None:
        oldest.add_metric([], clock.parse(queue["oldestWaiting"]) / 1e6)
    yield oldest
    yield CounterMetricFamily(
        "eventvault_job_refused_reports", "`jobQueue.refusedReports` of /api/health.", value=queue["refusedReports"]
    )


def _kafka(kafka: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield how far the events topics were consumed; no samples of topics without Kafka."""
    lag = GaugeMetricFamily(
        "eventvault_kafka_lag", "Messages that were not consumed yet; no sample while unknown.", labels=["topic"]
    )
    for topic in kafka.get("topics", ()):
        if topic["lag"] is not None:
            lag.add_metric([topic["name"]], topic["lag"])
    yield lag
    partitions = GaugeMetricFamily(
        "eventvault_kafka_partitions", "Partitions of the events topics by their state.", labels=["topic", "state"]
    )
    counts = Counted((partition["topic"], partition["state"]) for partition in kafka.get("partitions", ()))
    for labels, count in sorted(counts.items()):
        partitions.add_metric(labels, count)
    yield partitions
    for member in ("consumed", "duplicates", "differing", "deadLetters"):
        name = f"eventvault_kafka_{_snake(member)}"
        yield CounterMetricFamily(name, f"`kafka.{member}` of /api/health.", value=kafka.get(member, 0))
    yield from _quarantine(kafka)


def _quarantine(kafka: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield what is in quarantine; nothing without Kafka."""
    quarantine = kafka.get("quarantine")
    if quarantine is None:
        return
    for member in ("count", "bytes"):
        name = f"eventvault_kafka_quarantine_{'messages' if member == 'count' else member}"
        yield GaugeMetricFamily(name, f"`kafka.quarantine.{member}` of /api/health.", value=quarantine[member])
    yield CounterMetricFamily(
        "eventvault_kafka_quarantine_dropped", "`kafka.quarantine.dropped` of /api/health.", value=quarantine["dropped"]
    )


def _rehearsal(newest: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield what the newest rehearsal found; nothing before the first one."""
    if newest.get("at") is None:
        return
    values = {**newest, "success": float(newest["ok"]), "time": clock.parse(newest["at"]) / 1e6}
    for member, name, what in (
        ("success", "success", "1 if the newest rehearsal restored the right events, 0 if not."),
        ("time", "timestamp_seconds", "When the newest rehearsal began."),
        ("rtoSeconds", "rto_seconds", "How long a restore takes, as the newest rehearsal measured it."),
        ("rpoSeconds", "rpo_seconds", "Age of the oldest event that a loss of STORAGE_DIR would have cost then."),
        ("rpoEvents", "rpo_events", "How many events a loss of STORAGE_DIR would have cost then."),
        ("differing", "differing_events", "Events that were restored and differ from the live ones."),
    ):
        if isinstance(values.get(member), int | float):
            yield GaugeMetricFamily(f"eventvault_rehearsal_{name}", what, value=values[member])


def _publishing(publish: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield how far the outbox is; nothing while nothing is published."""
    for member, name, what in (
        ("backlog", "backlog", "Events that wait to be published to Kafka."),
        ("secondsWaiting", "oldest_seconds", "Age of the oldest event that waits to be published to Kafka."),
    ):
        if isinstance(publish.get(member), int | float):
            yield GaugeMetricFamily(f"eventvault_kafka_publish_{name}", what, value=publish[member])
    for member, name in (
        ("published", "kafka_published_events"),
        ("withoutData", "kafka_published_without_data"),
        ("notPublished", "kafka_not_published_events"),
    ):
        if isinstance(publish.get(member), int):
            what = f"`kafka.publish.{member}` of /api/health, since the store process started."
            yield CounterMetricFamily(f"eventvault_{name}", what, value=publish[member])


def _metric(name: str, value: Any) -> Iterator[Metric]:
    """Yield the metric of a number, or of a histogram: {buckets: [[bound, count]…], sum}.

    Buckets are cumulative; the last bound is None or "+Inf".
    """
    words = name.removeprefix("eventvault_").replace("_", " ")
    documentation = f"{words}, since the store process started.".capitalize()
    match value:
        case int() | float():
            yield CounterMetricFamily(name, documentation, value=float(value))
        case {"buckets": buckets, "sum": total}:
            bounds = [(_bound(bound), float(count)) for bound, count in buckets]
            yield HistogramMetricFamily(name, documentation, buckets=bounds, sum_value=float(total))


def _bound(bound: Any) -> str:
    return "+Inf" if bound in (None, "+Inf") else str(float(bound))


def _snake(name: str) -> str:
    return re.sub(r"[^a-z0-9_]", "_", re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower())
