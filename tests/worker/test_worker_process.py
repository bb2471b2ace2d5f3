"""`python -m worker` as a process, against a real broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventvault import clock, data_folders
from eventvault.jobs.database import JobsDatabase
from eventvault.jobs.dispatcher import Dispatcher
from eventvault.jobs.local_jobs import LocalJobs
from eventvault.jobs.queue import QueueLimits
from eventvault.kafka.jobs.dispatcher_transport import KafkaTransport
from eventvault.settings import load
from tests.kafka_broker import Kafka
from tests.kafka_process import KafkaBroker
from tests.processes import wait_until
from tests.worker.worker_harness import wait_until_reported

PROJECT = Path(__file__).resolve().parents[2]
HANDLERS = Path(__file__).parent
PATIENCE_SECONDS = 60
TICK, SHORT_TICK = 1.0, 0.4
"""A lease has six: the short one is for tests that wait for the end of a lease."""

pytestmark = pytest.mark.process

StartWorker = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def environment(settings_environment: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, **settings_environment, "PYTHONPATH": f"{PROJECT}:{HANDLERS}"}


@pytest.fixture
def tick() -> float:
    return TICK


@pytest.fixture
def topics(kafka: Kafka, tick: float) -> dict[str, str]:
    """Names of topics that do not exist yet: the dispatcher creates them."""
    return topics_of(kafka, tick)


def topics_of(kafka: Kafka, tick: float = TICK) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "KAFKA_CREATE_TOPICS": "true",
        "KAFKA_JOBS_TOPIC": kafka.name("jobs"),
        "KAFKA_RESULTS_TOPIC": kafka.name("results"),
        "KAFKA_JOBS_GROUP": kafka.name("group"),
        "EVENTVAULT_TICK_SECONDS": str(tick),
        "WORKER_CONCURRENCY": "1",
    }


class Skew:
    """How far the clocks of a dispatcher are ahead, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> int:
        return clock.now() + round(self.seconds * 1e6)

    def monotonic(self) -> float:
        return time.monotonic() + self.seconds


@contextmanager
def dispatching(environment: dict[str, str], skew: Skew | None = None, **limits: int) -> Iterator[Dispatcher]:
    """Run a dispatcher in this process."""
    skew = skew or Skew()
    settings = load(environment)
    settings.storage_dir.mkdir(exist_ok=True)
    database = JobsDatabase(settings.storage_dir / data_folders.JOBS_DATABASE)
    tick = float(environment["EVENTVAULT_TICK_SECONDS"])
    transport = KafkaTransport(settings, lambda: database.dispatcher, tick_seconds=tick)
    dispatcher = Dispatcher(
        database, transport, QueueLimits(publishes=True, **limits), now=skew.now, monotonic=skew.monotonic
    )
    dispatcher.open()
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        dispatcher.stop()


@pytest.fixture
def dispatcher(environment: dict[str, str], topics: dict[str, str]) -> Iterator[Dispatcher]:
    with dispatching({**environment, **topics}) as running:
        yield running


@pytest.fixture
def start_worker(environment: dict[str, str], tmp_path: Path) -> Iterator[StartWorker]:
    started: list[subprocess.Popen[bytes]] = []

    def start(**further: str) -> subprocess.Popen[bytes]:
        words = (tmp_path / "worker.log").open("ab")
        with words:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "worker", "job_handlers_for_tests"],
                    env={**environment, **further}, cwd=tmp_path, stderr=words,
                )
            )  # fmt: skip
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def send(kafka: Kafka, topics: dict[str, str], *jobs: Any) -> None:
    values = [job if isinstance(job, bytes) else json.dumps(job) for job in jobs]
    kafka.send(topics["KAFKA_JOBS_TOPIC"], values)


def dead_letters(kafka: Kafka, topics: dict[str, str], count: int) -> list[Any]:
    return kafka.read(f"{topics['KAFKA_JOBS_TOPIC']}.dead-letter", count)


def results(kafka: Kafka, topics: dict[str, str], count: int) -> list[dict[str, Any]]:
    return [json.loads(message.value() or b"") for message in kafka.read(topics["KAFKA_RESULTS_TOPIC"], count)]


def hold(tmp_path: Path, name: str) -> dict[str, Any]:
    payload = {"started": str(tmp_path / f"{name}.started"), "release": str(tmp_path / f"{name}.release")}
    return {"id": name, "type": "hold", "payload": payload}


