"""`make bench-import`: measures `events import` beside bulk posts, and `events export`, with their memory.

BENCH_OPTIONS='--events 100000' makes it short; `--help` lists all options.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from benchmarks import report, serving
from benchmarks.bench_serve import MEGABYTE, event_body
from benchmarks.load import http_request, measure
from tests import processes
from tests.service import PROJECT, Service, service_environment

INTRODUCTION = """\
Made by `make bench-import`. Bulk posts have 1,000 events a request and are sent over loopback by so many clients.
The import reads a file of the same events, with ids. Both take turns with the same service, and the median of the
rounds counts. The time of a command is that of its process from its start to its end. Memory is `RssAnon` of that
process: its own memory.
"""
BULK = 1000
DATA_BYTES = 200


class Ran(NamedTuple):
    """A command that has ended: its seconds, and the maximum of its memory in bytes."""

    seconds: float
    memory: int


def events(count: int, first: int) -> list[bytes]:
    """Return so many events, each with an id of its own."""
    chance = random.Random(first)
    return [
        orjson.dumps({**event_body(chance, DATA_BYTES), "id": f"bench-{first + number}"}) for number in range(count)
    ]


def run(service: Service, *arguments: str) -> Ran:
    """Run a command to its end. Exits if it fails."""
    settings = {name: str(service.folder(name)) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "events", *arguments],
        env=service_environment(settings, 0, "benchmark"),
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with processes.memory_watched(lambda: {process.pid: "command"}, str) as most:
        status = process.wait(3600)
        seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"events {' '.join(arguments)} exits {status}")
    return Ran(seconds, most.get("command", 0))


def measure_import(options: argparse.Namespace, service: Service, folder: Path, results: report.Report) -> None:
    """Compare an import with bulk posts, in turn."""
    posted: dict[int, list[float]] = {clients: [] for clients in options.clients}
    imported, memory, first = list[float](), 0, 0
    for _ in range(options.rounds):
        for clients, rates in posted.items():
            requests = [
                http_request("POST", "/api/events", b"[" + b",".join(events(BULK, first + number * BULK)) + b"]")
                for number in range(options.events // BULK)
            ]
            first += options.events
            load = measure(service.port, requests, clients=clients, seconds=3600, most=len(requests))
            if load.failed:
                raise SystemExit(f"bulk posts failed: {load.failed}")
            rates.append(load.rate * BULK)
        file = folder / "events.ndjson"
        file.write_bytes(b"\n".join(events(options.events, first)) + b"\n")
        first += options.events
        ran = run(service, "import", str(file))
        imported.append(options.events / ran.seconds)
        memory = max(memory, ran.memory)
    rate = statistics.median(imported)
    for clients, rates in posted.items():
        bulk = statistics.median(rates)
        what = f"bulk posts of {BULK:,}, {clients} {'client' if clients == 1 else 'clients'}"
        results.add(report.Row(what, f"{bulk:,.0f} events/s"))
        results.add(
            report.Row(f"an import as a part of these, {clients}", f"{rate / bulk:.2f}", "0.9", rate >= 0.9 * bulk)
        )
    results.add(report.Row(f"an import of {options.events:,} events", f"{rate:,.0f} events/s"))
    _add_memory(results, "an import", memory)


def measure_export(service: Service, folder: Path, results: report.Report) -> None:
    """Export everything that is there, plain and compressed."""
    count = service.get("/api/events?limit=1").json()["lastSequence"]
    for name in ("all.ndjson", "all.ndjson.gz", "all.ndjson.zst"):
        ran = run(service, "export", "-o", str(folder / name), "--overwrite")
        rate = count / ran.seconds
        results.add(
            report.Row(f"an export of {count:,} events to {name}", f"{rate:,.0f} events/s", "100,000", rate >= 1e5)
        )
        _add_memory(results, f"an export to {name}", ran.memory)


def _add_memory(results: report.Report, what: str, size: int) -> None:
    row = report.Row(f"memory of {what}", f"{size / MEGABYTE:.0f} MB", "200 MB", size <= 200 * MEGABYTE)
    results.add(row)


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_import", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000, help="events of one round")
    parser.add_argument("--rounds", type=int, default=3, help="how often posts and import take turns")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4], help="numbers of clients of bulk posts")
    report.add_options(parser, workers=2)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = options_of(arguments)
    with (
        report.measuring(options, "Imports and exports", INTRODUCTION) as (folder, results),
        serving.eventvault(folder, options.workers) as service,
    ):
        measure_import(options, service, folder, results)
        measure_export(service, folder, results)


if __name__ == "__main__":
    main()
