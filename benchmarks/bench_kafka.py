"""`make bench-kafka`: measures how fast events come in from Kafka, beside LevelDB alone, and from a backlog.

It needs Java and Maven, or a broker that KAFKA_BOOTSTRAP_SERVERS names. BENCH_OPTIONS='--events 100000 --backlog 50000'
makes it short; `--help` lists all options.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Producer

from benchmarks import report, serving
from benchmarks.bench_serve import event_body, posts
from benchmarks.events import event_attributes
from benchmarks.load import Load, measure
from eventvault import settings
from eventvault.database import keys
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.database.values import AppendResult
from eventvault.events.event import EventDraft
from eventvault.kafka.consumer import EventsConsumer
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.kafka.quarantine_format import DeadLetter
from eventvault.store.process.beginning import collect_seldom
from tests import processes
from tests.kafka_broker import Kafka
from tests.kafka_process import KafkaBroker
from tests.service import Service

INTRODUCTION = """\
Made by `make bench-kafka`, with a broker of one node on the same machine. "LevelDB alone" puts the same keys and values
in the same batches, each with a sync, in a process that does nothing else. Both take turns, each with a new database,
and the median of the rounds counts. What is compared is the processor time of the thread that does the work: for Kafka
that is taking messages from the client, every check, the look-up of each identity, and the write with its sync. The
client's own threads and LevelDB's compaction are in neither. Python collects garbage as seldom as in the store. Orders
have nested `data`, numbers and lists (520 bytes), notes a text (390 bytes). The same orders are sent with blanks
between tokens too, as Python's `json.dumps` writes them. Posts are single events at a fixed pace, to a service that
takes a backlog meanwhile, and to the same once it has.
"""
DATA_BYTES = 200
PARTITIONS = 3
PRODUCE_SECONDS = 600.0
POST_RATE, POST_SECONDS = 100, 5.0
MOST_TIMES = 2.0
"""How many times as long a post may take while events come in, at the 99th percentile."""


class Consumption(NamedTuple):
    """What came in. cpu, wall: seconds from the first batch to the last. batches: the last sequence of each."""

    events: int
    cpu: float
    wall: float
    batches: list[int]


class Sink:
    """Appends to a registry in the consumer's thread, and says when `expected` events are stored."""

    def __init__(self, folder: Path, expected: int) -> None:
        create_database(folder)
        self.db = open_leveldb(folder)
        self.registry = EventRegistry(self.db, folder)
        self.complete = threading.Event()
        self._expected = expected
        self._began: tuple[float, float] | None = None
        self._ended = (0.0, 0.0)
        self._batches: list[int] = []

    def append(
        self, drafts: Sequence[EventDraft], metadata: Sequence[tuple[bytes, bytes]], _: Sequence[DeadLetter]
    ) -> AppendResult:
        (results,) = self.registry.append([AppendBatch(drafts, os.urandom(8), metadata)])
        self._batches.append(self.registry.last_sequence)
        self._ended = time.thread_time(), time.monotonic()
        if self._began is None:
            self._began = self._ended
        if self.registry.last_sequence >= self._expected:
            self.complete.set()
        return AppendResult(results, self.registry.last_sequence)

    def consumption(self) -> Consumption:
        """Return what came in after the first batch, which waited for the client to connect."""
        assert self._began is not None
        cpu, wall = (end - begin for begin, end in zip(self._began, self._ended, strict=True))
        return Consumption(self._batches[-1] - self._batches[0], cpu, wall, self._batches)


@contextmanager
def broker(folder: Path) -> Iterator[Kafka]:
    """Yield the broker that KAFKA_BOOTSTRAP_SERVERS names, else one of its own."""
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "").strip():
        kafka = Kafka(servers)
        yield kafka
        kafka.close(delete=True)
        return
    own = KafkaBroker(folder / "kafka", os.getpid())
    own.start()
    try:
        yield Kafka(own.bootstrap)
    finally:
        own.stop()


