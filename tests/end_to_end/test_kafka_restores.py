"""Restores while events come from a real broker, and two services on one topic."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Command
from tests.kafka_broker import Kafka
from tests.processes import wait_until
from tests.service import PROJECT, Service, services
from tests.stores import folders_beneath

PATIENCE_SECONDS = 60
pytestmark = pytest.mark.kafka


def events(first: int, last: int) -> list[str]:
    return [json.dumps({"id": f"{number:05}", "type": "t", "data": number}) for number in range(first, last + 1)]


def settings_of(kafka: Kafka, topic: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": topic, "JOURNAL_INTERVAL": "50",
        "AUTO_BACKUP_ENABLED": "false",
    }  # fmt: skip


def ids(running: Service) -> list[str]:
    lines = running.get("/api/events/export").body.splitlines()
    return [json.loads(line)["id"] for line in lines]


def until_taken(running: Service, count: int) -> None:
    """Wait until so many events are there and in the journal."""

    def there() -> bool:
        health = running.get("/api/health").json()
        return bool(health["store"]["events"] == health["journal"]["lastSequence"] == count)

    wait_until(there, f"{count} events do not come", PATIENCE_SECONDS)


def until_read(running: Service, following: int) -> None:
    """Wait until the partition was read up to this offset."""

    def there() -> bool:
        return [each["next"] for each in running.get("/api/health").json()["kafka"]["partitions"]] == [following]

    wait_until(there, f"the topic is not read up to {following}", PATIENCE_SECONDS)


def test_a_restore_does_with_kafka_what_its_plan_says(
    kafka: Kafka, service: Callable[..., Service], eventvault: Command
) -> None:
    topic = kafka.topic()
    running = service(workers=1, environment=settings_of(kafka, topic))

    def restore(**body: Any) -> Any:
        answer = running.post("/api/backup/restore", body)
        assert answer.status == 200, answer.body
        return answer.json()

    kafka.send(topic, events(1, 2))
    until_taken(running, 2)
    backup = running.post("/api/backup/create").json()["name"]
    kafka.send(topic, events(3, 5))
    until_taken(running, 5)

    def once_known(ask: Callable[[], Any]) -> Any:
        """What a plan says of Kafka, once the brokers have answered: it waits for them some seconds only."""
        answers: list[Any] = []

        def is_known() -> bool:
            answers.append(ask())
            return answers[-1]["messages"] is not None

        wait_until(is_known, "the store does not reach the brokers", PATIENCE_SECONDS)
        return answers[-1]

    def plan(**body: Any) -> Any:
        return once_known(lambda: restore(**body, dryRun=True)["plan"]["kafka"])

    assert plan(sequence=2)["again"] is False

    # The page's commands.
    page = (PROJECT / "docs" / "kafka.md").read_text()
    line, curl = re.findall(r'```sh\nflask (backup restore --at "#2".*)\n(curl .*)\n```', page)[0]
    (shown,) = re.findall(r'^\{"again".*\}$', page, re.MULTILINE)

    def printed() -> Any:
        done = eventvault(*line.replace('"', "").split(), **settings_of(kafka, topic))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["plan"]["kafka"]

    def answered() -> Any:
        command = curl.replace("localhost:5050", f"127.0.0.1:{running.port}")
        asked = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
        return json.loads(asked.stdout)

    assert once_known(printed) == json.loads(shown)
    assert once_known(answered) == json.loads(shown)

    # Without `replay` what was taken does not come again.
    assert plan(sequence=2)["again"] is False
    assert restore(sequence=2)["replay"] is False
    kafka.send(topic, events(6, 6))
    until_taken(running, 3)
    assert ids(running) == ["00001", "00002", "00006"]

    # With it all comes that came after the moment.
    assert plan(sequence=2, replay=True) == {"again": True, "messages": 4, "replayable": True}
    assert restore(sequence=2, replay=True)["replay"] is True
    until_taken(running, 6)
    assert ids(running) == ["00001", "00002", "00003", "00004", "00005", "00006"]
    until_read(running, 6)

    # A backup always lets it come again; the list says whether all is there.
    def replayable() -> Any:
        (entry,) = running.get("/api/backup/list").json()["backups"]
        return entry["kafkaReplayable"]

    wait_until(lambda: replayable() is True, "the list does not say that all is there", PATIENCE_SECONDS)
    kafka.remove_before(topic, 4)
    assert plan(backupName=backup) == {"again": True, "messages": 2, "replayable": False}
    wait_until(lambda: replayable() is False, "the list does not say that messages are gone", PATIENCE_SECONDS)
    restore(backupName=backup)
    wait_until(
        lambda: [each["code"] for each in running.get("/api/health").json()["problems"]] == ["kafka_messages_gone"],
        "what is gone is not named", PATIENCE_SECONDS,
    )  # fmt: skip
    assert running.post("/api/backup/restore", {"sequence": 1, "replay": "x"}).status == 422


def test_the_newest_backup_is_restored_while_events_flow_in(kafka: Kafka, service: Callable[..., Service]) -> None:
    """Afterwards the registry equals the topic, event by event, in the order of each partition."""
    topic = kafka.topic(2)
    running = service(workers=1, environment=settings_of(kafka, topic))
    ended = threading.Event()
    sent: dict[int, list[str]] = {0: [], 1: []}

    def flow() -> None:
        sender = Kafka(kafka.bootstrap)
        number = 0
        while not ended.wait(0.05):
            for partition in sent:
                batch = events(number + 1, number + 10)
                sender.send(topic, batch, partition=partition)
                sent[partition] += [json.loads(each)["id"] for each in batch]
                number += 10

    def grown(by: int) -> None:
        before = running.get("/api/health").json()["store"]["events"]
        wait_until(
            lambda: running.get("/api/health").json()["store"]["events"] >= before + by, "no events come",
            PATIENCE_SECONDS,
        )  # fmt: skip

    flowing = threading.Thread(target=flow, daemon=True)
    flowing.start()
    try:
        for _ in range(2):
            grown(40)
            backup = running.post("/api/backup/create").json()["name"]
            grown(40)
            assert running.post("/api/backup/restore", {"backupName": backup}).status == 200
        grown(40)
    finally:
        ended.set()
        flowing.join(PATIENCE_SECONDS)
    until_taken(running, len(sent[0]) + len(sent[1]))
    found = ids(running)
    assert len(found) == len(set(found))
    for partition, expected in sent.items():
        of_partition = set(expected)
        assert [each for each in found if each in of_partition] == expected, partition
    assert running.get("/api/health").json()["kafka"]["differing"] == 0


def test_two_services_on_one_topic_hold_the_same_events(
    kafka: Kafka, service: Callable[..., Service], eventvault: Command, tmp_path: Path
) -> None:
    topic = kafka.topic(2)
    kafka.send(topic, events(1, 30), partition=0)
    kafka.send(topic, events(31, 60), partition=1)
    folder = tmp_path / "other"
    folder.mkdir()
    one = service(workers=1, environment=settings_of(kafka, topic))
    with services(folders_beneath(folder), folder) as start:
        other = start(workers=1, environment=settings_of(kafka, topic))
        until_taken(one, 60)
        until_taken(other, 60)

        def summary(*options: str) -> Any:
            done = eventvault("events", "diff", "now", "now", *options, "--summary", "--json")
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        (shown,) = re.findall(r"^    flask (events diff now now --to-url) https", _page(), re.MULTILINE)
        assert shown == "events diff now now --to-url"
        both = ("--url", one.base, "--to-url", other.base)
        equal = {"onlyInFrom": 0, "onlyInTo": 0, "different": 0, "common": 60}
        assert {name: summary(*both)[name] for name in equal} == equal

        alike = {"type": "c", "id": "c"}
        one.post("/api/events", [{"type": "a", "id": "a"}, {"type": "b", "id": "b", "data": 1}, alike])
        other.post("/api/events", [alike, {"type": "b", "id": "b", "data": 2}, {"type": "d", "id": "d"}])
        different = {"onlyInFrom": 1, "onlyInTo": 1, "different": 1, "common": 61}
        assert {name: summary(*both)[name] for name in different} == different
        lines = eventvault("events", "diff", "now", "now", *both, "--utc").stdout.splitlines()
        assert [line[0] for line in lines[:4]] == ["<", ">", "+", "-"]
        here = summary("--to-url", other.base)
        assert here["onlyInFrom"] == 1, "the first one may be the service of this machine"
        refused = eventvault("events", "diff", "now", "now", "--to-url", "nowhere")
        assert (refused.returncode, "nowhere" in refused.stderr) == (2, True)


def _page() -> str:
    return (PROJECT / "docs" / "kafka.md").read_text()
