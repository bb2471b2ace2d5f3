"""Jobs from the topic and workers beyond Kafka, with the whole service: an upgrade, and the end of any part."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from eventvault.jobs.client import JobsClient
from eventvault.jobs.job import JobRequest
from eventvault.jobs.lease import LEASE_TICKS
from tests.crash import job_invariants
from tests.crash.job_series import Series
from tests.crash.jobs_of_service import CLIENT_SECONDS, Jobs, stopped
from tests.kafka_broker import Kafka, or_skip
from tests.kafka_process import KafkaBroker
from tests.processes import MARK, wait_until
from tests.schedule import series_seed
from tests.service import Service

PROJECT = Path(__file__).resolve().parents[2]
TICK = 0.4
PATIENCE_SECONDS = 90
WORKERS = 2
MOST_AHEAD = 200
"""How many jobs are sent before others have ended: a slow machine shall not have minutes of work behind it."""

pytestmark = [pytest.mark.process, pytest.mark.kafka]


class Scene:
    """The service, its topics, and workers that the test starts. more: settings."""

    def __init__(
        self, kafka: Kafka, settings: dict[str, str], service: Callable[..., Service], folder: Path, **more: str
    ) -> None:
        self.kafka = kafka
        self.folder = folder
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.topic, self.results = kafka.name("jobs"), kafka.name("results")
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_CREATE_TOPICS": "true", "KAFKA_JOBS_TOPIC": self.topic,
            "KAFKA_RESULTS_TOPIC": self.results, "KAFKA_JOBS_GROUP": kafka.name("group"), "JOBS_ENABLED": "true",
            "KAFKA_EVENTS_TOPIC": kafka.name("events"), "WORKER_CONCURRENCY": "2",
            "WORKER_ENV": f"EVENTVAULT_TEST_LEDGER,{MARK}", "EVENTVAULT_TEST_LEDGER": str(self.ledger),
            "EVENTVAULT_TICK_SECONDS": str(TICK), **more,
        }  # fmt: skip
        self.environment = {**settings, **environment}
        self._start = partial(service, workers=1, environment=environment)
        self._jobs: Jobs | None = None
        self._old: list[subprocess.Popen[bytes]] = []
        self._producer: Producer | None = None

    def make_topics(self) -> None:
        self.kafka.topic(2, self.topic)
        self.kafka.topic(name=self.results)

    def start_service(self, *, wait: bool = True) -> Jobs:
        service = self._start(wait=wait)
        client = JobsClient.over(service.folder("STORAGE_DIR"), patience=CLIENT_SECONDS)
        self._jobs = Jobs(service, self.ledger, client, self.environment)
        return self._jobs

    @property
    def jobs(self) -> Jobs:
        assert self._jobs is not None
        return self._jobs

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self.jobs.start_worker(self.folder / "worker.log")

    def start_old_worker(self) -> subprocess.Popen[bytes]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        own = {**kept, **self.environment, "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "-m", "tests.crash.old_worker"]
        with (self.folder / "worker.log").open("ab") as words:
            self._old.append(subprocess.Popen(command, stderr=words, cwd=PROJECT, env=own))
        return self._old[-1]

    def keep_workers(self) -> None:
        """Start again those that ended, as a supervisor of containers does."""
        for _ in range(WORKERS - len(self.jobs.living_workers())):
            self.start_worker()

    def close(self) -> None:
        for process in self._old:
            process.kill()
            process.wait()
        if self._jobs is not None:
            self._jobs.close()

    def accept(self, asked: list[JobRequest]) -> None:
        """Send jobs to the topic."""
        if self._producer is None:
            self._producer = Producer({"bootstrap.servers": self.kafka.bootstrap, "log_level": 0, "linger.ms": 1})
        for one in asked:
            self._producer.produce(self.topic, msgspec.json.encode(one), partition=zlib.crc32(str(one.id).encode()) % 2)
            self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer is not None
        assert self._producer.flush(PATIENCE_SECONDS) == 0

    def runs(self) -> Counter[str]:
        """Job → how many of its attempts ran to the end."""
        return Counter(line.split()[1] for line in self.ledger.read_text().splitlines() if line.startswith("end"))

    def run_to_the_end(self) -> int:
        return self.ledger.read_bytes().count(b"end ")

    def outcomes(self) -> list[dict[str, Any]]:
        count = self.kafka.total(self.results)
        return [json.loads(message.value() or b"") for message in self.kafka.read(self.results, count)]


@pytest.fixture
def scene(
    kafka: Kafka, settings_environment: dict[str, str], service: Callable[..., Service], tmp_path: Path
) -> Iterator[Scene]:
    made = Scene(kafka, settings_environment, service, tmp_path)
    made.make_topics()
    yield made
    made.close()


class Load:
    """Sends jobs all the time, at most MOST_AHEAD more than have ended. ids: of those that the broker has."""

    def __init__(self, scene: Scene) -> None:
        self.ids: list[str] = []
        self._scene = scene
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(PATIENCE_SECONDS)
        self._scene.flush()

    def _run(self) -> None:
        number = 0
        while not self._ending.wait(0.02):
            if number >= self._scene.run_to_the_end() + MOST_AHEAD:
                continue
            job_id = f"j{number}"
            self._scene.accept([JobRequest(id=job_id, type="note", payload=msgspec.Raw(b"0.005"))])
            self.ids.append(job_id)
            number += 1


def codes(service: Service) -> set[str]:
    return {problem["code"] for problem in service.get("/api/health").json()["problems"]}


def test_an_upgrade_under_load_runs_each_job_once(scene: Scene) -> None:
    old = scene.start_old_worker()  # of two, one might run a job again when the other one leaves
    with Load(scene) as load:
        wait_until(lambda: len(scene.runs()) >= 20, "the old worker runs nothing", PATIENCE_SECONDS)
        service = scene.start_service().service
        scene.start_worker()
        wait_until(lambda: "old_workers" in codes(service), "health does not name the old workers", PATIENCE_SECONDS)
        old.send_signal(signal.SIGTERM)
        assert old.wait(PATIENCE_SECONDS) == 0
        wait_until(lambda: "old_workers" not in codes(service), "health names the old workers still", PATIENCE_SECONDS)
        before = len(load.ids)
        wait_until(lambda: len(scene.runs()) >= before + 20, "the new worker runs nothing", PATIENCE_SECONDS)
    wait_until(lambda: len(scene.runs()) == len(load.ids), "jobs are not run", PATIENCE_SECONDS)
    assert set(scene.runs().values()) == {1}
    wait_until(lambda: scene.kafka.total(scene.results) >= len(load.ids), "outcomes are missing", PATIENCE_SECONDS)
    outcomes = Counter((outcome["id"], outcome["state"]) for outcome in scene.outcomes())
    assert outcomes == Counter({(job_id, "done"): 1 for job_id in load.ids})
    assert {outcome["worker"] == "old" for outcome in scene.outcomes()} == {True, False}


class Broker:
    """A broker of the test's own, whose end is one of the faults. It comes back by itself while others happen."""

    def __init__(self, broker: KafkaBroker) -> None:
        self._broker = broker
        self._start: threading.Thread | None = None
        self.start()

    @property
    def bootstrap(self) -> str:
        return self._broker.bootstrap

    def start(self) -> None:
        self._start = threading.Thread(target=self._broker.start)
        self._start.start()

    def wait(self) -> None:
        assert self._start is not None
        self._start.join(PATIENCE_SECONDS)
        assert self.pids(), "the broker does not come back"

    def pids(self) -> list[int]:
        """The broker's process, once it answers."""
        if self._start is None or self._start.is_alive():
            return []
        return children(self._broker.supervisor)

    def kill(self) -> None:
        self._broker.stop(signal.SIGKILL)
        self.start()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of this module alone, which is being started."""
    private = KafkaBroker(tmp_path_factory.mktemp("broker") / "kafka", os.getpid())
    or_skip(private.prepare)
    made = Broker(private)
    yield made
    made.wait()
    private.stop()


@pytest.mark.parametrize("count", [pytest.param(20, id="20"), pytest.param(200, id="200", marks=pytest.mark.soak)])
def test_random_kills_and_stops_lose_no_job_of_the_topic_and_do_none_twice(
    broker: Broker, settings_environment: dict[str, str], service: Callable[..., Service], tmp_path: Path, count: int
) -> None:
    """The broker is one of the parts. The short series only stops it, as a broker that was killed needs seconds.

    The clock is not set here: librdkafka waits until instants, and so for an hour more if the clock is set back by one.
    """
    broker.wait()
    scene = Scene(Kafka(broker.bootstrap), settings_environment, service, tmp_path, JOBS_LOCAL_CONCURRENCY="0")

    def others() -> Mapping[str, list[int]]:
        return {"broker": broker.pids()}

    try:
        scene.make_topics()
        jobs = scene.start_service()
        scene.keep_workers()
        jobs.wait_for_workers(WORKERS)
        series = Series(
            jobs, lease=6 * TICK, seed=series_seed(), accept=scene.accept,
            keep=scene.keep_workers, others=others, kills={"broker": broker.kill if count > 20 else None},
        )  # fmt: skip
        accepted = series.run(count, scene.flush)
        # An outcome may be there twice, so their number says nothing.
        wait_until(lambda: set(accepted) <= _outcomes(scene), "outcomes are missing", PATIENCE_SECONDS)
        assert all(outcome.startswith(job_invariants.CRON) for outcome in _outcomes(scene) - set(accepted))
        check_replay(scene)
    finally:
        scene.close()


def test_a_long_job_runs_once_whatever_joins_is_away_or_is_replaced(
    broker: Broker, settings_environment: dict[str, str], service: Callable[..., Service], tmp_path: Path
) -> None:
    """Two more workers, the broker away for longer than a lease, the dispatcher stopped for as long, a restore to a

    moment, and a take-over of the store. Once the broker is back, a worker may be silent for as long as a request to it
    that fails takes, and the pause behind that: 7 s. A lease is longer than that, also if the worker gets little time.
    """
    tick = 2.0
    away_seconds = 1.5 * LEASE_TICKS * tick
    broker.wait()
    scene = Scene(
        Kafka(broker.bootstrap), settings_environment, service, tmp_path, JOBS_LOCAL_CONCURRENCY="0",
        WORKER_CONCURRENCY="1", EVENTVAULT_TICK_SECONDS=str(tick),
    )  # fmt: skip
    try:
        scene.make_topics()
        jobs = scene.start_service()
        scene.start_worker()
        jobs.wait_for_workers(1)
        assert jobs.service.post("/api/events", [{"type": "a"}, {"type": "b"}]).status == 201
        scene.accept(
            [JobRequest(id="long", type="wait", payload=msgspec.Raw(msgspec.json.encode(str(tmp_path / "go"))))]
        )
        scene.flush()
        jobs.wait_for("long", "running")
        scene.start_worker()
        scene.start_worker()
        jobs.wait_for_workers(3)
        (pid,) = broker.pids()
        with stopped(pid):
            until = time.monotonic() + away_seconds
            assert jobs.service.post("/api/backup/restore", {"sequence": 1}).status == 200
            store = jobs.pid("store")
            os.kill(store, signal.SIGKILL)
            wait_until(lambda: jobs.pids("store") not in ([], [store]), "no store takes over")
            time.sleep(max(0.0, until - time.monotonic()))
        _run_another(scene, "after-broker")
        with stopped(jobs.pid("dispatcher")):
            time.sleep(away_seconds)
        _run_another(scene, "after-dispatcher")
        jobs.service.wait_until_ready()
        assert len(jobs.service.get("/api/events").json()["events"]) == 1
        assert jobs.client.status().workers == 3, "no session was lost"
        (tmp_path / "go").touch()
        done = jobs.wait_for("long", "done")
        assert [attempt.outcome for attempt in done.attempts] == ["done"]
        assert scene.runs()["long"] == 1
        assert len(jobs.runs()) == 3
    finally:
        scene.close()


def _run_another(scene: Scene, job_id: str) -> None:
    """Returns once dispatcher, broker and workers work together again: another job is done, and ticks go on."""
    scene.accept([JobRequest(id=job_id, type="note", payload=msgspec.Raw(b"0"))])
    scene.flush()
    scene.jobs.wait_for(job_id, "done")


def _outcomes(scene: Scene) -> set[str]:
    return {outcome["id"] for outcome in scene.outcomes()}


def check_replay(scene: Scene) -> None:
    """Send each message of both topics once more, and a job behind them."""
    before = scene.jobs.image_without_letters()
    runs = scene.runs()
    _send_again(scene.kafka, f"{scene.topic}.reports", 1)
    _send_again(scene.kafka, scene.topic, 2)
    marks = ("mark-0", "mark-1")
    for partition, mark in enumerate(marks):
        asked = JobRequest(id=mark, type="note", payload=msgspec.Raw(b"0"))
        scene.kafka.send(scene.topic, [msgspec.json.encode(asked)], partition=partition)
    wait_until(lambda: set(marks) <= scene.runs().keys(), "what is behind the replay does not run", PATIENCE_SECONDS)
    scene.jobs.wait_for_quiet(len(before.records()) + len(marks))
    job_invariants.check_replay(before, scene.jobs.image_without_letters(), marks)
    assert scene.runs() - runs == Counter(marks)


def _send_again(kafka: Kafka, topic: str, partitions: int) -> None:
    messages = kafka.read(topic, kafka.total(topic), partitions)
    for partition in range(partitions):
        values = [message.value() for message in messages if message.partition() == partition]
        kafka.send(topic, values, partition=partition)


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
