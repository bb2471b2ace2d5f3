"""An error that ends a client of jobs costs no turn: the next client goes on with what was not written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eventvault.jobs.messages import Beat, Done
from eventvault.jobs.transport import OutboxMessage
from eventvault.kafka.clients import WatchedProducer
from eventvault.kafka.jobs import outbox_writer, worker_transport
from eventvault.kafka.jobs.dispatcher_transport import KafkaTransport
from eventvault.kafka.jobs.outbox_writer import OutboxWriter
from eventvault.kafka.jobs.work_reader import WorkState
from eventvault.kafka.jobs.worker_transport import KafkaWorkerTransport
from eventvault.settings import Settings
from tests.eventvault.kafka.test_connection import end_client
from tests.processes import wait_until


@pytest.fixture
def no_broker(settings_with: Callable[[dict[str, str]], Settings]) -> Settings:
    return settings_with({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})


def wait_for_the_next(owner: Any, turn: Callable[[], object]) -> None:
    """End the client of `owner`, and take turns until it has another one."""
    client = owner._producer
    assert isinstance(client, WatchedProducer)
    end_client(client)

    def has_another() -> bool:
        turn()
        return owner._producer not in (client, None)

    wait_until(has_another, "the client is not replaced")


def test_the_dispatcher_goes_on(no_broker: Settings) -> None:
    transport = KafkaTransport(no_broker, lambda: "d1")
    transport._make_producer()
    wait_for_the_next(transport, transport._step)
    transport.close()


def test_outcomes_are_written_by_the_next_client(no_broker: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_writer, "RETRY_SECONDS", 0.0)
    writer = OutboxWriter(no_broker)
    messages = [OutboxMessage("result", b"k", b"1", ()), OutboxMessage("result", b"k", b"2", ())]
    assert writer.publish(messages) == []
    wait_for_the_next(writer, lambda: writer.publish(messages))
    assert writer._on_brokers == dict.fromkeys(messages, False), "both are in flight"
    writer.close()


def test_reports_of_a_worker_are_written_by_the_next_client(
    no_broker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_transport, "RETRY_SECONDS", 0.0)
    transport = KafkaWorkerTransport(no_broker)
    transport._state = WorkState("s1")
    transport.report([Done(session="s1", token="t1", job="j", seconds=1.0), Beat(session="s1")])
    wait_for_the_next(transport, lambda: transport.report([]))
    assert not transport._waiting
    assert not transport._has_beat, "the next beat is written"
    transport.close(0.0)
