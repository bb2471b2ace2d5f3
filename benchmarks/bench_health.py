"""`make bench-health`: measures health with many archives, many restores and many pages that ask for it.

The targets apply to the default options; `--help` lists all.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from benchmarks import report, serving
from benchmarks.bench_past import timed_post
from benchmarks.bench_serve import posts
from benchmarks.load import Load, http_request
from benchmarks.load import measure as put_under_load
from tests import processes
from tests.service import Service

INTRODUCTION = """\
Made by `make bench-health`, over loopback: `GET /api/health` from 50 connections, 50 times a second as if 100 pages
asked every two seconds, each measured from the time it was due; then 100 pages that ask every two seconds for health,
the first 100 backups and the timeline in 400 buckets, 150 requests a second. The archives are copies of one; between
the restores an event is posted, so that each generation has segments. A false alarm is an answer with another status
than `ok`; five more answers a second are read for it. The posts are single ones, 50 a second; those beside the pages
are compared with those before.
"""
PACE = 50
ALARM_CHECKS_PER_SECOND = 5
P99_SECONDS = 0.1
HEALTH = http_request("GET", "/api/health")
PAGE = [
    HEALTH,
    http_request("GET", "/api/backup/list?limit=100"),
    http_request("GET", "/api/backup/timeline?buckets=400"),
]
"""What a page asks for every two seconds."""
PAGES = 100
MOST_SLOWER = 2.0
"""How many times as long a post may take beside the pages, at the 99th percentile."""


def prepare(service: Service, archives: int, restores: int) -> None:
    """Post, back up, restore again and again, then put copies of the archive into BACKUP_DIR."""
    put_under_load(service.port, posts(10, 100, 200), clients=1, seconds=60, most=10)
    name = timed_post(service, "/api/backup/create", {})[1]["name"]
    for number in range(restores):
        service.post("/api/events", {"type": "between", "id": f"between-{number}"})
        timed_post(service, "/api/backup/restore", {"backupName": name})
    copy_archive(service, name, archives)
    os.sync()  # else the kernel writes these copies while posts are measured, which wait for the same disk


def copy_archive(service: Service, name: str, archives: int) -> None:
    """Put copies of an archive beside it, until there are so many."""
    folder, began = service.folder("BACKUP_DIR"), datetime(2020, 1, 1, tzinfo=UTC)
    for number in range(archives - 1):
        at = began + timedelta(hours=number)
        shutil.copyfile(folder / name, folder / f"backup_{at:%Y-%m-%d_%H%M%S}.tar.gz")

    def are_all_listed() -> bool:
        count: int | None = service.get("/api/health").json()["backup"]["count"]
        return count == archives

    processes.wait_until(are_all_listed, "the archives are not listed", 600)


@contextmanager
def alarms(service: Service, seen: list[str]) -> Iterator[None]:
    """Add every status but `ok` to `seen`, with its problems, until the context is left."""

    def look() -> None:
        health = service.get("/api/health").json()
        if health["status"] != "ok":
            seen.append(f"{health['status']}: {[problem['code'] for problem in health['problems']]}")

    with processes.repeated(look, 1 / ALARM_CHECKS_PER_SECOND):
        yield


def measure(results: report.Report, service: Service, seconds: float, what: str) -> None:
    alone = _posts(service, seconds)
    _measure_beside(results, service, seconds, alone, f"health, {what}", [HEALTH], PACE)
    pages = f"{PAGES} pages: health, list and timeline"
    _measure_beside(results, service, seconds, alone, pages, PAGE, len(PAGE) * PAGES // 2)
    results.add(report.Row("a post without requests beside it", f"p99 {alone.p99 * 1e3:.1f} ms"))


def _posts(service: Service, seconds: float) -> Load:
    return put_under_load(service.port, posts(16, 1, 200), clients=16, seconds=seconds, rate=PACE)


def _measure_beside(
    results: report.Report,
    service: Service,
    seconds: float,
    alone: Load,
    what: str,
    requests: Sequence[bytes],
    pace: float,
) -> None:
    """Ask for `requests` in turn while events are posted. alone: posts without that."""
    seen: list[str] = []
    with alarms(service, seen), ThreadPoolExecutor(1) as other:
        writing: Future[Load] = other.submit(_posts, service, seconds)
        asking = put_under_load(service.port, requests, clients=PAGES, seconds=seconds, rate=pace)
        beside = writing.result()
    times = f"p50 {asking.p50 * 1e3:.1f} ms, p99 {asking.p99 * 1e3:.1f} ms, slowest {asking.slowest * 1e3:.0f} ms"
    results.add(report.Row(f"{what}, {pace:.0f} requests/s", times, "p99 100 ms", asking.p99 <= P99_SECONDS))
    failed = sum(asking.failed.values())
    results.add(report.Row("answers other than 200", f"{failed} of {asking.requests:,}", "0", not failed))
    results.add(report.Row("false alarms", f"{len(seen)} {seen[0] if seen else ''}".strip(), "0", not seen))
    ratio = beside.p99 / alone.p99
    results.add(report.Row("a post beside them", f"p99 {beside.p99 * 1e3:.1f} ms, {ratio:.1f} × that without",
                           f"{MOST_SLOWER} ×", ratio <= MOST_SLOWER))  # fmt: skip


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_health", description=__doc__)
    parser.add_argument("--archives", type=int, default=10_000, help="number of archives in BACKUP_DIR")
    parser.add_argument("--restores", type=int, default=50, help="number of restores before")
    parser.add_argument("--seconds", type=float, default=60, help="how long each load lasts")
    report.add_options(parser, workers=2)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = options_of(arguments)
    with (
        report.measuring(options, "Health", INTRODUCTION) as (folder, results),
        serving.eventvault(folder, options.workers, {"JOURNAL_INTERVAL": "200"}) as service,
    ):
        prepare(service, options.archives, options.restores)
        what = f"{options.archives:,} archives, {options.restores} restores"
        measure(results, service, options.seconds, what)


if __name__ == "__main__":
    main()
