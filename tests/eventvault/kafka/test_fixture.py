"""The broker of the other tests is a real one, and never outlives the session that started it."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kafka_broker import Kafka, or_skip
from tests.kafka_process import KafkaBroker, kafka_jars

pytestmark = pytest.mark.kafka

PATIENCE_SECONDS = 60


def test_what_is_sent_is_read_back(kafka: Kafka) -> None:
    topic = kafka.topic()
    kafka.send(topic, [b"one", b"two"], key=b"k", headers=[("h", b"v")])
    first, second = kafka.read(topic, 2)
    assert (first.value(), second.value(), second.offset()) == (b"one", b"two", 1)
    assert (first.key(), first.headers()) == (b"k", [("h", b"v")])


def test_a_session_that_is_killed_leaves_no_broker_and_no_file(private_kafka: KafkaBroker) -> None:
    session = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    broker = KafkaBroker(private_kafka.folder, session.pid)
    broker.start()
    supervisor = os.pidfd_open(broker.supervisor)
    session.kill()
    session.communicate()
    assert select.select([supervisor], [], [], PATIENCE_SECONDS)[0], "the supervisor goes on without its session"
    os.close(supervisor)
    broker.stop()
    assert not private_kafka.folder.exists()
    assert str(private_kafka.folder).encode() not in b"".join(_command_lines())


def _command_lines() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_the_means_a_test_is_skipped_but_fails_in_continuous_integration(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(outcome, match="there is no java on the PATH"):
        or_skip(kafka_jars)
