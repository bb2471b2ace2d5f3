"""`make bench-journal`: measures the journal's cost for posts, the speed of replay, and the seconds at risk.

BENCH_OPTIONS='--seconds 2 --events 50000' makes it short; `--help` lists all options.
"""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks import report, serving
from benchmarks.bench_serve import event_body, posts
from benchmarks.load import measure
from eventvault import clock
from eventvault.database.generation import Generation
from eventvault.events import event
from eventvault.journal import segment
from eventvault.journal.segment import SegmentInfo
from eventvault.restore.moments.build_chore import prepare_moment
from tests.service import Service

OFF = "86400000"
"""An interval that is never reached."""
GENERATION = Generation("0123456789abcdef", None, 0, "created", 1)
LINES = 20_000
INTRODUCTION = """\
Made by `make bench-journal`, over loopback, with a load generator of one process, 16 clients and two gunicorn workers.
"With the journal" uses the default `JOURNAL_INTERVAL`, "without it" an interval that is never reached. They take turns
in short rounds, because two rounds differ more than the two settings do; the median counts. Replay fills a fresh
database, checks every segment, and ends when the database is synced. Seconds at risk are read from health ten times a
second under a constant load.
"""


def main() -> None:
    options = _options()
    with report.measuring(options, "The journal", INTRODUCTION) as (folder, results):
        compare_posts(options, folder, results)
        replay(options, folder, results)
        at_risk(options, folder, results)


def compare_posts(options: argparse.Namespace, folder: Path, results: report.Report) -> None:
    """Measure posts per second with and without the journal in turn; the median of the rounds counts."""
    kinds = (("single posts", posts(64, 1, 200)), ("posts of 100 events", posts(16, 100, 200)))
    with _service(folder / "on", "1000") as on, _service(folder / "off", OFF) as off:
        for name, requests in kinds:
            rates: dict[int, list[float]] = {on.port: [], off.port: []}
            for number in range(options.rounds):
                for port in (on.port, off.port) if number % 2 else (off.port, on.port):
                    rates[port].append(measure(port, requests, clients=options.clients, seconds=options.seconds).rate)
            ratio = statistics.median(rates[on.port]) / statistics.median(rates[off.port])
            results.add(report.Row(f"{name}, with the journal", _spread(rates[on.port])))
            results.add(report.Row(f"{name}, without it", _spread(rates[off.port])))
            results.add(report.Row(f"{name}, with as a part of without", f"{ratio:.3f}", "0.95", ratio >= 0.95))


def _spread(rates: list[float]) -> str:
    low, median, high = statistics.quantiles(rates, n=4)
    return f"{median:,.0f} requests/s ({low:,.0f} to {high:,.0f} in the middle half of {len(rates)} rounds)"


def replay(options: argparse.Namespace, folder: Path, results: report.Report) -> None:
    """Measure a replay into a fresh database, including all checks and the sync."""
    journal = folder / "journal" / GENERATION.id
    journal.mkdir(parents=True)
    paths = [_segment(journal, first, options.events) for first in range(1, options.events + 1, LINES)]
    order = {
        "staging": str(folder / "replayed"), "segments": [[str(path), options.events] for path in paths],
        "generation": GENERATION.id, "sequence": options.events, "store_id": "0" * 16, "reason": "point in time",
        "generations": [{"id": GENERATION.id, "parent": None, "forkSequence": 0, "reason": "created", "at": 1}],
    }  # fmt: skip
    began = time.perf_counter()
    prepare_moment(order=order)
    seconds = time.perf_counter() - began
    rate = options.events / seconds
    results.add(report.Row(f"replay of {options.events:,} events", f"{rate:,.0f} events/s", "100,000", rate >= 1e5))


def at_risk(options: argparse.Namespace, folder: Path, results: report.Report) -> None:
    """Measure the maximum of seconds at risk under about 5,000 events per second, read every 100 ms."""
    seen: list[float] = []
    ended = threading.Event()
    with _service(folder / "risk", "1000") as one:

        def ask() -> None:
            while not ended.wait(0.1):
                seen.append(one.get("/api/health").json()["journal"]["secondsAtRisk"])

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            load = measure(one.port, posts(16, 100, 200), clients=4, seconds=options.risk_seconds, rate=50)
        finally:
            ended.set()
            asking.join()
    under = f"under {100 * load.rate:,.0f} events/s for {options.risk_seconds:,.0f} s"
    worst = max(seen)
    worst_text = f"{worst:.2f} s in {len(seen):,} looks"
    results.add(report.Row(f"most seconds at risk, {under}", worst_text, "1.5 s", worst <= 1.5))


def _segment(folder: Path, first: int, events: int) -> Path:
    words, instant = random.Random(first), clock.now()
    bodies = [event_body(words, 300) for _ in range(min(LINES, events + 1 - first))]
    lines = [
        event.recorded_body(event.draft(body, instant).body, first + number, instant)
        for number, body in enumerate(bodies)
    ]
    about = SegmentInfo(store_id="0" * 16, installation="bench", generation=GENERATION, first=first)
    return segment.write_segment(folder, about, lines).path


def _service(folder: Path, interval: str) -> AbstractContextManager[Service]:
    folder.mkdir()
    return serving.eventvault(folder, 2, {"JOURNAL_INTERVAL": interval})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of each round of posts")
    parser.add_argument("--rounds", type=int, default=60, help="number of rounds, at least 2")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--events", type=int, default=1_000_000, help="number of events to replay")
    parser.add_argument("--risk-seconds", type=float, default=600.0, help="seconds to measure the seconds at risk")
    report.add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
