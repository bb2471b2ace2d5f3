"""A client of jobs that one broker refuses, while others still answer it, is made anew; or if the clock is set back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from eventvault import settings
from eventvault.clock_guard import ClockReading, read_clocks
from eventvault.kafka import renewal, waits
from eventvault.kafka.jobs.jobs_reader import JobsReader
from eventvault.kafka.jobs.reader_state import ReaderState
from eventvault.kafka.jobs.reader_thread import RestartReader
from eventvault.kafka.jobs.reports_reader import ReportsReader
from eventvault.kafka.jobs.work_reader import WorkReader, WorkState
from eventvault.kafka.topic_info import TopicInfo

pytestmark = pytest.mark.slow

REFUSAL = KafkaError(KafkaError._AUTHENTICATION, "sasl_ssl://kafka:9093/2: Authentication failed")


HOUR = 3_600_000_000


@pytest.mark.parametrize("reason", ["refused", "clock"])
@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (JobsReader, lambda: ReaderState(None, {})), (ReportsReader, lambda: ReaderState(None, {})),
        (WorkReader, lambda: WorkState("session")),
    ],
)  # fmt: skip
def test_it_is_made_anew(
    kind: Any,
    state: Callable[[], Any],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    settings_environment: dict[str, str],
) -> None:
    monkeypatch.setattr(WorkReader, "_begin", lambda _: TopicInfo(None, None, 1))
    client = kind(settings.load({**settings_environment, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}), state())
    client._client.due = float("inf")
    client._took = client._state.may_take if kind is JobsReader else None
    if reason == "refused":
        client._client.note(REFUSAL)
    assert client.read() == ([], [])
    if reason == "refused":
        monkeypatch.setattr(renewal, "RENEW_SECONDS", 0.0)  # it is old enough
    else:
        wall, uptime = read_clocks()
        monkeypatch.setattr(waits, "read_clocks", lambda: ClockReading(wall - HOUR, uptime))
    with pytest.raises(RestartReader):
        client.read()
    client.close()
