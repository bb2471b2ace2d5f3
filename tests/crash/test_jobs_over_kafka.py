"""Jobs from the topic and workers beyond Kafka, with the whole service: an upgrade, and the end of any part."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from eventvault.errors import EventVaultError
from eventvault.jobs.client import JobsClient
from tests.crash.test_jobs import Jobs, check
from tests.kafka_broker import Kafka
from tests.processes import wait_until
from tests.service import Service

PROJECT = Path(__file__).resolve().parents[2]
TICK = 0.3
PATIENCE_SECONDS = 90

pytestmark = [pytest.mark.process, pytest.mark.kafka]


class Scene:
    """The service, its topics, and workers that the test starts."""

    def __init__(
        self, kafka: Kafka, environment: dict[str, str], service: Callable[..., Service], folder: Path
    ) -> None:
        self.kafka = kafka
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.jobs, self.results = kafka.topic(2, kafka.name("jobs")), kafka.topic(name=kafka.name("results"))
        self.environment = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_CREATE_TOPICS": "true", "KAFKA_JOBS_TOPIC": self.jobs,
            "KAFKA_RESULTS_TOPIC": self.results, "KAFKA_JOBS_GROUP": kafka.name("group"), "JOBS_ENABLED": "true",
            "KAFKA_EVENTS_TOPIC": kafka.name("events"), "WORKER_CONCURRENCY": "2",
            "WORKER_ENV": "EVENTVAULT_TEST_LEDGER", "EVENTVAULT_TEST_LEDGER": str(self.ledger),
            "EVENTVAULT_TICK_SECONDS": str(TICK),
        }  # fmt: skip
        self._inherited = {**{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}, **environment}
        self._folder = folder
        self._service = service
        self._started: list[subprocess.Popen[bytes]] = []

    def start_service(self, **more: str) -> Service:
        return self._service(workers=1, environment={**self.environment, **more})

    def start_worker(self, *command: str) -> subprocess.Popen[bytes]:
        command = command or ("worker", "tests.crash.job_handlers")
        with (self._folder / "worker.log").open("ab") as words:
            self._started.append(
                subprocess.Popen(
                    [sys.executable, "-m", *command], stderr=words, cwd=PROJECT,
                    env={**self._inherited, **self.environment, "PYTHONPATH": str(PROJECT)},
                )
            )  # fmt: skip
        return self._started[-1]

    def workers(self) -> list[subprocess.Popen[bytes]]:
        """Return those that live."""
        return [process for process in self._started if process.poll() is None]

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()

    def runs(self) -> Counter[str]:
        """Job → how many of its attempts ran to the end."""
        return Counter(line.split()[1] for line in self.ledger.read_text().splitlines() if line.startswith("end"))

    def outcomes(self) -> list[dict[str, Any]]:
        count = self.kafka.total(self.results)
        return [json.loads(message.value() or b"") for message in self.kafka.read(self.results, count)]


@pytest.fixture
def scene(
    kafka: Kafka, settings_environment: dict[str, str], service: Callable[..., Service], tmp_path: Path
) -> Iterator[Scene]:
    made = Scene(kafka, settings_environment, service, tmp_path)
    yield made
    made.close()


class Load:
    """Sends jobs all the time. ids: of those that the broker has."""

    def __init__(self, scene: Scene) -> None:
        self.ids: list[str] = []
        self._topic = scene.jobs
        self._producer = Producer({"bootstrap.servers": scene.kafka.bootstrap, "log_level": 0, "linger.ms": 1})
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(PATIENCE_SECONDS)
        assert self._producer.flush(PATIENCE_SECONDS) == 0

    def _run(self) -> None:
        number = 0
        while not self._ending.wait(0.02):
            job_id = f"j{number}"
            value = json.dumps({"id": job_id, "type": "note", "payload": 0.005}).encode()
            self._producer.produce(self._topic, value, partition=number % 2)
            self._producer.poll(0)
            self.ids.append(job_id)
            number += 1


def codes(service: Service) -> set[str]:
    return {problem["code"] for problem in service.get("/api/health").json()["problems"]}


def test_an_upgrade_under_load_runs_each_job_once(scene: Scene) -> None:
    old = scene.start_worker("tests.crash.old_worker")  # of two, one might run a job again when the other one leaves
    with Load(scene) as load:
        wait_until(lambda: len(scene.runs()) >= 20, "the old worker runs nothing", PATIENCE_SECONDS)
        service = scene.start_service()
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


@pytest.mark.parametrize("faults", [pytest.param(6, id="6"), pytest.param(200, id="200", marks=pytest.mark.soak)])
def test_random_kills_and_stops_lose_no_job_of_the_topic_and_do_none_twice(
    request: pytest.FixtureRequest, settings_environment: dict[str, str], service: Callable[..., Service],
    tmp_path: Path, faults: int,
) -> None:  # fmt: skip
    """The long series has the broker among the parts that end: it needs seconds to come back."""
    is_long = faults > 6
    kafka = request.getfixturevalue("private_kafka" if is_long else "kafka")
    if is_long:
        kafka.start()
    seed = int(os.environ.get("EVENTVAULT_SEED") or random.SystemRandom().randrange(10**9))
    print(f"EVENTVAULT_SEED={seed}")
    chance = random.Random(seed)
    scene = Scene(Kafka(kafka.bootstrap), settings_environment, service, tmp_path)
    parts = ["store", "dispatcher", "supervisor", "executor", *(["broker"] if is_long else [])]
    counts: Counter[str] = Counter()
    client: JobsClient | None = None
    try:
        running = scene.start_service(JOBS_LOCAL_CONCURRENCY="0")
        client = JobsClient.over(running.folder("STORAGE_DIR"))
        jobs = Jobs(running, scene.ledger, client)
        for _ in range(2):
            scene.start_worker()
        wait_until(lambda: "note" in _types(jobs), "no worker comes", PATIENCE_SECONDS)
        with Load(scene) as load:
            for _ in range(faults):
                if chance.choice(parts) == "broker":
                    counts["kill broker"] += 1
                    kafka.stop(signal.SIGKILL)
                    kafka.start()
                else:
                    _fault(scene, jobs, chance, counts)
                for _ in range(2 - len(scene.workers())):
                    scene.start_worker()
                time.sleep(chance.uniform(0.05, 0.5))
        print(f"faults: {dict(counts)}; jobs: {len(load.ids)}")
        wait_until(lambda: _ended(jobs) == len(load.ids), "jobs are unfinished", 4 * PATIENCE_SECONDS)
        check(jobs, load.ids)
        assert all(jobs.job(job_id).state == "done" for job_id in load.ids)
        # An outcome may be there twice, so their number says nothing.
        wait_until(lambda: _outcomes(scene) == set(load.ids), "outcomes are missing, or too many", PATIENCE_SECONDS)
    finally:
        if client is not None:
            client.close()
        scene.close()


def _outcomes(scene: Scene) -> set[str]:
    return {outcome["id"] for outcome in scene.outcomes()}


def _types(jobs: Jobs) -> list[str]:
    try:
        return [known.type.name for known in jobs.client.types()]
    except EventVaultError:
        return []


def _ended(jobs: Jobs) -> int:
    """How many jobs there are, if all have ended."""
    try:
        status = jobs.client.status()
    except EventVaultError:
        return -1
    return sum(status.states.values()) if status.waiting == status.running == status.held == 0 else -1


def _fault(scene: Scene, jobs: Jobs, chance: random.Random, counts: Counter[str]) -> None:
    """Kill one process, or stop it for up to two leases."""
    supervisors = [process.pid for process in scene.workers()]
    pids = {
        "store": jobs.pids("store"),
        "dispatcher": jobs.pids("dispatcher"),
        "supervisor": supervisors,
        "executor": [pid for one in supervisors for nursery in children(one) for pid in children(nursery)],
    }
    part = chance.choice(sorted(pids))
    if not pids[part]:
        return
    pid, how = chance.choice(sorted(pids[part])), chance.choice(["kill", "stop"])
    counts[f"{how} {part}"] += 1
    with suppress(ProcessLookupError):
        if how == "kill":
            os.kill(pid, signal.SIGKILL)
            return
        os.kill(pid, signal.SIGSTOP)
        time.sleep(chance.uniform(0.05, 12 * TICK))
        os.kill(pid, signal.SIGCONT)


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
