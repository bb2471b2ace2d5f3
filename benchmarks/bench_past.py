"""`make bench-past`: measures the first page of a past moment, and how long a hot restore delays other requests.

The targets apply to BENCH_OPTIONS='--size 2048'; `--help` lists all options.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks import report, serving
from benchmarks.bench_serve import MEGABYTE, fill, posts
from benchmarks.load import Load, http_request
from benchmarks.load import measure as put_under_load
from tests.service import Service

INTRODUCTION = """\
Made by `make bench-past`, over loopback: `GET /api/events?asOf=…&limit=100` at a moment in the middle. Cold: the
service was just started, and the system was asked to drop the database from the page cache. Warm: the median of reading
the same page again. A superseded generation is read from the previous database that a restore keeps. The delay of a
restore is the slowest post or get that was due at a fixed time during the restore, measured from the time it was due.
The restore goes to the moment in the middle, from a verified archive and the journal.
"""
COLD_SECONDS, WARM_SECONDS, WAIT_SECONDS = 3.0, 0.05, 0.5
PACE = 50
"""Posts and gets per second, together, during a restore."""


def moment_in_the_middle(service: Service) -> dict[str, str]:
    """Return the recorded time of the event in the middle, and its generation."""
    last = service.get("/api/events?limit=1").json()["lastSequence"]
    page = service.get(f"/api/events?limit=1&after={last // 2}").json()
    return {"asOf": page["events"][0]["recordedtime"], "generation": page["generation"]}


def read(service: Service, moment: dict[str, str]) -> float:
    """Return the seconds until the first page of the moment has arrived."""
    address = f"/api/events?{urlencode(moment)}&limit=100"
    began = time.perf_counter()
    reply = service.get(address)
    took = time.perf_counter() - began
    if reply.status != 200 or len(reply.json()["events"]) != 100:
        raise SystemExit(f"GET {address} answered {reply.status}: {reply.body[:500]!r}")
    return took


def drop_from_page_cache(folder: Path) -> None:
    """Ask the system to drop the files below `folder` from its page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def measure(results: report.Report, what: str, cold: Callable[[], float], warm: Callable[[], float]) -> None:
    first = cold()
    again = statistics.median(warm() for _ in range(20))
    results.add(report.Row(f"{what}, cold", f"{first * 1e3:.0f} ms", "3,000 ms", first <= COLD_SECONDS))
    results.add(report.Row(f"{what}, warm", f"{again * 1e3:.1f} ms", "50 ms", again <= WARM_SECONDS))


def timed_post(service: Service, address: str, body: dict[str, str]) -> tuple[float, dict[str, Any]]:
    """Return the seconds of a POST that must succeed, and its answer."""
    began = time.perf_counter()
    reply = service.post(address, body, timeout=3600)
    if reply.status != 200:
        raise SystemExit(f"POST {address} answered {reply.status}: {reply.body[:500]!r}")
    return time.perf_counter() - began, reply.json()


def measure_delay(results: report.Report, what: str, service: Service, address: str, body: dict[str, str]) -> str:
    """Restore alone to learn the duration, undo, restore under load. Return the superseded generation."""
    alone, _ = timed_post(service, address, body)
    results.add(report.Row(f"{what}, alone", f"{alone:.1f} s"))
    timed_post(service, "/api/backup/undo", {})
    lasts = 2 * alone + 5
    requests = [request for post in posts(16, 1, 200) for request in (post, http_request("GET", "/api/events?limit=1"))]
    with ThreadPoolExecutor(1) as other:
        load: Future[Load] = other.submit(put_under_load, service.port, requests, clients=16, seconds=lasts, rate=PACE)
        beside, answer = timed_post(service, address, body)
        if load.done():
            raise SystemExit(f"{what} took {beside:.1f} s, longer than the load beside it")
        seen = load.result()
    wait = f"{seen.slowest * 1e3:.0f} ms (p50 {seen.p50 * 1e3:.1f} ms, p99 {seen.p99 * 1e3:.1f} ms)"
    good = seen.slowest <= WAIT_SECONDS
    results.add(report.Row(f"{what}: the longest that a post or a get waited", wait, "500 ms", good))
    results.add(report.Row(f"{what}: requests that failed meanwhile", f"{seen.failed or 0}", "0", not seen.failed))
    previous_generation: str = answer["undo"]["generation"]
    return previous_generation


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_past", description=__doc__)
    parser.add_argument("--size", type=int, default=100, help="size of the events in MB")
    report.add_options(parser, workers=2)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = options_of(arguments)
    with report.measuring(options, "The past", INTRODUCTION) as (folder, results):
        with serving.eventvault(folder, options.workers) as service:
            fill(service, options.size)
            moment = moment_in_the_middle(service)
            name = service.post("/api/backup/create", timeout=3600).json()["name"]
            timed_post(service, f"/api/backup/{name}/verify", {})
        drop_from_page_cache(folder)
        with serving.eventvault(folder, options.workers) as service:
            subject = f"a moment of {options.size:,} MB"
            present = {"asOf": moment["asOf"]}
            measure(results, subject, lambda: read(service, present), lambda: read(service, present))
            back = {"pointInTime": moment["asOf"], "generation": moment["generation"]}
            description = f"a restore into {options.size:,} MB"
            previous = {
                **moment,
                "generation": measure_delay(results, description, service, "/api/backup/restore", back),
            }
        drop_from_page_cache(folder)
        with serving.eventvault(folder, options.workers) as service:
            subject = f"{subject} in a generation that was left behind"
            measure(results, subject, lambda: read(service, previous), lambda: read(service, previous))
        held = sum(path.stat().st_size for path in folder.rglob("*.ldb")) // MEGABYTE
        results.add(report.Row("tables on disk at the end, hard links counted each time", f"{held:,} MB"))


if __name__ == "__main__":
    main()
