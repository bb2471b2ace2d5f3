"""`make bench-rehearsal`: compares rehearsals with restores by hand, and measures how they delay posts.

BENCH_OPTIONS='--size 100 --rounds 1' makes it short; `--help` lists all options.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median
from typing import Any

from benchmarks import events, report, serving
from benchmarks.bench_backup import DATABASE, MEGABYTE, created, timed_post
from benchmarks.bench_serve import posts
from benchmarks.load import Load
from benchmarks.load import measure as put_under_load
from tests.service import Service

INTRODUCTION = """\
Made by `make bench-rehearsal`. A database of {size:,} MB with one archive of it, verified, as after a backup. In each
of {rounds} rounds the archive is rehearsed twice, then restored twice by hand, and the second of each is timed as a
whole request: a restore right after a rehearsal finds the memory that it freed and is faster than one at any other
time. The median of each counts. `rtoSeconds` is what the rehearsal itself says. Posts come at a fixed pace for
{seconds} s, first alone, then beside one rehearsal after another.
"""
MOST_TIMES_RESTORE, MOST_OFF, MOST_TIMES_IDLE = 1.5, 0.3, 2.0
PACE = 50
"""Posts per second."""


def timed(service: Service, address: str, body: dict[str, object] | None = None) -> tuple[float, dict[str, Any]]:
    return timed_post(service, address, body)


def measure(service: Service, name: str, rounds: int, results: report.Report) -> None:
    """Let rehearsals and restores take turns, two at a time; the first of two is not counted."""
    rehearsals, restores, measured = list[float](), list[float](), list[float]()
    for _ in range(rounds):
        rehearse(service, name)
        seconds, rto = rehearse(service, name)
        rehearsals.append(seconds)
        measured.append(rto)
        for _ in range(2):
            restored, _answer = timed(service, "/api/backup/restore", {"backupName": name})
        restores.append(restored)
    rehearsal, restore, rto = median(rehearsals), median(restores), median(measured)
    span = f"{min(restores):.2f} to {max(restores):.2f} s"
    results.add(report.Row("a restore by hand", f"{restore:.2f} s ({span})"))
    ratio = rehearsal / restore
    results.add(
        report.Row(
            "a rehearsal", f"{rehearsal:.2f} s, {ratio:.2f}×", f"{MOST_TIMES_RESTORE}×", ratio <= MOST_TIMES_RESTORE
        )
    )
    off = abs(rto / restore - 1)
    results.add(report.Row("its `rtoSeconds`", f"{rto:.2f} s, {off:.0%} off", f"{MOST_OFF:.0%}", off <= MOST_OFF))


def rehearse(service: Service, name: str) -> tuple[float, float]:
    """Rehearse the archive. Returns how long that took and what it says that a restore takes, in seconds."""
    seconds, answer = timed(service, f"/api/backup/{name}/rehearse")
    rehearsal = answer["rehearsal"]
    if not rehearsal["ok"] or rehearsal["compared"] != rehearsal["events"]:
        raise SystemExit(f"the rehearsal found {rehearsal}")
    return seconds, rehearsal["rtoSeconds"]


def measure_delay(service: Service, name: str, seconds: float, results: report.Report) -> None:
    requests = posts(16, 1, 200)
    idle = put_under_load(service.port, requests, clients=16, seconds=seconds, rate=PACE)
    rehearsed = 0
    with ThreadPoolExecutor(1) as other:
        load: Future[Load] = other.submit(
            put_under_load, service.port, requests, clients=16, seconds=seconds, rate=PACE
        )
        while not load.done():
            rehearse(service, name)
            rehearsed += 1
        beside = load.result()
    results.add(report.Row("posts alone, p99", f"{idle.p99 * 1e3:.1f} ms"))
    ratio = beside.p99 / idle.p99
    shown = f"{beside.p99 * 1e3:.1f} ms, {ratio:.1f}×"
    about = f"posts beside {rehearsed} rehearsals, p99"
    results.add(report.Row(about, shown, f"{MOST_TIMES_IDLE:.0f}×", ratio <= MOST_TIMES_IDLE))
    results.add(report.Row("the same, p50", f"{beside.p50 * 1e3:.1f} ms alone {idle.p50 * 1e3:.1f} ms"))
    failed = {**idle.failed, **beside.failed}
    results.add(report.Row("posts that failed meanwhile", f"{failed or 0}", "0", not failed))


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_rehearsal", description=__doc__)
    parser.add_argument("--size", type=int, default=1000, help="size of the database in MB")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of two rehearsals and two restores")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long posts come, alone and beside rehearsals")
    report.add_options(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = options_of(arguments)
    introduction = INTRODUCTION.format(size=options.size, rounds=options.rounds, seconds=f"{options.seconds:.0f}")
    with report.measuring(options, "Rehearsals", introduction) as (folder, results):
        database = folder / "STORAGE_DIR" / DATABASE
        events.fill(database, options.size * MEGABYTE)
        events.settle(database)
        with serving.caught_up(folder, {"KEEP_UNDO": "0"}) as service:
            created(service)
            backup = service.get("/api/backup/list").json()["backups"][0]["name"]
            measure(service, backup, options.rounds, results)
            measure_delay(service, backup, options.seconds, results)


if __name__ == "__main__":
    main()
