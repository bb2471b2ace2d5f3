"""`make bench-rehearsal`: compares rehearsals with restores by hand, and measures how they delay posts.

BENCH_OPTIONS='--size 100 --rounds 1' makes it short; `--help` lists all options.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import events, report, serving
from benchmarks.bench_backup import DATABASE, MEGABYTE, created, timed_post
from benchmarks.bench_serve import posts
from benchmarks.load import Load
from benchmarks.load import measure as put_under_load
from tests.service import Service

INTRODUCTION = """\
Made by `make bench-rehearsal`. A database of {size:,} MB with one archive of it, verified, as after a backup. A
rehearsal of the archive and a restore of it by hand take turns in {rounds} rounds, each timed as a whole request; the
best time of each counts, because noise only adds. `rtoSeconds` is what the rehearsal itself says. Posts come at a fixed
pace, with and without a rehearsal beside them.
"""
MOST_TIMES_RESTORE, MOST_OFF, MOST_TIMES_IDLE = 1.5, 0.3, 2.0
PACE = 50
"""Posts per second."""


def timed(service: Service, address: str, body: dict[str, object] | None = None) -> tuple[float, dict[str, Any]]:
    return timed_post(service, address, body)


def measure(service: Service, name: str, rounds: int, results: report.Report) -> None:
    """Let rehearsals and restores take turns. The first of each is left out: it warms the page cache."""
    rehearsals, restores, measured = list[float](), list[float](), list[float]()
    for number in range(rounds + 1):
        rehearsed, answer = timed(service, f"/api/backup/{name}/rehearse")
        restored, _ = timed(service, "/api/backup/restore", {"backupName": name})
        if not answer["rehearsal"]["ok"] or answer["rehearsal"]["compared"] != answer["rehearsal"]["events"]:
            raise SystemExit(f"the rehearsal found {answer['rehearsal']}")
        if number:
            rehearsals.append(rehearsed)
            restores.append(restored)
            measured.append(answer["rehearsal"]["rtoSeconds"])
    rehearsal, restore, rto = min(rehearsals), min(restores), min(measured)
    results.add(report.Row("a restore by hand", f"{restore:.2f} s"))
    ratio = rehearsal / restore
    results.add(
        report.Row(
            "a rehearsal", f"{rehearsal:.2f} s, {ratio:.2f}×", f"{MOST_TIMES_RESTORE}×", ratio <= MOST_TIMES_RESTORE
        )
    )
    off = abs(rto / restore - 1)
    results.add(report.Row("its `rtoSeconds`", f"{rto:.2f} s, {off:.0%} off", f"{MOST_OFF:.0%}", off <= MOST_OFF))


def measure_delay(service: Service, name: str, results: report.Report) -> None:
    lasts = timed(service, f"/api/backup/{name}/rehearse")[0] + 2
    requests = posts(16, 1, 200)
    idle = put_under_load(service.port, requests, clients=16, seconds=lasts, rate=PACE)
    with ThreadPoolExecutor(1) as other:
        load: Future[Load] = other.submit(put_under_load, service.port, requests, clients=16, seconds=lasts, rate=PACE)
        timed(service, f"/api/backup/{name}/rehearse")
        beside = load.result()
    results.add(report.Row("posts alone, p99", f"{idle.p99 * 1e3:.1f} ms"))
    ratio = beside.p99 / idle.p99
    shown = f"{beside.p99 * 1e3:.1f} ms, {ratio:.1f}×"
    results.add(report.Row("posts beside a rehearsal, p99", shown, f"{MOST_TIMES_IDLE:.0f}×", ratio <= MOST_TIMES_IDLE))
    failed = {**idle.failed, **beside.failed}
    results.add(report.Row("posts that failed meanwhile", f"{failed or 0}", "0", not failed))


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_rehearsal", description=__doc__)
    parser.add_argument("--size", type=int, default=1000, help="size of the database in MB")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of rehearsals and restores")
    report.add_options(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = options_of(arguments)
    results = report.Report("Rehearsals")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="eventvault-benchmark-") as name:
        folder = Path(name)
        database = folder / "STORAGE_DIR" / DATABASE
        events.fill(database, options.size * MEGABYTE)
        events.settle(database)
        with serving.caught_up(folder, {"KEEP_UNDO": "0"}) as service:
            created(service)
            backup = service.get("/api/backup/list").json()["backups"][0]["name"]
            measure(service, backup, options.rounds, results)
            measure_delay(service, backup, results)
        introduction = INTRODUCTION.format(size=options.size, rounds=options.rounds)
        report.write(options.page, introduction, results, folder)
    print(f"written: {options.page}")


if __name__ == "__main__":
    main()