def orders(seed: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(seed)
    while True:
        yield event_attributes(chance)


def notes(seed: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(seed)
    while True:
        yield event_body(chance, DATA_BYTES)


def with_spaces(attributes: dict[str, Any]) -> bytes:
    return json.dumps(attributes).encode()


def produce(kafka: Kafka, events: Iterator[dict[str, Any]], count: int, write: Callable[[Any], bytes]) -> str:
    """Send so many events to a new topic, with ids in the order of time; return its name."""
    topic = kafka.topic(PARTITIONS)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 20, "compression.type": "zstd"})
    headers = [("content-type", b"application/cloudevents+json")]
    for number, attributes in enumerate(islice(events, count)):
        more = {
            "specversion": "1.0", "id": f"{number:012}-{topic}",
            "time": f"2026-01-31T12:{number // 60 % 60:02}:{number % 60:02}Z",
            "datacontenttype": "application/json",
        }  # fmt: skip
        value = write({**more, **attributes})
        while True:
            try:
                producer.produce(topic, value, headers=headers, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(PRODUCE_SECONDS):
        raise SystemExit("the broker did not take all messages")
    return topic


def take(kafka: Kafka, topic: str, count: int, folder: Path) -> tuple[Consumption, Sink]:
    """Consume a topic into a new database."""
    sink = Sink(folder, count)
    loaded = settings.load({
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": topic,
        **{name: str(folder.with_name(name)) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")},
    })  # fmt: skip
    consumer = EventsConsumer(
        loaded,
        begin=lambda: sink.append,
        load=lambda: sink.registry.scan_meta(keys.KAFKA),
        monitor=KafkaMonitor(loaded),
    )
    consumer.start()
    if not sink.complete.wait(PRODUCE_SECONDS):
        raise SystemExit("the consumer did not take all messages")
    consumer.stop()
    return sink.consumption(), sink


def put_alone(consumption: Consumption, sink: Sink, folder: Path) -> tuple[float, float]:
    """Put the same keys and values into a new LevelDB, in the same batches.

    Returns the processor time and that of the clock, in seconds.
    """
    puts = puts_by_event(sink)
    last = sink.registry.scan_meta(keys.KAFKA)
    create_database(folder)
    db = open_leveldb(folder)
    cpu = wall = 0.0
    for first, end in zip(consumption.batches, consumption.batches[1:], strict=False):
        rows = [row for sequence in range(first + 1, end + 1) for row in puts[sequence]] + list(last.items())[:1]
        began, used = time.monotonic(), time.thread_time()
        with db.write_batch(sync=True) as batch:
            for key, value in rows:
                batch.put(key, value)
        cpu, wall = cpu + time.thread_time() - used, wall + time.monotonic() - began
    db.close()
    return cpu, wall


def puts_by_event(sink: Sink) -> dict[int, list[tuple[bytes, bytes]]]:
    """Return the keys and values of each event in a database, in the order in which they were put."""
    puts: dict[int, list[tuple[bytes, bytes]]] = {}
    for kind in (keys.EVENT, keys.IDENTITY, keys.TYPE, keys.SOURCE, keys.SUBJECT):
        with sink.db.iterator(prefix=kind) as rows:
            for key, value in rows:
                sequence = keys.read_identity_value(value)[0] if kind == keys.IDENTITY else keys.sequence_of(key)
                puts.setdefault(sequence, []).append((key, value))
    return puts


def measure_intake(options: argparse.Namespace, kafka: Kafka, folder: Path, results: report.Report) -> None:
    forms = {
        "orders": (orders, orjson.dumps),
        "orders with blanks": (orders, with_spaces),
        "notes": (notes, orjson.dumps),
    }
    for what, (events, write) in forms.items():
        topic = produce(kafka, events(1), options.events, write)
        rates, alone, ratios, walls, by_clock = (list[float]() for _ in range(5))
        for number in range(options.rounds):
            place = folder / f"{what}-{number}"
            place.mkdir()
            consumption, sink = take(kafka, topic, options.events, place / "database")
            cpu, wall = put_alone(consumption, sink, place / "alone")
            sink.db.close()
            rates.append(consumption.events / consumption.cpu)
            alone.append(consumption.events / cpu)
            ratios.append(cpu / consumption.cpu)
            walls.append(consumption.events / consumption.wall)
            by_clock.append(wall / consumption.wall)
        kafka.delete(topic)
        ratio = statistics.median(ratios)
        results.add(report.Row(f"{what}: LevelDB alone", f"{statistics.median(alone):,.0f} events/s of processor time"))
        results.add(report.Row(f"{what}: from Kafka", f"{statistics.median(rates):,.0f} events/s of processor time"))
        results.add(report.Row(f"{what}: from Kafka as a part of LevelDB alone", f"{ratio:.2f}", "0.40", ratio >= 0.4))
        results.add(report.Row(f"{what}: from Kafka, by the clock", f"{statistics.median(walls):,.0f} events/s"))
        results.add(report.Row(f"{what}: the same as a part of LevelDB alone", f"{statistics.median(by_clock):.2f}"))


def measure_backlog(options: argparse.Namespace, kafka: Kafka, folder: Path, results: report.Report) -> None:
    """Start the service with a long backlog, and watch health until it is caught up."""
    topic = produce(kafka, orders(2), options.backlog, orjson.dumps)
    asked = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": topic, "JOBS_ENABLED": "false"}
    place = folder / "backlog"
    place.mkdir()
    with serving.eventvault(place, 1, asked) as service:
        began, shown = time.monotonic(), list[str]()

        def is_caught_up() -> bool:
            health = service.get("/api/health").json()["kafka"]
            line = f"{health['consumed']:,} taken, {health['lag']} behind"
            if not shown or shown[-1] != line:
                shown.append(line)
                print(f"{line} after {time.monotonic() - began:.0f} s", flush=True)
            return bool(health["consumed"] >= options.backlog and health["lag"] == 0)

        processes.wait_until(is_caught_up, "the backlog is not caught up", seconds=3600)
        seconds = time.monotonic() - began
    results.add(report.Row(f"a backlog of {options.backlog:,} events, by the clock", f"{seconds:.1f} s"))
    results.add(report.Row("the same", f"{options.backlog / seconds:,.0f} events/s"))


def measure_posts(options: argparse.Namespace, kafka: Kafka, folder: Path, results: report.Report) -> None:
    """Post events at a fixed pace while a backlog comes in, and once it has, in turn."""
    topic = produce(kafka, orders(3), options.beside, orjson.dumps)
    asked = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": topic, "JOBS_ENABLED": "false"}
    requests = posts(64, 1, DATA_BYTES)
    idle, beside, rates = list[Load](), list[Load](), list[float]()
    for number in range(options.rounds):
        place = folder / f"posts-{number}"
        place.mkdir()
        with serving.eventvault(place, options.workers, asked) as service:
            processes.wait_until(lambda: consumed(service) > 0, "nothing is consumed")
            before, began = consumed(service), time.monotonic()
            beside.append(measure(service.port, requests, clients=8, seconds=POST_SECONDS, rate=POST_RATE))
            after, seconds = consumed(service), time.monotonic() - began
            if after >= options.beside:
                raise SystemExit(f"--beside {options.beside} is too small: all was consumed in {seconds:.1f} s")
            rates.append((after - before) / seconds)
            processes.wait_until(lambda: consumed(service) >= options.beside, "the backlog stays", seconds=600)
            processes.wait_until(lambda: serving.is_journaled(service), "the journal is late", seconds=600)
            idle.append(measure(service.port, requests, clients=8, seconds=POST_SECONDS, rate=POST_RATE))
    kafka.delete(topic)
    failed = sum(sum(load.failed.values()) for load in (*idle, *beside))
    alone, busy = (statistics.median(load.p99 for load in loads) * 1e3 for loads in (idle, beside))
    middle = statistics.median(load.p50 for load in beside) * 1e3
    results.add(report.Row(f"{POST_RATE} posts/s of an event, nothing comes in", f"p99 {alone:.1f} ms"))
    shown = f"{busy / alone:.2f} (p50 {middle:.1f} ms, p99 {busy:.1f} ms)"
    what = f"the same while {statistics.median(rates):,.0f} events/s come in, as a multiple"
    results.add(report.Row(what, shown, f"{MOST_TIMES}", busy / alone <= MOST_TIMES))
    results.add(report.Row("posts that failed", f"{failed}", "0", not failed))


def consumed(service: Service) -> int:
    return int(service.get("/api/health").json()["kafka"]["consumed"])


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench_kafka", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="events of one round")
    parser.add_argument("--rounds", type=int, default=5, help="how often Kafka and LevelDB alone take turns")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="events that the service catches up with")
    parser.add_argument("--beside", type=int, default=600_000, help="events that come in while others are posted")
    parser.add_argument("--only", default="intake,posts,backlog", help="what is measured")
    report.add_options(parser, workers=2)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = options_of(arguments)
    collect_seldom()
    with report.measuring(options, "Kafka", INTRODUCTION) as (folder, results), broker(folder) as kafka:
        for part, measured in (("intake", measure_intake), ("posts", measure_posts), ("backlog", measure_backlog)):
            if part in options.only.split(","):
                measured(options, kafka, folder, results)


if __name__ == "__main__":
    main()
