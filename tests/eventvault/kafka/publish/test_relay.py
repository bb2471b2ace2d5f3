"""The relay sends what waits, in order, at least once, and no event stops those behind it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from eventvault import clock, processors
from eventvault.database.bus import EventBus
from eventvault.database.commit import Done
from eventvault.database.nonces import Nonces
from eventvault.database.outbox import message_of
from eventvault.database.registry import AppendBatch, BatchOutdated, create_database
from eventvault.database.values import Head, Published
from eventvault.errors import NoSpace, StoreUnavailable
from eventvault.events import event
from eventvault.kafka.publish import outbox_reader
from eventvault.kafka.publish import relay as relay_module
from eventvault.kafka.publish.monitor import PublishMonitor
from eventvault.kafka.publish.outbox_reader import OutboxReader
from eventvault.kafka.publish.relay import TooLargeTogether
from eventvault.restore.swap import unpublished
from tests.processes import wait_until
from tests.publishing import Topic, assert_in_order, publish, relay_of

NONCES = Nonces()


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[EventBus]:
    database = tmp_path / "event_registry_db"
    create_database(database)
    bus = EventBus(database, publishes=True)
    bus.init([])
    yield bus
    bus.close()


def post(bus: EventBus, *names: str, data: str = "", from_kafka: bool = False) -> list[tuple[str, str]]:
    drafts = [
        event.draft({"type": "t", "id": name, "subject": name[0], **({"data": data} if data else {})}, clock.now())
        for name in names
    ]
    bus.committer.append(AppendBatch(drafts, NONCES.next(), from_kafka=from_kafka))
    return [(name[0], name) for name in names]


def waiting(bus: EventBus) -> list[int]:
    with bus.using() as registry:
        return list(registry.outbox.pending(0, registry.last_sequence))


def test_publishing_rests_in_a_burst_that_nobody_waits_for(bus: EventBus) -> None:
    monitor = PublishMonitor("published", monotonic=lambda: now)
    now, topic = 0.0, Topic()
    topic.room = 0
    relay = relay_of(bus, topic, monitor)
    assert not relay._may_rest(clock.now())
    post(bus, *(f"a{number}" for number in range(relay_module.MANY - 1)))
    relay.step()
    assert not relay._may_rest(clock.now()), "single events are published at once"
    post(bus, "b1")
    relay.step()
    begun = clock.now()
    assert relay._may_rest(begun)
    assert not relay._may_rest(begun + int(relay_module.BURST_SECONDS * 1e6) + 1), "it falls behind for no longer"
    assert not relay._may_rest(begun - 3_600_000_000), "the clock was set back"
    monitor.wait_for_published(None, "", 0.0)
    assert not relay._may_rest(begun), "somebody waits"
    now = 60.0
    assert relay._may_rest(begun)


def test_the_fewer_processors_there_are_the_longer_publishing_rests() -> None:
    rests = [relay_module._rest_after(0.001, usable) for usable in (4, 2, 1, 0.5, 0.001)]
    assert rests == [0.0075, 0.015, 0.03, 0.06, relay_module._LONGEST_REST]


def test_of_a_container_the_quota_counts(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, topic = list[float](), Topic()
    topic.room = 0
    post(bus, *(f"a{number}" for number in range(relay_module.MANY)))
    monkeypatch.setattr(processors, "usable", lambda: 0.25)
    monkeypatch.setattr(relay_module, "_rest_after", lambda _, usable: (asked.append(usable), 0.0)[1])
    relay_of(bus, topic).run(lambda: bool(asked))
    assert asked == [0.25]


@pytest.mark.slow
def test_all_of_a_burst_is_published(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_LONGEST_REST", 0.001)
    topic, posted = Topic(), post(bus, *(f"{number % 7}-{number}" for number in range(3 * relay_module.MANY)))
    relay_of(bus, topic).run(lambda: len(topic.messages) >= len(posted))
    assert_in_order(topic, posted)
    assert len(topic.messages) == len(posted)


def test_each_event_is_sent_in_order_and_then_waits_no_more(bus: EventBus) -> None:
    topic, posted = Topic(), post(bus, "a1", "b1", "a2")
    post(bus, "k1", from_kafka=True)
    posted += post(bus, "b2")
    publish(bus, topic)
    assert_in_order(topic, posted)
    assert (topic.ids, waiting(bus)) == (["a1", "b1", "a2", "b2"], [])


def test_what_no_broker_has_is_sent_by_the_next_run(bus: EventBus) -> None:
    topic = Topic()
    post(bus, "a1", "a2", "a3")
    publish(bus, topic, 2)
    assert (topic.ids, waiting(bus)) == (["a1", "a2"], [3])
    publish(bus, topic)
    assert (topic.ids, waiting(bus)) == (["a1", "a2", "a3"], [])


def test_a_crash_before_the_removal_publishes_again_and_loses_nothing(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "REMOVE_SECONDS", 3600)
    topic, posted = Topic(), post(bus, "a1", "a2")
    relay_of(bus, topic).step()
    bus.reopen()
    assert waiting(bus) == [1, 2]
    posted += post(bus, "a3")
    publish(bus, topic)
    assert_in_order(topic, posted)
    assert topic.ids == ["a1", "a2", "a1", "a2", "a3"]


class FullDisk:
    """Lets no removal be written while it is `full`. tries: how many were to be."""

    def __init__(self, bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = True
        self.tries = 0
        self._submit = bus.committer.submit
        monkeypatch.setattr(bus.committer, "submit", self._submitted)
        monkeypatch.setattr(relay_module, "REMOVE_SECONDS", 0.0)
        monkeypatch.setattr(relay_module, "REMOVE_AGAIN_SECONDS", 0.0)

    def _submitted(self, batch: AppendBatch, done: Done) -> None:
        self.tries += batch.delivered is not None
        if self.full and batch.delivered is not None:
            done(NoSpace("the disk is full", hint="free some"))
        else:
            self._submit(batch, done)


def test_what_a_full_disk_does_not_let_go_is_published_once_and_removed_later(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, monitor = Topic(), PublishMonitor("published", bus.backlog)
    disk = FullDisk(bus, monkeypatch)
    post(bus, "a1", "a2")
    relay = relay_of(bus, topic, monitor)
    for _ in range(5):
        relay.step()
    post(bus, "a3")
    for _ in range(5):
        relay.step()
    assert (topic.ids, waiting(bus), disk.tries > 1) == (["a1", "a2", "a3"], [1, 2, 3], True)
    assert monitor.published == Head(bus.registry.identity.generation, 3)  # type: ignore[union-attr]
    assert "the disk is full" in monitor.snapshot()["publish"]["lastError"]["message"]

    later = relay_of(bus, topic, monitor, relay.settled)
    post(bus, "a4")
    for _ in range(5):
        later.step()
    disk.full = False
    bus.committer.answer_to(later.remove)
    later.step()
    bus.committer.answer_to(later.remove)
    assert (topic.ids, waiting(bus)) == (["a1", "a2", "a3", "a4"], [])


def test_a_message_that_is_no_event_is_not_sent_again_either(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    post(bus, "a1", "a2")
    with bus.using() as registry:
        taken_out = [message_of(registry.at(1))]
    bus.close()
    with unpublished.opened(bus.database) as (db, _):
        unpublished.put(db, taken_out)
    again = EventBus(bus.database, publishes=True)
    again.init([])
    FullDisk(again, monkeypatch)
    topic = Topic()
    relay = relay_of(again, topic)
    for _ in range(5):
        relay.step()
    for _ in range(5):
        relay_of(again, topic, settled=relay.settled).step()
    again.close()
    assert topic.ids == ["a1", "a1", "a2"]


def test_while_much_cannot_be_removed_no_more_is_sent(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "MOST_SETTLED", 3)
    disk, topic = FullDisk(bus, monkeypatch), Topic()
    relay = relay_of(bus, topic)
    for name in ("a1", "a2", "a3", "a4"):
        post(bus, name)
        relay.step()
    for _ in range(3):
        relay.step()
    assert topic.ids == ["a1", "a2", "a3"]
    disk.full = False

    def sends_the_last() -> bool:
        relay.step()
        return topic.ids == ["a1", "a2", "a3", "a4"]

    wait_until(sends_the_last, "it does not go on once there is room")


def test_while_nothing_more_is_sent_as_much_cannot_be_removed_health_says_that_and_why(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MOST_SETTLED", 2)
    disk, topic, monitor = FullDisk(bus, monkeypatch), Topic(), PublishMonitor("published", bus.backlog)
    relay = relay_of(bus, topic, monitor)
    post(bus, "a1", "a2")
    relay.step()
    relay.step()
    assert monitor.problems() == [], "nothing waits"
    post(bus, "a3")
    relay.step()
    with bus.using() as registry:
        waits_since = clock.format_milliseconds(event.recorded_of(registry.at(3)))
    assert monitor.snapshot()["publish"]["oldestWaiting"] == waits_since
    (problem,) = monitor.problems()
    assert problem.code == "kafka_publish_late"
    assert "free some space" in problem.hint
    assert "cannot be removed from the outbox: the disk is full" in problem.message
    disk.full = False

    def sends_the_last() -> bool:
        relay.step()
        return topic.ids == ["a1", "a2", "a3"]

    wait_until(sends_the_last, "it does not go on once there is room")
    relay.step()
    assert monitor.problems() == []


@pytest.mark.slow
def test_while_much_cannot_be_removed_the_rest_is_not_asked_for_without_a_pause(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MOST_SETTLED", 3)
    monkeypatch.setattr(relay_module, "READ_BYTES", 1)
    FullDisk(bus, monkeypatch)
    topic = Topic()
    post(bus, *(f"a{number}" for number in range(9)))
    ends, rounds = time.monotonic() + 0.5, 0

    def is_over() -> bool:
        nonlocal rounds
        rounds += 1
        return time.monotonic() > ends and len(topic.ids) == 3

    relay_of(bus, topic).run(is_over)
    assert topic.ids == ["a0", "a1", "a2"]
    assert rounds < 30


def test_after_another_generation_began_the_run_ends(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keys are of the database before."""
    monkeypatch.setattr(relay_module, "REMOVE_SECONDS", 0.0)
    topic = Topic()
    relay = relay_of(bus, topic)
    relay._outbox.generation = "0" * 32
    topic.room = 0
    post(bus, "a1")
    with pytest.raises(StoreUnavailable):
        relay.step()
    with pytest.raises(BatchOutdated):
        bus.committer.answer_to(relay.remove)
    with pytest.raises(BatchOutdated):
        relay._take_answers()


