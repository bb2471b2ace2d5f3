"""The clock is set back while clients of Kafka wait: no wait becomes longer, and a client made before is replaced."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from eventvault import settings
from eventvault.clock_guard import ClockReading
from eventvault.kafka import clients, waits
from eventvault.kafka.renewal import Renewal
from eventvault.kafka.waits import ClockSetBack, Repeated
from eventvault.settings import PROJECT
from tests.clock_shim import SettableClock
from tests.eventvault.kafka.test_consumer import events
from tests.kafka_broker import PATIENCE_SECONDS, Kafka

SECONDS = 1_000_000
HOUR = 3600


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The system clock and the time since the boot, in microseconds; both are changed by a test."""
    found = [1_000_000 * SECONDS, 1_000 * SECONDS]
    monkeypatch.setattr(waits, "read_clocks", lambda: ClockReading(*found))
    return found


def pass_time(now: list[int], seconds: int, step: int = 0) -> None:
    """Let time pass, and set the system clock by `step` seconds."""
    now[0] += (seconds + step) * SECONDS
    now[1] += seconds * SECONDS


def test_a_clock_that_is_set_back_is_noticed_and_one_that_goes_on_is_not(now: list[int]) -> None:
    watch = ClockSetBack()
    for seconds, step, set_back in [(60, 0, False), (0, HOUR, False), (60, 0, False), (1, -HOUR, True), (60, 0, True)]:
        pass_time(now, seconds, step)
        assert watch.was_set_back() is set_back
    assert not ClockSetBack().was_set_back()


def test_a_clock_that_was_ahead_when_it_was_read_last_counts_from_there(now: list[int]) -> None:
    watch = ClockSetBack()
    now[0] += 10 * SECONDS
    assert not watch.was_set_back()
    now[0] -= 2 * SECONDS
    assert watch.was_set_back()


def test_each_client_is_replaced_once_the_clock_is_set_back(now: list[int]) -> None:
    renewal = Renewal()
    producer = clients.producer(settings.load({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}))
    producer.poll()
    assert (renewal.is_due, producer.is_outdated) == (False, False)
    pass_time(now, 1, -HOUR)
    producer.poll()
    assert (renewal.is_due, producer.is_outdated) == (True, True)


def test_a_wait_ends_with_what_comes_or_with_its_time_and_asks_less_often_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, naps = [0.0], []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock[0] += seconds

    # Not in the module `time` itself: other threads of this process sleep too.
    monkeypatch.setattr(waits, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    repeated = Repeated()
    assert repeated.wait(lambda: 0, lambda count: count > 0, 0.1) == 0
    assert (clock[0], naps[0], max(naps)) == (pytest.approx(0.1), 0.001, 0.02)
    answers = iter([0, 7])
    naps.clear()
    assert repeated.wait(lambda: next(answers), lambda count: count > 0, 60) == 7
    assert naps == [0.02], "it begins to hurry before anything came"
    repeated.wait(lambda: 0, lambda count: count > 0, 0.001)
    assert naps[-1] == 0.001


_SHORT_WAITS = """
import os
from confluent_kafka import TopicPartition
from eventvault import settings
from eventvault.kafka import clients, config
loaded = settings.load({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
consumer = clients.MonotonicConsumer(config.events_consumer(loaded))
consumer.incremental_assign([TopicPartition("topic", 0, 0)])
while consumer.poll(0.2) is not None:
    pass  # errors of the broker that is away
consumer.incremental_unassign([TopicPartition("topic", 0)])
consumer.close()
print("they ended", flush=True)
os._exit(0)
"""


_QUESTIONS = """
import os
from concurrent.futures import ThreadPoolExecutor
from eventvault import settings
from eventvault.errors import KafkaUnreachable
from eventvault.kafka import clients, topics
from eventvault.kafka.jobs.old_workers import OldWorkers
loaded = settings.load({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
topics.REQUEST_TIMEOUT_SECONDS = 0.1
questions = (topics.names, lambda admin: topics.bounds(admin, "topic", 0),
             lambda admin: OldWorkers(loaded, admin).committed(1))

def ask(question):
    try:
        question(clients.Admin(loaded))
    except KafkaUnreachable as error:
        return error.message

with ThreadPoolExecutor(3) as pool:
    print(*pool.map(ask, questions), "they ended", sep="\\n", flush=True)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [_SHORT_WAITS, _QUESTIONS], ids=["consumer", "questions"])
def test_no_wait_becomes_longer(tmp_path: Path, program: str) -> None:
    """librdkafka waits until an instant of the system clock: one hour later than meant, in this process."""
    clock = SettableClock(tmp_path)
    clock.set_offset(HOUR)
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment_of(clock), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert "they ended" in ran.stdout, ran.stderr


_CONSUMES = """
import os, sys, threading
from eventvault import settings
from tests.eventvault.kafka.conftest import Consuming, MemoryRegistry
one = Consuming(settings.load(), MemoryRegistry())

def tell():
    told = None
    while True:
        state = one.monitor.snapshot()
        now = f"{len(one.registry.types())} events, connected: {state['connected']}, lag: {state['lag']}"
        if now != told:
            print(now, flush=True)
            told = now
        threading.Event().wait(0.05)

threading.Thread(target=tell, daemon=True).start()
sys.stdin.readline()
one.consumer.stop()
print("stopped", flush=True)
os._exit(0)
"""


class ConsumingProcess:
    """A process with a consumer, whose clock is set."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._heard = ""

    def hear(self, text: str) -> None:
        """Return once the process has said this."""
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self._heard:
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            read = os.read(stdout.fileno(), 65536).decode() if ready else ""
            assert read, f"it does not say {text!r}, but: {self._heard}"
            self._heard += read
        self._heard = self._heard.partition(text)[2]

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.hear("stopped")


@contextmanager
def consuming_process(clock: SettableClock, **environment: str) -> Iterator[ConsumingProcess]:
    with subprocess.Popen(
        [sys.executable, "-c", _CONSUMES],
        env={**environment_of(clock), **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield ConsumingProcess(process)
        finally:
            process.kill()


def environment_of(clock: SettableClock) -> dict[str, str]:
    return {**os.environ, **clock.environment, "PYTHONPATH": str(PROJECT)}


@pytest.mark.kafka
def test_a_consumer_that_waits_for_the_next_message_is_stopped_in_time(kafka: Kafka, tmp_path: Path) -> None:
    clock, topic = SettableClock(tmp_path), kafka.topic()
    names = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_EVENTS_TOPIC": topic}
    with consuming_process(clock, **names) as one:
        one.hear("0 events, connected: True, lag: 0")
        clock.set_offset(HOUR)
        kafka.send(topic, events(1, 1))
        one.hear("1 events, connected: True, lag: 0")  # it waits for the next one now
        clock.set_offset(0)
        one.stop()
