"""`make bench-jobs`: measures jobs with a broker and without, beside Celery and Dramatiq in the same run.

`--only` chooses parts; `--help` lists all options.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks import report
from benchmarks.bench_serve import posts
from benchmarks.job_sides import (
    BATCH,
    SLOTS,
    WORKERS,
    EventVault,
    Side,
    celery,
    dramatiq,
    eventvault,
    have_peers,
    redis,
)  # fmt: skip
from benchmarks.load import Load, measure, quantile
from benchmarks.waiting_jobs import measure_waiting
from tests import processes
from tests.kafka_process import KafkaBroker, KafkaUnavailable

LATENCY_RATE, JOB_RATE, POST_RATE = 16, 1_000, 100
AT_ONCE = 10
"""Jobs that are submitted at once beside the posts of events."""
INTRODUCTION = """\
Made by `make bench-jobs`, over loopback: two workers of two executors each, a job that does nothing, results kept.
EventVault runs without a broker (the workers join the dispatcher's socket) and with one (Apache Kafka, one node).
Celery and Dramatiq have as many slots. They acknowledge a job once it is done (Celery: `task_acks_late` and
`task_reject_on_worker_lost`) and keep results in Redis with `appendfsync always`: as somebody configures them who may
not lose a job. All take turns in the same run, and the median of the rounds counts. Drained: the jobs wait already, and
the time runs from the first 5 % until the last result. End to end: from before the first is submitted until the last
result, by one client. EventVault's posts 100 jobs at a time; the other two have no such call. CPU is user and system
time of dispatcher and workers, end to end, from `/proc`: without clients, gunicorn, Kafka and Redis. Latency is
measured from the time when a POST was due. Beside the posts of events ten jobs are submitted at a time, evenly: over
HTTP, where they are 100 more requests a second for the same processes, and to the dispatcher's socket. Jobs and events
are sent by the same cheap client.
"""
PARTS = ("speed", "latency", "posts", "waiting")
DRAINED, THROUGH, CPU = "drained", "end to end", "CPU"
SOCKET, KAFKA = "EventVault, no broker", "EventVault, Kafka"
FIRST_PART = 0.05
LOOK_SECONDS = 0.02
LATENCY_MS = {SOCKET: 15, KAFKA: 30}
LEAST = {SOCKET: 3_000, KAFKA: 2_000}
TIMES = {"Celery": 5, "Dramatiq": 2}
MOST_CPU_US, MOST_TIMES = 300, 1.3
PATIENCE = 300.0


# How many jobs a second.


def compare_speed(sides: Sequence[Side], options: argparse.Namespace, results: report.Report) -> None:
    seen: dict[tuple[str, str], list[float]] = defaultdict(list)
    for side in sides:
        through(side, WORKERS * SLOTS * 50)
    for _ in range(options.rounds):
        for side in sides:
            seen[DRAINED, side.name].append(drained(side, options.jobs))
        for side in sides:
            rate, cpu = through(side, options.jobs)
            seen[THROUGH, side.name].append(rate)
            seen[CPU, side.name].append(cpu)
    names = [side.name for side in sides]
    for what in (DRAINED, THROUGH):
        _compare_rates(what, {name: seen[what, name] for name in names}, results)
    for name in names:
        cpu = statistics.median(seen[CPU, name])
        target = (f"{MOST_CPU_US} µs", cpu <= MOST_CPU_US) if name in LEAST else ("", None)
        results.add(report.Row(f"CPU of a job: {name}", f"{cpu:,.0f} µs", *target))


def _compare_rates(what: str, rates: dict[str, list[float]], results: report.Report) -> None:
    for name, seen in rates.items():
        results.add(_row_of_rate(what, name, seen))
    for ours in (name for name in LEAST if name in rates):
        for peer in (name for name in TIMES if name in rates):
            times = statistics.median(rates[ours]) / statistics.median(rates[peer])
            row = f"{what}: {ours}, as a multiple of {peer}"
            results.add(report.Row(row, f"{times:.1f} ×", f"{TIMES[peer]} ×", times >= TIMES[peer]))


def _row_of_rate(what: str, name: str, rates: Sequence[float]) -> report.Row:
    median = statistics.median(rates)
    span = f"{median:,.0f} jobs/s ({min(rates):,.0f} to {max(rates):,.0f})"
    if name not in LEAST:
        return report.Row(f"{what}: {name}", span)
    return report.Row(f"{what}: {name}", span, f"{LEAST[name]:,}", median >= LEAST[name])


def drained(side: Side, count: int) -> float:
    """Return the jobs a second of jobs that wait already. The start of workers is not in it."""
    side.hold()
    before = side.done()
    side.submit(count)
    side.release()
    begun = _wait_for(side, before + int(count * FIRST_PART))
    began = time.perf_counter()
    _wait_for(side, before + count)
    return (before + count - begun) / (time.perf_counter() - began)


def through(side: Side, count: int) -> tuple[float, float]:
    """Return the jobs a second from the first submission to the last result, and the CPU of a job in µs."""
    before, cpu = side.done(), side.cpu()
    began = time.perf_counter()
    side.submit(count)
    _wait_for(side, before + count)
    seconds = time.perf_counter() - began
    return count / seconds, (side.cpu() - cpu) / count * 1e6


def _wait_for(side: Side, count: int) -> int:
    """Return how many results there are once there are `count`."""
    deadline = time.monotonic() + PATIENCE
    while (done := side.done()) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{side.name}: {done} of {count} jobs are done after {PATIENCE:.0f} s")
        time.sleep(LOOK_SECONDS)
    return done


# How soon a job begins.


def measure_latency(side: EventVault, options: argparse.Namespace, results: report.Report) -> None:
    """Submit jobs at a fixed pace, and compare when each was due with when its handler began."""
    count = int(options.seconds * LATENCY_RATE)
    due: dict[str, float] = {}
    side.submit(BATCH)
    begin = time.monotonic()
    for number in range(count):
        at = begin + number / LATENCY_RATE
        time.sleep(max(0.0, at - time.monotonic()))
        text = side.post(json.dumps({"type": "stamp"}))
        due[json.loads(text)["results"][0]["id"]] = at
    waits = sorted((_begun(side, job_id) - at) * 1e3 for job_id, at in due.items())
    median, most = statistics.median(waits), LATENCY_MS[side.name]
    what = f"from POST to the handler's first line, {LATENCY_RATE} a second: {side.name}"
    times = f"p50 {median:.1f} ms, p99 {quantile(waits, 0.99):.1f} ms, slowest {waits[-1]:.0f} ms"
    results.add(report.Row(what, times, f"p50 {most} ms", median <= most))


def _begun(side: EventVault, job_id: str) -> float:
    processes.wait_until(lambda: side.client.job(job_id).job.state == "done", f"job {job_id} is not done", PATIENCE)
    return float(msgspec.json.decode(side.client.job(job_id).result or b"0", type=int)) / 1e9


# What jobs cost the posts of events.


def measure_posts(side: EventVault, options: argparse.Namespace, results: report.Report) -> None:
    """Post events at a fixed pace, with jobs beside them and without, turn about."""
    requests = posts(64, 1, 200)
    loads: dict[str, list[Load]] = defaultdict(list)
    rates: list[float] = []
    submitting = {"submitted over HTTP": side.submit, "submitted to the dispatcher": side.submit_directly}

    def load(what: str) -> None:
        loads[what].append(measure(side.service.port, requests, clients=8, seconds=options.seconds, rate=POST_RATE))

    for _ in range(options.rounds):
        load("without jobs")
        for how, submit in submitting.items():
            with _jobs_beside(side, submit) as rates_beside:
                load(how)
            rates += rates_beside
    p99 = {what: statistics.median(each.p99 for each in seen) * 1e3 for what, seen in loads.items()}
    without = p99.pop("without jobs")
    row = f"{POST_RATE} posts/s of an event without jobs: {side.name}"
    results.add(report.Row(row, f"p99 {without:.1f} ms"))
    for how, beside in p99.items():
        times = beside / without
        row = f"the same beside {JOB_RATE:,} jobs/s {how}, as a multiple: {side.name}"
        results.add(report.Row(row, f"{times:.2f} (p99 {beside:.1f} ms)", f"{MOST_TIMES}", times <= MOST_TIMES))
    results.add(report.Row(f"jobs that were done meanwhile: {side.name}", f"{statistics.median(rates):,.0f}/s"))


@contextmanager
def _jobs_beside(side: EventVault, submit: Callable[[int], None]) -> Iterator[list[float]]:
    """Submit JOB_RATE jobs a second while the block runs. The list gets how many were done a second."""
    ending = threading.Event()
    rates: list[float] = []

    def submit_evenly() -> None:
        number = 0
        while not ending.wait(max(0.0, began + number * AT_ONCE / JOB_RATE - time.monotonic())):
            submit(AT_ONCE)
            number += 1

    before, began = side.done(), time.monotonic()
    thread = threading.Thread(target=submit_evenly)
    thread.start()
    try:
        yield rates
    finally:
        rates.append((side.done() - before) / (time.monotonic() - began))
        ending.set()
        thread.join(PATIENCE)
        processes.wait_until(lambda: not side.client.status().waiting, "the jobs are not done", PATIENCE)


# All of it.


def measure_jobs(folder: Path, options: argparse.Namespace, results: report.Report) -> None:
    with ExitStack() as stack:
        ours = [stack.enter_context(eventvault(SOCKET, folder / "socket", {}))]
        broker = _broker(stack, folder)
        if broker is not None:
            more = {"KAFKA_BOOTSTRAP_SERVERS": broker, "KAFKA_CREATE_TOPICS": "true", "KAFKA_EVENTS_TOPIC": "none"}
            ours.append(stack.enter_context(eventvault(KAFKA, folder / "kafka", more)))
        if "speed" in options.only:
            with ExitStack() as beside:
                compare_speed([*ours, *_peers(beside, folder, options)], options, results)
        for part, measured in (("latency", measure_latency), ("posts", measure_posts)):
            for side in ours if part in options.only else ():
                measured(side, options, results)


def _peers(stack: ExitStack, folder: Path, options: argparse.Namespace) -> list[Side]:
    if options.no_peers or not have_peers():
        print("Celery and Dramatiq are left out: there is no redis-server, or --no-peers was asked for")
        return []
    made: Sequence[Callable[..., object]] = (celery, dramatiq)
    return [
        stack.enter_context(peer(folder, stack.enter_context(redis(folder / f"redis-{number}"))))  # type: ignore[arg-type]
        for number, peer in enumerate(made)
    ]


def _broker(stack: ExitStack, folder: Path) -> str | None:
    broker = KafkaBroker(folder / "broker", os.getpid())
    try:
        broker.start()
    except KafkaUnavailable as reason:
        print(f"Kafka is left out: {reason}")
        return None
    stack.callback(broker.stop)
    return broker.bootstrap


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_jobs", description=__doc__)
    parser.add_argument("--jobs", type=int, default=5_000, help="number of jobs of one round")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of one load at a fixed pace")
    parser.add_argument("--waiting", type=int, default=1_000_000, help="number of waiting jobs")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--no-peers", action="store_true", help="leave out Celery and Dramatiq")
    parser.add_argument("--beside", default="", help="a sentence for the page about what else the machine did")
    report.add_options(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = options_of(arguments)
    beside = f"\n{options.beside}\n" if options.beside else ""
    with report.measuring(options, "Jobs", f"{INTRODUCTION}{beside}") as (folder, results):
        if set(options.only) - {"waiting"}:
            measure_jobs(folder, options, results)
        if "waiting" in options.only:
            measure_waiting(folder / "alone", options.waiting, results)


if __name__ == "__main__":
    main()
