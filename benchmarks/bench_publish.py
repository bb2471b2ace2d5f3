"""`make bench-publish`: measures what publishing to Kafka costs durable posts, with a real broker on the same machine.

It needs Java and Maven, as the tests with a broker do. `--help` lists all options.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import report, serving
from benchmarks.bench_serve import posts
from benchmarks.load import measure
from tests.kafka_broker import Kafka
from tests.kafka_process import KafkaBroker
from tests.processes import wait_until
from tests.service import Service

INTRODUCTION = """\
Made by `make bench-publish`, over loopback, with batches of 100 events of about 200 bytes. A service that publishes and
one that does not take turns in the same run, and in each round another one begins; the median of the rounds counts. The
broker, a JVM, runs on the same cores and takes what is published meanwhile. After each measurement the backlog is
published and the journal catches up, which is not timed, so that no work of one service falls into the other's time.
"""
TARGET = 0.85
PATIENCE_SECONDS = 600.0


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    with report.measuring(options, "Publishing to Kafka", INTRODUCTION) as (folder, results):
        broker = KafkaBroker(folder / "kafka", os.getpid())
        broker.prepare()
        broker.start()
        try:
            _compare(options, folder, Kafka(broker.bootstrap), results)
        finally:
            broker.stop()


def _compare(options: argparse.Namespace, folder: Path, kafka: Kafka, results: report.Report) -> None:
    topic, events = kafka.topic(partitions=3), kafka.topic()
    brokers = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": events, "JOBS_ENABLED": "false"}
    requests = posts(16, 100, 200)
    off, on = list[float](), list[float]()
    (folder / "off").mkdir()
    (folder / "on").mkdir()
    with (
        serving.eventvault(folder / "off", options.workers, brokers) as silent,
        serving.eventvault(folder / "on", options.workers, {**brokers, "KAFKA_PUBLISH_TOPIC": topic}) as publishing,
    ):
        for number in range(options.rounds):
            turns = [(silent, off), (publishing, on)]
            for service, rates in turns if number % 2 == 0 else reversed(turns):
                load = measure(service.port, requests, clients=options.clients, seconds=options.seconds)
                rates.append(100 * load.rate)
                began, backlog = time.monotonic(), _backlog(publishing)
                wait_until(lambda: _backlog(publishing) == 0, "the backlog is not published", PATIENCE_SECONDS)
                wait_until(partial(serving.is_journaled, service), "the journal does not catch up", PATIENCE_SECONDS)
                print(f"backlog {backlog} published in {time.monotonic() - began:.1f} s", flush=True)
    first, second = statistics.median(off), statistics.median(on)
    pairs = ", ".join(f"{theirs / ours:.2f}" for ours, theirs in zip(off, on, strict=True))
    results.add(report.Row("batches of 100, nothing is published", f"{first:,.0f} events/s"))
    results.add(report.Row("batches of 100, all is published", f"{second:,.0f} events/s"))
    ratio = second / first
    results.add(
        report.Row(f"published as a part of not (pairs: {pairs})", f"{ratio:.2f}", str(TARGET), ratio >= TARGET)
    )


def _backlog(service: Service) -> int:
    return int(service.get("/api/health").json()["kafka"]["publish"]["backlog"] or 0)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_publish", description=__doc__)
    report.add_options(parser, workers=2)
    parser.add_argument("--rounds", type=int, default=7, help="how often the two take turns")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each measurement lasts")
    parser.add_argument("--clients", type=int, default=16, help="connections of the load generator")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