def test_how_far_it_got_is_known_once_all_before_is_there(bus: EventBus) -> None:
    topic, monitor = Topic(), PublishMonitor("published", bus.backlog)
    post(bus, "a1", "a2")
    post(bus, "k1", from_kafka=True)
    topic.room = 1
    relay = relay_of(bus, topic, monitor)
    relay.step()
    generation = bus.registry.identity.generation  # type: ignore[union-attr]
    assert monitor.published == Head(generation, 1)
    topic.room = 10
    relay.step()
    relay.step()
    assert monitor.published == Head(generation, 3)


def test_a_run_with_nothing_to_send_says_that_all_is_there(bus: EventBus) -> None:
    """Whoever sends an event again after a restart hears at once that Kafka has it."""
    post(bus, "a1", "a2")
    publish(bus, Topic())
    bus.reopen()
    monitor = PublishMonitor("published", bus.backlog)
    relay_of(bus, Topic(), monitor).step()
    assert monitor.published == Head(bus.registry.identity.generation, 2)  # type: ignore[union-attr]


def test_the_backlog_is_counted_once_and_then_followed(bus: EventBus) -> None:
    post(bus, "a1", "a2", "a3")
    assert bus.backlog() is None
    OutboxReader(bus, NONCES).count()
    post(bus, "a4")
    assert bus.backlog() == 4
    publish(bus, Topic(), 3)
    assert bus.backlog() == 1


