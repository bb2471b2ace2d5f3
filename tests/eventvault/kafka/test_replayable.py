"""Whether the brokers still hold what came after an archive."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from eventvault.errors import KafkaUnreachable
from eventvault.kafka.broker_bounds import ASK_SECONDS, KNOWN_SECONDS, BrokerBounds, Brokers
from eventvault.kafka.replayable import ArchivedOffsets, Bounds, TopicBounds, holds_all_after, messages_after
from eventvault.settings import load
from tests.kafka_broker import Kafka
from tests.processes import wait_until

ARCHIVED = ArchivedOffsets({"events": {"0": 10, "1": 5}}, {"events": "T"})
TWO = {0: (0, 20), 1: (0, 5)}


def held(partitions: dict[int, tuple[int, int]] = TWO, topic_id: str | None = "T") -> Bounds:
    return {"events": TopicBounds(topic_id, partitions)}


@pytest.mark.parametrize(
    ("archived", "present", "replayable", "messages"),
    [
        (ARCHIVED, held(), True, 10),
        (ARCHIVED, held({0: (10, 10), 1: (5, 9)}), True, 4),
        (ARCHIVED, held({0: (11, 20), 1: (0, 5)}), False, 9),
        (ARCHIVED, held({0: (0, 9), 1: (0, 5)}), False, 0),
        (ARCHIVED, held({0: (0, 20)}), False, 10),
        (ARCHIVED, held({**TWO, 2: (0, 7)}), True, 17),
        (ARCHIVED, held({**TWO, 2: (3, 7)}), None, 14),
        (ARCHIVED, held(topic_id="U"), False, 10),
        (ARCHIVED, held(topic_id=None), True, 10),
        (ArchivedOffsets(ARCHIVED.next), held(), None, 10),
        (ArchivedOffsets(ARCHIVED.next), held({0: (11, 20), 1: (0, 5)}), False, 9),
        (ArchivedOffsets({}), held(), True, 25),
        (ArchivedOffsets({}), held({0: (3, 4)}), None, 1),
        (ARCHIVED, {"events": None}, False, None),
        (ARCHIVED, None, None, None),
        (None, held(), None, None),
    ],
)
def test_what_the_brokers_hold_is_compared_with_the_offsets(
    archived: ArchivedOffsets | None, present: Bounds | None, replayable: bool | None, messages: int | None
) -> None:
    assert holds_all_after(archived, present, ["events"]) is replayable
    assert messages_after(archived, present, ["events"]) == messages


def test_of_several_topics_each_counts() -> None:
    present = {**held(), "more": TopicBounds("M", {0: (1, 4)})}
    assert holds_all_after(ARCHIVED, present, ["events", "more"]) is None
    assert messages_after(ARCHIVED, present, ["events", "more"]) == 13
    assert holds_all_after(ARCHIVED, held(), ["events", "more"]) is None
    assert holds_all_after(ARCHIVED, {**present, "more": None}, ["events", "more"]) is False


@pytest.mark.parametrize(
    "kafka",
    [{"events": 1}, {"events": {"x": 1}}, {"events": {"0": "1"}}, {"events": {str(n): 1 for n in range(6000)}}],
)
def test_what_is_no_offset_of_ours_is_not_noted(kafka: dict[str, Any]) -> None:
    assert ArchivedOffsets.of(kafka, {}) is None


class Answers:
    """What the brokers answer, when it is let go."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = threading.Event()
        self.answer: Bounds | None = held()

    def __call__(self, _: object) -> Bounds:
        self.asked += 1
        assert self.go.wait(30)
        if self.answer is None:
            raise KafkaUnreachable("Kafka does not answer")
        return self.answer


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_list_never_waits_and_asks_every_few_seconds_at_most() -> None:
    answers, time = Answers(), Time()
    watched = BrokerBounds(lambda: ["events"], answers, time)
    assert [watched.latest() for _ in range(50)] == [None] * 50
    answers.go.set()
    wait_until(lambda: watched.latest() is not None, "the answer does not come")
    for _ in range(50):
        assert watched.latest() == held()
    assert answers.asked == 1
    time.now += ASK_SECONDS
    assert watched.latest() == held()
    wait_until(lambda: answers.asked == 2, "the brokers are not asked again")


def test_an_old_answer_and_none_say_nothing() -> None:
    answers, time = Answers(), Time()
    answers.go.set()
    watched = BrokerBounds(lambda: ["events"], answers, time)
    assert watched.present() == held()
    answers.go.clear()
    time.now += KNOWN_SECONDS
    assert watched.latest() is None
    answers.answer = None
    answers.go.set()
    assert watched.present() is None
    assert watched.latest() is None


def test_an_error_that_nobody_foresaw_leaves_no_old_answer(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object) -> Bounds:
        raise RuntimeError("unforeseen")

    answers = Answers()
    answers.go.set()
    watched = BrokerBounds(lambda: ["events"], answers)
    assert watched.present() == held()
    watched._ask = fail
    assert (watched.present(), watched.latest()) == (None, None)
    assert "RuntimeError: unforeseen" in caplog.text


def test_a_plan_does_not_take_the_answer_to_an_earlier_question() -> None:
    answers = Answers()
    watched = BrokerBounds(lambda: ["events"], answers)
    assert watched.latest() is None
    wait_until(lambda: answers.asked == 1, "the brokers are not asked")
    threading.Timer(0.05, answers.go.set).start()
    assert watched.present() == held()
    assert answers.asked == 2


def test_without_topics_nobody_is_asked() -> None:
    answers = Answers()
    watched = BrokerBounds(list, answers)
    assert (watched.latest(), watched.present(), answers.asked) == (None, None, 0)


@pytest.mark.kafka
def test_the_brokers_tell_where_topics_begin_and_end(kafka: Kafka, settings_environment: dict[str, str]) -> None:
    topic, missing = kafka.topic(2), kafka.name()
    kafka.send(topic, [b"1", b"2", b"3"])
    kafka.remove_before(topic, 2)
    ask = Brokers(load({**settings_environment, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}))
    for _ in range(2):
        answer = ask([topic, missing])
        bounds = answer[topic]
        assert bounds is not None
        assert (dict(bounds.partitions), answer[missing]) == ({0: (2, 3), 1: (0, 0)}, None)
        assert bounds.topic_id
    with pytest.raises(TypeError):
        ask([None])  # type: ignore[list-item]
    assert ask._admin is None
    away = Brokers(load({**settings_environment, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}))
    with pytest.raises(KafkaUnreachable):
        away([topic])
