"""The broker that the other tests run against: it is real, and it never outlives the session that started it."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kafka_broker import Kafka, _started
from tests.kafka_process import KafkaBroker

pytestmark = pytest.mark.kafka

PATIENCE_SECONDS = 60


def test_what_is_sent_is_read_back(kafka: Kafka) -> None:
    topic = kafka.topic()
    kafka.send(topic, [b"one", b"two"], key=b"k", headers=[("h", b"v")])
    first, second = kafka.read(topic, 2)
    assert (first.value(), second.value(), second.offset()) == (b"one", b"two", 1)
    assert (first.key(), first.headers()) == (b"k", [("h", b"v")])


def test_a_session_that_is_killed_leaves_no_broker_and_no_file(tmp_path: Path) -> None:
    session = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    broker = _started(KafkaBroker(tmp_path / "kafka", session.pid))
    supervisor = os.pidfd_open(broker.supervisor)
    session.kill()
    session.communicate()
    assert select.select([supervisor], [], [], PATIENCE_SECONDS)[0], "the supervisor goes on without its session"
    os.close(supervisor)
    broker.stop()
    assert not (tmp_path / "kafka").exists()
    assert str(tmp_path).encode() not in b"".join(_command_lines())


def _command_lines() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found
