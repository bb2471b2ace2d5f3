"""A service and a worker that log in to the brokers over TLS: what they do, what they never show, what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.command_line import Command
from tests.kafka_broker import SecuredKafka
from tests.leaks import files_with, marks_in, watched_processes
from tests.processes import wait_until
from tests.service import PROJECT, Service, service_environment

PATIENCE_SECONDS = 60
HANDLERS = PROJECT / "tests" / "worker"


@contextmanager
def worker(environment: dict[str, str], mark: str, folder: Path) -> Iterator[Path]:
    """`python -m worker` on what is like another machine; yields its log."""
    log = folder / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", "job_handlers_for_tests"],
            env={**service_environment(environment, 0, mark), "PYTHONPATH": f"{PROJECT}:{HANDLERS}"},
            cwd=folder, stderr=output,
        )  # fmt: skip
        try:
            yield log
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


@pytest.mark.kafka
def test_events_and_jobs_go_over_a_login_and_its_secrets_are_nowhere(
    secured_kafka: SecuredKafka, service: Callable[..., Service], eventvault: Command, tmp_path: Path,
    settings_environment: dict[str, str],
) -> None:  # fmt: skip
    kafka, user = secured_kafka.kafka, secured_kafka.user()
    topic, jobs, results = kafka.topic(), kafka.name("jobs"), kafka.name("results")
    file = secured_kafka.secret("sasl.oauthbearer.client.secret=geheim-of-the-file\nsocket.keepalive.enable=true\n")
    with_kafka = {
        **secured_kafka.environment(user, KAFKA_SASL_PASSWORD_FILE="", KAFKA_SASL_PASSWORD=user.password),
        "KAFKA_CONFIG_FILE": str(file), "KAFKA_EVENTS_TOPIC": topic, "KAFKA_JOBS_TOPIC": jobs,
        "KAFKA_RESULTS_TOPIC": results, "KAFKA_JOBS_GROUP": kafka.name("group"), "KAFKA_CREATE_TOPICS": "true",
    }  # fmt: skip
    marks = {"password": user.password.encode(), "file": b"geheim-of-the-file"}
    kafka.send(topic, [json.dumps({"id": "1", "type": "t"}), b"\xff"])
    running = service(
        workers=1,
        environment={**with_kafka, "JOBS_ENABLED": "true", "JOBS_LOCAL_CONCURRENCY": "0", "LOG_LEVEL": "debug"},
    )
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    with watched_processes(running.mark, marks) as seen, worker(with_kafka, running.mark, folder) as log:
        wait_until(
            lambda: running.get("/api/health").json()["store"]["events"] == 1, "the event does not come",
            PATIENCE_SECONDS,
        )  # fmt: skip
        kafka.wait_for_topic(jobs, there=True)
        kafka.send(jobs, [json.dumps({"id": "a", "type": "fail", "payload": 1, "maxAttempts": 1})])
        (outcome,) = kafka.read(results, 1)
        assert json.loads(outcome.value() or b"")["id"] == "a"
        kafka.read(f"{topic}.dead-letter", 1)
        answers = [running.get(path).body for path in ("/api/settings", "/api/health", "/metrics", "/api/jobs")]
        doctor = eventvault("doctor", "--json", **with_kafka)
        shown = b"".join([*answers, doctor.stdout.encode(), doctor.stderr.encode(), log.read_bytes()])
    assert {name: value for name, value in _settings(answers[0]).items() if name.startswith("KAFKA_S")} == {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": user.name, "KAFKA_SASL_PASSWORD": "set", "KAFKA_SASL_PASSWORD_FILE": None,
        "KAFKA_SSL_CA_LOCATION": str(secured_kafka.ca), "KAFKA_SSL_CERTIFICATE_LOCATION": None,
        "KAFKA_SSL_KEY_LOCATION": None, "KAFKA_SSL_KEY_PASSWORD": None, "KAFKA_SSL_KEY_PASSWORD_FILE": None,
    }  # fmt: skip
    assert [each["code"] for each in json.loads(doctor.stdout)["problems"]] == ["kafka_quarantine"], doctor.stdout
    assert marks_in(shown + running.log().encode(), marks) == []
    assert {where for where, _ in seen if _is_long_lived(where)} == set(), seen
    folders = [Path(settings_environment[name]) for name in ("STORAGE_DIR", "BACKUP_DIR", "RESTORE_DIR")]
    assert files_with(folders, marks) == {}


def _settings(body: bytes) -> dict[str, object]:
    return {each["name"]: each["value"] for each in json.loads(body)["settings"]}


def _is_long_lived(where: str) -> bool:
    """The test gives gunicorn and the worker the password in their environment, which they overwrite at their start."""
    return "gunicorn" not in where and "-m worker job_handlers" not in where


@pytest.mark.kafka
def test_without_a_service_the_doctor_logs_in_and_says_why_the_brokers_refuse(
    secured_kafka: SecuredKafka, eventvault: Command
) -> None:
    user = secured_kafka.user()
    good = eventvault("doctor", "--json", **secured_kafka.environment(user))
    wrong = secured_kafka.environment(user, KAFKA_SASL_PASSWORD_FILE=str(secured_kafka.secret("falsch-geheim")))
    bad = eventvault("doctor", "--json", **wrong)

    def kafka(done: subprocess.CompletedProcess[str]) -> list[dict[str, str]]:
        return [check for check in json.loads(done.stdout)["checks"] if check["name"] == "kafka"]

    (line,) = kafka(good)
    assert (line["state"], "can be reached" in line["found"]) == ("ok", True)
    (line,) = kafka(bad)
    assert line["state"] == "wrong"
    assert "the Kafka brokers refuse EventVault: the login fails" in line["found"]
    assert "KAFKA_SASL_PASSWORD_FILE" in line["mend"]
    assert "geheim" not in bad.stdout + bad.stderr


@pytest.mark.parametrize("program", ["service", "worker"])
def test_a_property_that_the_guarantees_rest_on_stops_the_start(
    service: Callable[..., Service], settings_environment: dict[str, str], tmp_path: Path, program: str
) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text("sasl.password=geheim\ngroup.id=mine\n")
    file.chmod(0o600)
    environment = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "KAFKA_CONFIG_FILE": str(file)}
    if program == "service":
        refused = service(workers=1, environment=environment, wait=False)
        status, said = refused.process.wait(60), refused.log()
    else:
        done = subprocess.run(
            [sys.executable, "-m", "worker"], env={**os.environ, **settings_environment, **environment}, cwd=PROJECT,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        status, said = done.returncode, done.stderr
    assert status == 78
    assert f"line 2 of KAFKA_CONFIG_FILE {file} sets group.id, which EventVault sets itself" in said
    assert "docs/kafka.md" in said
    assert "geheim" not in said
