"""`make bench-serve`: measures durable posts, what a backup costs them, and the memory of all processes.

BENCH_OPTIONS='--size 200 --seconds 2' makes it short; `--help` lists all options.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks import memory, report, serving
from benchmarks.load import Load, http_request, measure
from tests import processes
from tests.service import Service

MEGABYTE = 2**20
KILLS, KILL_EVERY = 5, 3.0
"""The number of kills of each process, and the seconds between two."""
INTRODUCTION = """\
Made by `make bench-serve`, over loopback, with a load generator of one process. Every post is durable: it is answered
when the event is on disk. Bare Flask is a 'hello' under the same gunicorn with the same workers and threads. It takes
turns with the service in the same run, and the median of the rounds counts. Latencies during a backup and during a
`kill -9` are those of posts that are due at fixed times, measured from the time they were due. So a stall counts for
every post that it delays. Memory is `RssAnon`: a process's own memory, without the tables that LevelDB maps. "A core
left free" means that the process that writes the archive may not use one of the cores. Then the disk causes what a
backup adds to the p99: in one trace, during backups of 700 MB, the 99th percentile of the store's own `fdatasync` was
6.1 ms instead of 0.6 ms, because it waits for the 2 MiB of the archive that are being written. No archive is rotated
meanwhile: on ext4 mounted with `discard`, as here, removing one of 200 to 600 MB delays posts by 20 to 50 ms.
"""


def event_body(words: random.Random, size: int) -> dict[str, object]:
    """Return an event with about `size` bytes of JSON data, about as compressible as real ones."""
    text = " ".join(f"{words.getrandbits(32):x} order shipped" for _ in range(max(1, size // 23)))
    return {"type": "order.shipped", "source": "/benchmark", "subject": "order", "data": {"note": text}}


def posts(count: int, events: int, size: int) -> list[bytes]:
    """Return `count` different requests of `events` events each."""
    words = random.Random(4711)
    bodies = ([event_body(words, size) for _ in range(events)] for _ in range(count))
    return [http_request("POST", "/api/events", json.dumps(b[0] if events == 1 else b).encode()) for b in bodies]


def compare_single_posts(options: argparse.Namespace, folder: Path, results: report.Report) -> None:
    """Compare single posts with 'hello' in turn."""
    requests = posts(64, 1, 200)
    hello: list[Load] = []
    ours: list[Load] = []
    with serving.bare_flask(folder, options.workers) as bare, serving.eventvault(folder, options.workers) as service:
        for _ in range(options.rounds):
            for server, sent, loads in ((bare, [http_request("GET", "/")], hello), (service, requests, ours)):
                loads.append(measure(server.port, sent, clients=options.clients, seconds=options.seconds))
        batches = measure(service.port, posts(16, 100, 200), clients=options.clients, seconds=options.seconds)
    answers = [item for load in (*hello, *ours, batches) for item in load.failed.items()]
    failed = [f"{count} x {status}" for status, count in answers]
    first, second = (statistics.median(load.rate for load in loads) for loads in (hello, ours))
    ratio = second / first
    with_clients = f"{options.clients} clients, {options.workers} workers"
    results.add(report.Row(f"bare Flask 'hello', {with_clients}", f"{first:,.0f} requests/s"))
    results.add(report.Row(f"durable single posts, {with_clients}", f"{second:,.0f} events/s"))
    results.add(report.Row("single posts as a part of 'hello'", f"{ratio:.2f}", "0.35", ratio >= 0.35))
    events = batches.rate * 100
    results.add(report.Row(f"batches of 100, {with_clients}", f"{events:,.0f} events/s", "25,000", events >= 25_000))
    results.add(report.Row("requests that failed", ", ".join(failed) or "0", "0", not failed))


def fill(service: Service, megabytes: int) -> None:
    """Post about `megabytes` of events."""
    requests = posts(32, 100, 4000)
    count = megabytes * MEGABYTE // len(requests[0])
    measure(service.port, requests, clients=4, seconds=3600, most=count)


@contextmanager
def back_up_repeatedly(service: Service) -> Iterator[list[int]]:
    """Make one backup after another while the block runs. Yields their durations in milliseconds."""
    durations: list[int] = []

    def back_up() -> None:
        durations.append(service.post("/api/backup/create", timeout=3600).json()["durationMs"])

    with processes.repeated(back_up):
        yield durations


@contextmanager
def without_one_core(service: Service) -> Iterator[None]:
    """Keep backups that begin while the block runs off one core, as on a larger machine."""
    cores = sorted(os.sched_getaffinity(0))[1:]
    children = [Path("/proc") / str(pid) / "task" for pid in service.stores()]
    confined: set[str] = set()

    def confine() -> None:
        for pid in (pid for store in children for path in store.glob("*/children") for pid in _words(path)):
            if pid not in confined:
                confined.add(pid)
                with suppress(OSError):
                    os.sched_setaffinity(int(pid), cores)

    with processes.repeated(confine, 0.01):
        yield


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def measure_cost_of_a_backup(options: argparse.Namespace, service: Service, results: report.Report) -> None:
    """Measure the p99 latency of posts with and without backups, at a pace that does not use all cores."""
    requests = posts(64, 1, 200)
    seconds = options.seconds * options.rounds
    paced = f"{options.pace} posts/s over {options.size:,} MB"

    def load(what: str) -> Load:
        seen = measure(service.port, requests, clients=8, seconds=seconds, rate=options.pace)
        times = f"p50 {seen.p50 * 1e3:.1f} ms, p99 {seen.p99 * 1e3:.1f} ms, slowest {seen.slowest * 1e3:.0f} ms"
        results.add(report.Row(f"{paced}, {what}", times))
        return seen

    load("no backup, first")
    idle = load("no backup")
    with back_up_repeatedly(service):
        load("one backup after another on all cores")
    with without_one_core(service), back_up_repeatedly(service):
        busy = load("one backup after another, a core left free")
    added = (busy.p99 - idle.p99) * 1e3
    what = "what a backup adds to the p99 of a post, a core left free"
    results.add(report.Row(what, f"{added:.1f} ms", "10 ms", added < 10))
    times = busy.p99 / idle.p99
    what = "the p99 beside a backup as a multiple of that without, a core left free"
    results.add(report.Row(what, f"{times:.2f}", "2", times <= 2))


def measure_kills(options: argparse.Namespace, service: Service, results: report.Report) -> None:
    """Measure how long posts wait while a process of the service is killed repeatedly."""
    requests, seconds = posts(64, 1, 200), KILLS * KILL_EVERY
    for role, running in (("store", service.stores), ("worker", service.workers)):
        with ThreadPoolExecutor(1) as beside:
            load = beside.submit(measure, service.port, requests, clients=8, seconds=seconds, rate=options.pace)
            for _ in range(KILLS):
                time.sleep(KILL_EVERY / 2)
                os.kill(running()[0], signal.SIGKILL)
                time.sleep(KILL_EVERY / 2)
            seen = load.result()
        wait = f"{seen.slowest * 1e3:,.0f} ms"
        what = f"kill -9 of a {role}, {KILLS} times: the longest that a post waited"
        results.add(report.Row(what, wait, "2,000 ms", seen.slowest <= 2))
        failed = seen.failed
        lost = failed.pop("hung up", 0) if role == "worker" else 0
        failures_text = f"{failed or 0}" + (f", and {lost} connections that the worker held" if lost else "")
        results.add(report.Row(f"kill -9 of a {role}: requests that failed", failures_text, "0", not failed))


def measure_memory(service: Service, results: report.Report) -> None:
    """Measure the maximum memory of each process during a backup and a restore."""
    with memory.watched(service.mark) as backing_up:
        made = service.post("/api/backup/create", {"label": "benchmark"}, timeout=3600).json()
    results.add(
        report.Row(f"a backup of {made['events']:,} events", seconds_and_size(made["durationMs"], made["size"]))
    )
    with memory.watched(service.mark) as restoring:
        reply = service.post("/api/backup/restore", {"backupName": made["name"]}, timeout=3600)
    restored = service.get("/api/health").json()["lastRestore"]
    outcome = seconds_and_size(restored["durationMs"], made["size"]) if reply.status == 200 else str(reply.body)
    results.add(report.Row("restoring it", outcome))
    for doing, most in (("backing up", backing_up), ("restoring", restoring)):
        for role, size in sorted(most.items()):
            held = f"{size / MEGABYTE:.0f} MB"
            results.add(report.Row(f"memory while {doing}: {role}", held, "300 MB", size < 300 * MEGABYTE))


def seconds_and_size(milliseconds: int, size: int) -> str:
    return f"{milliseconds / 1000:.1f} s, {size / MEGABYTE:,.0f} MB archive"


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_serve", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of one round")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--pace", type=float, default=50, help="posts per second during a backup")
    parser.add_argument(
        "--size", type=int, default=2048, help="size of the events for the backup and the restore in MB"
    )
    report.add_options(parser, workers=2)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = options_of(arguments)
    with report.measuring(options, "Serving", INTRODUCTION) as (folder, results):
        (folder / "posts").mkdir()
        compare_single_posts(options, folder / "posts", results)
        with serving.eventvault(folder, options.workers, {"MAX_BACKUPS": "1000"}) as service:
            fill(service, options.size)
            measure_cost_of_a_backup(options, service, results)
            measure_kills(options, service, results)
            measure_memory(service, results)


if __name__ == "__main__":
    main()