def wait_for_start(tmp_path: Path, name: str, times: int = 1) -> list[int]:
    started = tmp_path / f"{name}.started"

    def pids() -> list[int]:
        return [int(line) for line in started.read_text().split()] if started.exists() else []

    wait_until(lambda: len(pids()) >= times, f"the job {name} does not start", PATIENCE_SECONDS)
    return pids()


@pytest.mark.parametrize(
    ("further", "words"),
    [
        ({}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "nowhere"}, "KAFKA_BOOTSTRAP_SERVERS is 'nowhere'"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "localhost:9", "MAX_BACKUPS": "none"}, "MAX_BACKUPS is 'none'"),
    ],
)
def test_a_worker_with_invalid_settings_names_them_and_exits_78(
    environment: dict[str, str], further: dict[str, str], words: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worker"], env={**environment, **further}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert words in done.stderr
    assert "HINT: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_whose_handlers_cannot_be_imported_exits_78(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worker", "no_such_module"],
        env={**environment, "KAFKA_BOOTSTRAP_SERVERS": "localhost:9"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert "no_such_module" in done.stderr


def test_a_worker_without_a_broker_logs_it_once_and_ends_on_a_signal(start_worker: StartWorker, tmp_path: Path) -> None:
    worker = start_worker(KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9")
    log = tmp_path / "worker.log"
    wait_until(lambda: "no Kafka broker answers at 127.0.0.1:9" in log.read_text(), "nothing is said")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_SECONDS) == 0
    assert log.read_text().count("no Kafka broker answers") == 1


@pytest.mark.kafka
@pytest.mark.usefixtures("dispatcher")
def test_jobs_have_outcomes_and_one_that_fails_does_not_block_the_next(
    kafka: Kafka, topics: dict[str, str], start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker(**topics)
    kafka.wait_for_topic(topics["KAFKA_JOBS_TOPIC"], there=True)
    send(
        kafka, topics,
        {"id": "a", "type": "echo", "payload": 1},
        b"\xff nonsense",
        {"id": "c", "type": "fail", "payload": "broken", "maxAttempts": 1},
        {"id": "d", "type": "large", "payload": 2_000_000, "maxAttempts": 1},
        {"id": "e", "type": "odd", "maxAttempts": 1},
        {"id": "f", "type": "echo", "payload": {"last": True}},
    )  # fmt: skip
    found = {outcome["id"]: outcome for outcome in results(kafka, topics, 6)}
    refused = f"{topics['KAFKA_JOBS_TOPIC']}/0/1"
    assert {job_id: outcome["state"] for job_id, outcome in found.items()} == {
        "a": "done", refused: "failed", "c": "failed", "d": "failed", "e": "failed", "f": "done",
    }  # fmt: skip
    codes = [found[job_id]["error"]["code"] for job_id in (refused, "c", "d", "e")]
    assert codes == ["malformed", "job_failed", "result_too_large", "result_not_json"]
    assert found["c"]["error"]["message"] == "ValueError: broken"
    assert found["f"]["result"] == {"last": True}
    assert set(found["a"]) == {"id", "type", "state", "worker", "startedAt", "finishedAt", "result"}
    letters = {message.value(): dict(message.headers() or []) for message in dead_letters(kafka, topics, 4)}
    assert letters[b"\xff nonsense"]["x-eventvault-offset"] == b"1"
    worker.send_signal(signal.SIGINT)
    assert worker.wait(PATIENCE_SECONDS) == 0
    assert not (tmp_path / "storage" / "event_registry_db").exists()


@pytest.mark.kafka
@pytest.mark.usefixtures("dispatcher")
def test_the_health_check_tells_a_worker_that_can_work_from_one_that_cannot(
    kafka: Kafka, topics: dict[str, str], start_worker: StartWorker, tmp_path: Path
) -> None:
    def check() -> tuple[int, str]:
        command = [sys.executable, "-m", "worker.heartbeat"]
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert check() == (1, "worker: no worker runs here\n")
    away = start_worker(KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9", TMPDIR=str(tmp_path))
    wait_until(lambda: "no Kafka broker answers" in check()[1], "the check does not name the broker", PATIENCE_SECONDS)
    away.send_signal(signal.SIGTERM)
    assert away.wait(PATIENCE_SECONDS) == 0
    assert check() == (1, "worker: no worker runs here\n")

    worker = start_worker(TMPDIR=str(tmp_path), **topics)
    wait_until(lambda: check() == (0, ""), "the worker does not become healthy", PATIENCE_SECONDS)
    worker.kill()
    worker.wait()
    assert check() == (1, "worker: no worker runs here\n")


@pytest.mark.kafka
def test_sigterm_lets_the_running_job_finish_and_leaves_the_next_to_another_worker(
    kafka: Kafka, topics: dict[str, str], dispatcher: Dispatcher, start_worker: StartWorker, tmp_path: Path
) -> None:
    kafka.wait_for_topic(topics["KAFKA_JOBS_TOPIC"], there=True)
    send(kafka, topics, hold(tmp_path, "long"), {"id": "next", "type": "echo"})
    worker = start_worker(**topics)
    wait_for_start(tmp_path, "long")
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: dispatcher.status().slots == 0, "the worker does not drain", PATIENCE_SECONDS)
    assert worker.poll() is None
    (tmp_path / "long.release").touch()
    assert worker.wait(PATIENCE_SECONDS) == 0
    assert [(one["id"], one["state"]) for one in results(kafka, topics, 1)] == [("long", "done")]
    start_worker(**topics)
    assert [one["id"] for one in results(kafka, topics, 2)] == ["long", "next"]


@pytest.mark.kafka
def test_a_second_signal_ends_the_worker_at_once_without_a_result(
    kafka: Kafka, topics: dict[str, str], dispatcher: Dispatcher, start_worker: StartWorker, tmp_path: Path
) -> None:
    kafka.wait_for_topic(topics["KAFKA_JOBS_TOPIC"], there=True)
    send(kafka, topics, hold(tmp_path, "endless"))
    worker = start_worker(**topics)
    wait_for_start(tmp_path, "endless")
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: dispatcher.status().slots == 0, "the worker does not drain", PATIENCE_SECONDS)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(PATIENCE_SECONDS) == 128 + signal.SIGINT
    assert kafka.total(topics["KAFKA_RESULTS_TOPIC"]) == 0


@pytest.mark.kafka
@pytest.mark.parametrize("tick", [SHORT_TICK])
@pytest.mark.usefixtures("dispatcher")
def test_the_job_of_a_killed_worker_is_run_by_another_worker(
    kafka: Kafka, topics: dict[str, str], start_worker: StartWorker, tmp_path: Path
) -> None:
    first = start_worker(**topics)
    kafka.wait_for_topic(topics["KAFKA_JOBS_TOPIC"], there=True)
    send(kafka, topics, {"id": "before", "type": "echo"}, hold(tmp_path, "long"))
    wait_for_start(tmp_path, "long")
    first.kill()
    start_worker(**topics)
    assert len(wait_for_start(tmp_path, "long", times=2)) == 2
    (tmp_path / "long.release").touch()
    assert [one["id"] for one in results(kafka, topics, 2)] == ["before", "long"]


@pytest.mark.kafka
@pytest.mark.usefixtures("dispatcher")
def test_a_worker_that_joins_or_leaves_moves_no_running_job(
    kafka: Kafka, topics: dict[str, str], start_worker: StartWorker, tmp_path: Path
) -> None:
    first = start_worker(**topics)
    kafka.wait_for_topic(topics["KAFKA_JOBS_TOPIC"], there=True)
    send(kafka, topics, hold(tmp_path, "long"))
    wait_for_start(tmp_path, "long")
    second = start_worker(**topics)
    send(kafka, topics, {"id": "other", "type": "echo"})
    assert [one["id"] for one in results(kafka, topics, 1)] == ["other"]
    second.send_signal(signal.SIGTERM)
    assert second.wait(PATIENCE_SECONDS) == 0
    (tmp_path / "long.release").touch()
    assert [one["id"] for one in results(kafka, topics, 2)] == ["other", "long"]
    assert len(wait_for_start(tmp_path, "long")) == 1
    assert first.poll() is None


@pytest.mark.kafka
@pytest.mark.parametrize("tick", [SHORT_TICK])
def test_a_worker_that_was_stopped_beyond_its_lease_is_refused_and_begins_anew(
    kafka: Kafka, topics: dict[str, str], dispatcher: Dispatcher, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Its handler goes on meanwhile, and returns: what it returned is refused, and the job runs once more."""
    worker = start_worker(**topics)
    kafka.wait_for_topic(topics["KAFKA_JOBS_TOPIC"], there=True)
    send(kafka, topics, hold(tmp_path, "long"))
    (executor,) = wait_for_start(tmp_path, "long")
    jobs = LocalJobs(dispatcher)
    wait_until(lambda: jobs.job("long").job.state == "running", "its start is not reported", PATIENCE_SECONDS)
    worker.send_signal(signal.SIGSTOP)
    wait_until(lambda: dispatcher.status().workers == 0, "its lease does not end", PATIENCE_SECONDS)
    (tmp_path / "long.release").touch()
    wait_until_reported(executor, tmp_path / "long.started.ended")
    worker.send_signal(signal.SIGCONT)
    (outcome,) = results(kafka, topics, 1)
    assert len(wait_for_start(tmp_path, "long", times=2)) == 2
    assert (outcome["id"], outcome["state"], outcome["result"]) == ("long", "done", {"attempt": 2})
    assert [one.outcome for one in jobs.job("long").job.attempts] == ["lost", "done"]
    assert kafka.total(topics["KAFKA_RESULTS_TOPIC"]) == 1


@pytest.mark.kafka
def test_jobs_that_are_there_a_minute_before_the_first_worker_wait_for_it(
    kafka: Kafka, topics: dict[str, str], environment: dict[str, str], start_worker: StartWorker
) -> None:
    """As at the first `compose up`: nobody has named their type yet, and none of them is dead for that."""
    topic, skew = kafka.topic(name=topics["KAFKA_JOBS_TOPIC"]), Skew()
    kafka.send(topic, [json.dumps({"id": f"j{number}", "type": "echo"}) for number in range(1_000)])
    with dispatching({**environment, **topics}, skew, unknown_after=10_000_000) as dispatcher:
        wait_until(lambda: dispatcher.status().waiting == 1_000, "the jobs do not come", PATIENCE_SECONDS)
        for _ in range(12):
            skew.seconds += 10
            dispatcher.call(lambda _: None)  # a turn of its own
        assert [problem.code for problem in dispatcher.status().problems] == ["jobs_wait_for_worker"]
        assert dispatcher.status().states == {"pending": 1_000}
        start_worker(**topics)
        wait_until(lambda: dispatcher.status().states == {"done": 1_000}, "the jobs do not run", PATIENCE_SECONDS)
        dispatcher.call(lambda _: None)
        skew.seconds += 10
        dispatcher.call(lambda _: None)
        assert dispatcher.status().problems == []


@pytest.mark.kafka
@pytest.mark.usefixtures("dispatcher")
def test_a_job_is_done_once_though_the_topics_between_dispatcher_and_workers_are_made_anew(
    kafka: Kafka, topics: dict[str, str], start_worker: StartWorker, tmp_path: Path
) -> None:
    start_worker(**topics)
    kafka.wait_for_topic(topics["KAFKA_JOBS_TOPIC"], there=True)
    send(kafka, topics, hold(tmp_path, "long"))
    wait_for_start(tmp_path, "long")
    for name in ("work", "reports"):
        topic = f"{topics['KAFKA_JOBS_TOPIC']}.{name}"
        kafka.admin.delete_topics([topic])[topic].result(30)
    send(kafka, topics, {"id": "next", "type": "echo"})
    (tmp_path / "long.release").touch()
    found = [(one["id"], one["state"]) for one in results(kafka, topics, 2)]
    assert sorted(found) == [("long", "done"), ("next", "done")]


@pytest.mark.kafka
def test_a_broker_that_fails_during_a_job_gets_the_result_when_it_is_back(
    private_kafka: KafkaBroker, start_worker: StartWorker, environment: dict[str, str], tmp_path: Path
) -> None:
    private_kafka.start()
    kafka = Kafka(private_kafka.bootstrap)
    topics = topics_of(kafka)
    with dispatching({**environment, **topics}):
        worker = start_worker(**topics)
        kafka.wait_for_topic(topics["KAFKA_JOBS_TOPIC"], there=True)
        send(kafka, topics, hold(tmp_path, "long"))
        wait_for_start(tmp_path, "long")
        private_kafka.stop(signal.SIGKILL)
        (tmp_path / "long.release").touch()
        private_kafka.start()
        assert [one["id"] for one in results(kafka, topics, 1)] == ["long"]
        assert len(wait_for_start(tmp_path, "long")) == 1
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_SECONDS) == 0
