"""`python -m worker` as a process, against a real broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.kafka_broker import Kafka
from tests.kafka_process import KafkaBroker
from tests.processes import wait_until

PROJECT = Path(__file__).resolve().parents[2]
HANDLERS = Path(__file__).parent
PATIENCE_SECONDS = 60

pytestmark = pytest.mark.process

StartWorker = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def environment(settings_environment: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, **settings_environment, "PYTHONPATH": f"{PROJECT}:{HANDLERS}"}


@pytest.fixture
def topics(kafka: Kafka) -> dict[str, str]:
    """Names of topics that do not exist yet: the worker creates them."""
    return {
        "KAFKA_CREATE_TOPICS": "true",
        "KAFKA_JOBS_TOPIC": kafka.name("jobs"),
        "KAFKA_RESULTS_TOPIC": kafka.name("results"),
        "KAFKA_JOBS_GROUP": kafka.name("group"),
    }


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
def test_jobs_run_in_order_and_a_failed_one_does_not_block_the_next(
    kafka: Kafka, topics: dict[str, str], start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, **topics)
    kafka.wait_for_topic(topics["KAFKA_JOBS_TOPIC"], there=True)
    send(
        kafka, topics,
        {"id": "a", "type": "echo", "payload": 1},
        b"\xff nonsense",
        {"id": "b", "type": "unknown"},
        {"id": "c", "type": "fail", "payload": "broken"},
        {"id": "d", "type": "large", "payload": 2_000_000},
        {"id": "e", "type": "odd"},
        {"id": "f", "type": "echo", "payload": {"last": True}},
    )  # fmt: skip
    found = results(kafka, topics, 7)
    assert [outcome["id"] for outcome in found] == ["a", f"{topics['KAFKA_JOBS_TOPIC']}/0/1", "b", "c", "d", "e", "f"]
    assert [outcome["state"] for outcome in found] == ["done"] + ["failed"] * 5 + ["done"]
    errors = [outcome["error"]["code"] for outcome in found[1:6]]
    assert errors == ["malformed", "invalid", "job_failed", "result_too_large", "result_not_json"]
    assert found[3]["error"]["message"] == "ValueError: broken"
    assert found[6]["result"] == {"last": True}
    worker.send_signal(signal.SIGINT)
    assert worker.wait(PATIENCE_SECONDS) == 0
    assert not (tmp_path / "storage").exists()


@pytest.mark.kafka
def test_a_worker_makes_no_topic_unless_it_may(
    kafka: Kafka, topics: dict[str, str], start_worker: StartWorker, tmp_path: Path
) -> None:
    start_worker(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, **{**topics, "KAFKA_CREATE_TOPICS": "false"})
    log = tmp_path / "worker.log"
    wait_until(lambda: "KAFKA_CREATE_TOPICS is false" in log.read_text(), "nothing is said", PATIENCE_SECONDS)
    names = (topics["KAFKA_JOBS_TOPIC"], topics["KAFKA_RESULTS_TOPIC"])
    assert not any(kafka.exists(name) for name in names)
    for name in names:
        kafka.topic(name=name)
    send(kafka, topics, {"id": "a", "type": "echo"})
    assert [one["id"] for one in results(kafka, topics, 1)] == ["a"]


@pytest.mark.kafka
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

    worker = start_worker(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, TMPDIR=str(tmp_path), **topics)
    wait_until(lambda: check() == (0, ""), "the worker does not become healthy", PATIENCE_SECONDS)
    worker.kill()
    worker.wait()
    assert check() == (1, "worker: no worker runs here\n")


@pytest.mark.kafka
def test_sigterm_lets_the_running_job_finish_and_leaves_the_next_to_another_worker(
    kafka: Kafka, topics: dict[str, str], start_worker: StartWorker, tmp_path: Path
) -> None:
    kafka.topic(name=topics["KAFKA_JOBS_TOPIC"])
    send(kafka, topics, hold(tmp_path, "long"), {"id": "next", "type": "echo"})
    worker = start_worker(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, **topics)
    wait_for_start(tmp_path, "long")
    worker.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(1)
    (tmp_path / "long.release").touch()
    assert worker.wait(PATIENCE_SECONDS) == 0
    assert [(one["id"], one["state"]) for one in results(kafka, topics, 1)] == [("long", "done")]
    start_worker(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, **topics)
    assert [one["id"] for one in results(kafka, topics, 2)] == ["long", "next"]


@pytest.mark.kafka
def test_a_second_signal_ends_the_worker_at_once_without_a_result(
    kafka: Kafka, topics: dict[str, str], start_worker: StartWorker, tmp_path: Path
) -> None:
    kafka.topic(name=topics["KAFKA_JOBS_TOPIC"])
    send(kafka, topics, hold(tmp_path, "endless"))
    worker = start_worker(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, **topics)
    wait_for_start(tmp_path, "endless")
    worker.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.5)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(PATIENCE_SECONDS) == 128 + signal.SIGINT
    assert kafka.total(topics["KAFKA_RESULTS_TOPIC"]) == 0


@pytest.mark.kafka
def test_the_job_of_a_killed_worker_is_run_by_another_worker(
    kafka: Kafka, topics: dict[str, str], start_worker: StartWorker, tmp_path: Path
) -> None:
    kafka.topic(name=topics["KAFKA_JOBS_TOPIC"])
    first = start_worker(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, **topics)
    send(kafka, topics, {"id": "before", "type": "echo"}, hold(tmp_path, "long"))
    wait_for_start(tmp_path, "long")
    first.kill()
    second = start_worker(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, **topics)
    assert wait_for_start(tmp_path, "long", times=2) == [first.pid, second.pid]
    (tmp_path / "long.release").touch()
    assert [one["id"] for one in results(kafka, topics, 2)] == ["before", "long"]


@pytest.mark.kafka
@pytest.mark.parametrize("busy", [0, 1])
def test_a_rebalance_during_a_job_does_not_run_it_twice(
    kafka: Kafka, topics: dict[str, str], start_worker: StartWorker, tmp_path: Path, busy: int
) -> None:
    """The group moves one of two partitions to the second worker: in one of the two cases the busy one."""
    group = topics["KAFKA_JOBS_GROUP"]
    kafka.topic(2, topics["KAFKA_JOBS_TOPIC"])
    kafka.send(topics["KAFKA_JOBS_TOPIC"], [json.dumps(hold(tmp_path, "long"))], partition=busy)
    first = start_worker(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, **topics)
    wait_for_start(tmp_path, "long")
    start_worker(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, **topics)
    wait_until(lambda: len(kafka.members(group)) == 2, "no second worker joins", PATIENCE_SECONDS)
    with suppress(TimeoutError):  # the rebalance waits for the busy partition, and ends at once without it
        wait_until(lambda: sum(kafka.members(group)) == 2, "the rebalance waits", 2)
    (tmp_path / "long.release").touch()
    wait_until(lambda: kafka.members(group) == [1, 1], "the rebalance does not end", PATIENCE_SECONDS)
    assert [one["id"] for one in results(kafka, topics, 1)] == ["long"]
    kafka.send(topics["KAFKA_JOBS_TOPIC"], ['{"id": "after", "type": "echo"}'], partition=busy)
    wait_until(lambda: kafka.total(topics["KAFKA_RESULTS_TOPIC"]) == 2, "no further result", PATIENCE_SECONDS)
    assert wait_for_start(tmp_path, "long") == [first.pid]


@pytest.mark.kafka
def test_a_broker_that_fails_during_a_job_gets_the_result_when_it_is_back(
    private_kafka: KafkaBroker, start_worker: StartWorker, environment: dict[str, str], tmp_path: Path
) -> None:
    private_kafka.start()
    kafka = Kafka(private_kafka.bootstrap)
    topics = {"KAFKA_JOBS_TOPIC": "jobs", "KAFKA_RESULTS_TOPIC": "job-results"}
    kafka.topic(name="jobs")
    send(kafka, topics, hold(tmp_path, "long"))
    worker = start_worker(KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap, KAFKA_CREATE_TOPICS="true")
    wait_for_start(tmp_path, "long")
    private_kafka.stop(signal.SIGKILL)
    (tmp_path / "long.release").touch()
    private_kafka.start()
    assert [one["id"] for one in results(kafka, topics, 1)] == ["long"]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_SECONDS) == 0