def test_the_backlog_is_exact_though_the_removal_comes_after_the_publisher_has_ended(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "REMOVE_SECONDS", 3600)
    OutboxReader(bus, NONCES).count()
    topic = Topic()
    post(bus, "a1", "a2")
    relay = relay_of(bus, topic)
    relay.step()
    with bus.committer.paused():
        relay.remove()
        later = relay_of(bus, topic, settled=relay.settled)
    post(bus, "a3", "a4", "a5")
    bus.committer.answer_to(later.remove)
    assert bus.backlog() == 3
    assert waiting(bus) == [3, 4, 5]


def test_the_backlog_is_known_again_once_the_database_was_opened_again(bus: EventBus) -> None:
    def run_once() -> None:
        loops = iter((False, True))
        relay.run(lambda: next(loops))

    topic = Topic()
    topic.room = 0
    post(bus, "a1", "a2", "a3")
    relay = relay_of(bus, topic)
    run_once()
    assert bus.backlog() == 3
    bus.reopen()
    assert bus.backlog() is None
    run_once()
    assert bus.backlog() == 3


def test_nobody_waits_for_the_count_of_a_long_backlog(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The closing of the database waits for its users: between two parts of the count there is none."""
    monkeypatch.setattr(outbox_reader, "_COUNTED_AT_ONCE", 2)
    post(bus, *(f"a{number}" for number in range(7)))
    with bus.using() as registry:
        bodies = [message_of(registry.at(sequence)) for sequence in (1, 2, 3)]
    bus.close()
    with unpublished.opened(bus.database) as (db, _):
        unpublished.put(db, bodies)
    again = EventBus(bus.database, publishes=True)
    again.init([])
    users = list[int]()
    monkeypatch.setattr(outbox_reader.progress, "step", lambda: users.append(again._users))
    OutboxReader(again, NONCES).count()
    assert again.backlog() == 10
    again.close()
    assert (set(users), len(users)) == ({0}, 8)


def test_what_is_removed_while_it_is_counted_makes_no_wrong_number(bus: EventBus) -> None:
    post(bus, "a1", "a2")
    with bus.using() as registry:
        outbox = registry.outbox
    outbox.note_count(2, 2, removed=1)
    assert bus.backlog() is None
    outbox.note_count(2, 2, removed=0)
    assert bus.backlog() == 2


def test_no_more_is_in_memory_than_the_window_while_no_broker_answers(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MOST_SENT", 3)
    topic = Topic()
    topic.room = 0
    post(bus, *(f"a{number}" for number in range(10)))
    relay = relay_of(bus, topic)
    for _ in range(5):
        relay.step()
    assert len(relay._sent) == 3
    topic.room = 100
    for _ in range(10):
        relay.step()
    assert len(topic.ids) == 10


def test_an_event_that_is_too_large_goes_without_its_data_and_stops_nobody(bus: EventBus) -> None:
    topic, monitor = Topic(), PublishMonitor("published", bus.backlog)
    topic.largest = 500
    posted = [*post(bus, "a1"), *post(bus, "a2", data="x" * 5000), *post(bus, "a3")]
    relay = relay_of(bus, topic, monitor, largest=700)
    for _ in range(8):
        relay.step()
    assert_in_order(topic, posted)
    assert topic.ids == ["a1", "a2", "a3"]
    assert topic.messages[1][1] == b""
    assert topic.messages[1][2]["ce_dataref"] == b"/api/events?id=a2&source=eventvault"
    (problem,) = monitor.problems()
    assert (problem.code, problem.degrades) == ("kafka_event_too_large", False)
    assert "'a2'" in problem.message


def test_what_is_refused_together_is_sent_one_by_one(bus: EventBus) -> None:
    """The limit of the topic was lowered, or the brokers do not tell it."""
    topic = Topic()
    topic.largest = 500
    posted = [*post(bus, "a1"), *post(bus, "a2", data="x" * 5000), *post(bus, "a3")]
    relay = relay_of(bus, topic)
    with pytest.raises(TooLargeTogether) as refused:
        relay.step()
    careful = relay_of(bus, topic, careful=refused.value.count)
    for _ in range(8):
        careful.step()
    assert_in_order(topic, posted)
    assert topic.ids == ["a1", "a2", "a3"]


def test_an_event_of_which_not_even_the_id_fits_is_named_and_stops_nobody(bus: EventBus) -> None:
    topic, monitor = Topic(), PublishMonitor("published", bus.backlog)
    topic.largest = -1
    post(bus, "a1")
    relay = relay_of(bus, topic, monitor, careful=1)
    for _ in range(8):
        relay.step()
    bus.committer.answer_to(relay.remove)
    assert waiting(bus) == []
    (problem,) = monitor.problems()
    assert (problem.code, problem.degrades) == ("kafka_event_too_large", True)
    shown = monitor.snapshot()["publish"]
    assert (shown["published"], shown["withoutData"], shown["notPublished"]) == (0, 1, 1)
    generation = bus.registry.identity.generation  # type: ignore[union-attr]
    assert monitor.wait_for_published(None, generation, 0.0) == Published(generation, 1, (1,))
    assert monitor.wait_for_published(None, "another", 0.0) == Published("another", 0)


def test_another_failure_ends_the_run_and_nothing_is_removed(bus: EventBus) -> None:
    class Failing(Topic):
        def poll(self, timeout: float) -> int:
            for _, report in self._waiting:
                report(KafkaError(KafkaError._UNKNOWN_TOPIC), None)
            self._waiting.clear()
            return 0

    post(bus, "a1")
    relay = relay_of(bus, Failing())
    with pytest.raises(KafkaException):
        relay.step()
    assert waiting(bus) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_whatever_breaks_off_each_event_is_there_in_order(bus: EventBus, number: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    topic, posted, count = Topic(), list[tuple[str, str]](), 0
    for _ in range(40):
        names = [f"{chance.choice('abc')}{count + each}" for each in range(chance.randint(1, 5))]
        count += len(names)
        if chance.random() < 0.3:
            post(bus, *(f"k{name}" for name in names), from_kafka=True)
        else:
            posted += post(bus, *names)
        if chance.random() < 0.3:
            topic.room = chance.randint(0, 8)
            relay_of(bus, topic).step()
            topic.drop_unanswered()
            bus.reopen()
        if chance.random() < 0.4:
            publish(bus, topic, chance.randint(0, 10))
    publish(bus, topic)
    assert_in_order(topic, posted)
    assert (waiting(bus), [name for name in topic.ids if name[0] == "k"]) == ([], [])


def test_health_names_what_is_late_and_a_topic_that_is_missing() -> None:
    now = [0.0]
    monitor = PublishMonitor("published", monotonic=lambda: now[0])
    assert monitor.problems() == []
    monitor.oldest_waits_since(clock.now() - 61_000_000)
    assert [problem.code for problem in monitor.problems()] == ["kafka_publish_late"]
    monitor.oldest_waits_since(clock.now())
    monitor.failed("no broker")
    assert monitor.problems() == []
    now[0] = 16.0
    (problem,) = monitor.problems()
    assert (problem.code, "no broker" in problem.message) == ("kafka_publish_late", True)
    monitor.topic_missing("the topic published does not exist")
    assert [problem.code for problem in monitor.problems()] == ["kafka_publish_topic_missing"]
    monitor.delivered(1, "g", 1)
    monitor.oldest_waits_since(None)
    assert monitor.problems() == []


def test_health_says_why_it_is_late_and_that_the_brokers_refuse_it_at_once() -> None:
    now = [0.0]
    monitor = PublishMonitor("published", monotonic=lambda: now[0])
    monitor.heard("kafka:9092: Connection refused")
    assert monitor.snapshot()["publish"]["lastError"] is None, "nobody waits"
    now[0] = 100.0
    monitor.oldest_waits_since(None)
    monitor.oldest_waits_since(clock.now())
    assert monitor.problems() == []
    monitor.heard("kafka:9092: Connection refused")
    assert monitor.snapshot()["publish"]["lastError"]["message"] == "kafka:9092: Connection refused"
    now[0] = 116.0
    (problem,) = monitor.problems()
    assert "Connection refused" in problem.message
    monitor.delivered(1, "g", 1)
    assert monitor.problems() == []
    monitor.heard("the Kafka brokers refuse EventVault: the login fails", "correct KAFKA_SASL_USERNAME")
    (problem,) = monitor.problems()
    assert (problem.code, problem.hint) == ("kafka_publish_late", "correct KAFKA_SASL_USERNAME")
    assert "the login fails" in problem.message
    monitor.delivered(1, "g", 2)
    monitor.oldest_waits_since(None)
    assert monitor.problems() == []


def test_an_error_from_before_the_event_that_waits_is_no_problem() -> None:
    now = [0.0]
    monitor = PublishMonitor("published", monotonic=lambda: now[0])
    monitor.failed("no broker")
    monitor.oldest_waits_since(None)
    now[0] = 3600.0
    monitor.oldest_waits_since(clock.now())
    assert monitor.problems() == []


def test_a_store_of_a_command_publishes_nothing_and_says_nothing_of_it() -> None:
    monitor = PublishMonitor("published", publishes=False)
    monitor.oldest_waits_since(0)
    assert monitor.problems() == []
    assert PublishMonitor(None).snapshot() == {}
