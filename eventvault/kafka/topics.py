"""Asks the brokers about topics and creates topics. A request without an answer raises KafkaUnreachable in seconds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from eventvault.errors import KafkaRefused, KafkaUnreachable
from eventvault.kafka import config, hidden, waits
from eventvault.kafka.clients import Admin
from eventvault.kafka.topic_info import TopicInfo

REQUEST_TIMEOUT_SECONDS = 3.0

_TRANSIENT = (KafkaError.REQUEST_TIMED_OUT, KafkaError.NOT_CONTROLLER, KafkaError.COORDINATOR_NOT_AVAILABLE)

LARGE_MESSAGES = {"max.message.bytes": str(config.LARGEST_MESSAGE_BYTES)}
DEAD_LETTERS = {**LARGE_MESSAGES, "retention.ms": "-1"}
"""Properties of a topic of dead letters: any message fits with the added headers, and none expires unread."""

UNKNOWN = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)


class Cluster(NamedTuple):
    """A cluster. brokers: id → address."""

    cluster_id: str | None
    brokers: dict[int, str]


class TopicRequest(NamedTuple):
    """A request that was sent, and the client that waits for its answer."""

    admin: Admin
    answer: Future[Any]


def describe_cluster(admin: Admin) -> Cluster:
    cluster = answer_of(admin, admin.describe_cluster(request_timeout=REQUEST_TIMEOUT_SECONDS))
    return Cluster(cluster.cluster_id, {node.id: f"{node.host}:{node.port}" for node in cluster.nodes})


def cluster_once_logged_in(admin: Admin) -> Cluster | None:
    """Return the cluster; None while the client is still logging in, so ask again. Raises KafkaUnreachable."""
    try:
        return describe_cluster(admin)
    except KafkaRefused:
        raise
    except KafkaUnreachable:
        if admin.is_logging_in:
            return None
        raise


def names(admin: Admin) -> list[str]:
    """Return the names of all topics that the brokers show to this client. Raises KafkaUnreachable."""
    listed = answer_of(admin, waits.call_in_thread(lambda: admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS)))
    return [name for name, topic in listed.topics.items() if topic.error is None]


def ask_topic(admin: Admin, topic: str) -> TopicRequest:
    """Send a request about a topic; `topic_of` returns its answer."""
    return ask_topics(admin, [topic])[topic]


def ask_topics(admin: Admin, topics: Collection[str]) -> Mapping[str, TopicRequest]:
    """Send one request about several topics; `topic_of` returns the answer of each."""
    if not topics:
        return {}
    answers: Mapping[str, Future[Any]] = admin.describe_topics(
        TopicCollection(list(topics)), request_timeout=REQUEST_TIMEOUT_SECONDS
    )
    return {name: TopicRequest(admin, answer) for name, answer in answers.items()}


def topic_of(request: TopicRequest, cluster_id: str | None) -> TopicInfo | None:
    """Return the topic of the answer, None if it does not exist. Raises KafkaUnreachable."""
    try:
        description = answer_of(*request)
    except KafkaUnreachable as error:
        if error.details.get("kafka") in UNKNOWN:
            return None
        raise
    number = (description.topic_id.get_most_significant_bits(), description.topic_id.get_least_significant_bits())
    return TopicInfo(cluster_id, str(description.topic_id) if any(number) else None, len(description.partitions))


def bounds(admin: Admin, topic: str, partition: int) -> tuple[int, int]:
    """Ask the broker for a partition's first offset and its end. Raises KafkaUnreachable."""
    return _bounds(admin, [TopicPartition(topic, partition)])[0]


def all_bounds(admin: Admin, partitions: Mapping[str, int]) -> dict[str, dict[int, tuple[int, int]]]:
    """Return the first offset and the end of each partition of topics. partitions: how many each topic has.

    The end is after the last committed transaction. Raises KafkaUnreachable.
    """
    places = [TopicPartition(topic, number) for topic, count in partitions.items() for number in range(count)]
    by_topic: dict[str, dict[int, tuple[int, int]]] = {topic: {} for topic in partitions}
    for place, place_bounds in zip(places, _bounds(admin, places) if places else (), strict=True):
        by_topic[place.topic][place.partition] = place_bounds
    return by_topic


def _bounds(admin: Admin, places: Sequence[TopicPartition]) -> list[tuple[int, int]]:
    """Return the first offset and the end of each of these partitions, as `all_bounds` does.

    If the leader of a partition goes away meanwhile, librdkafka reports no error, but a negative offset.
    """
    begins, ends = (
        admin.list_offsets(
            dict.fromkeys(places, which),
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=REQUEST_TIMEOUT_SECONDS,
        )
        for which in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]
    )
    answers = [
        (int(answer_of(admin, begins[place]).offset), int(answer_of(admin, ends[place]).offset)) for place in places
    ]
    for place, place_bounds in zip(places, answers, strict=True):
        if min(place_bounds) < 0:
            raise KafkaUnreachable(
                f"Kafka does not say where partition {place.partition} of the topic {place.topic} begins and ends",
                hint="check the brokers; it is retried automatically",
            )
    return answers


def create_topic(
    admin: Admin, topic: str, properties: Mapping[str, str], partitions: int = -1, *, may_create: bool
) -> str | None:
    """Create a topic that does not exist. Returns None, or why it was not created. Raises KafkaUnreachable.

    For all other properties the brokers' defaults are used. may_create: KAFKA_CREATE_TOPICS.
    """
    if not may_create:
        return "KAFKA_CREATE_TOPICS is false"
    new = NewTopic(topic, partitions, -1, config=dict(properties))
    try:
        answer_of(admin, admin.create_topics([new], request_timeout=REQUEST_TIMEOUT_SECONDS)[topic])
    except KafkaUnreachable as error:
        if error.details.get("kafka") == KafkaError.TOPIC_ALREADY_EXISTS:
            return None
        if not is_refusal(error):
            raise
        return f"it cannot be created: {error.message}"
    return None


def is_refusal(error: KafkaUnreachable) -> bool:
    """Return whether a broker answered with a refusal. The client's own errors have negative codes."""
    code = error.details.get("kafka")
    return code is not None and code > 0 and code not in _TRANSIENT


def reason_of(error: KafkaException | KafkaError) -> str:
    """Return librdkafka's message of an error, without secrets."""
    inner = error.args[0] if isinstance(error, KafkaException) else error
    return hidden.hide(str(inner.str()) if isinstance(inner, KafkaError) else str(inner))


def reason_of_unreachable(error: KafkaUnreachable) -> str:
    """Return librdkafka's message of an error; without one, the error's own message."""
    return reason_of(error.__cause__) if isinstance(error.__cause__, KafkaException) else error.message


def unreachable(error: KafkaException, reason: str = "") -> KafkaUnreachable:
    inner = error.args[0]
    return KafkaUnreachable(
        f"Kafka does not answer: {reason or reason_of(error)}",
        hint="check the brokers and KAFKA_BOOTSTRAP_SERVERS; it is retried automatically",
        kafka=inner.code() if isinstance(inner, KafkaError) else None,
    )


def answer_of(admin: Admin, request: Future[Any]) -> Any:
    """Return the answer to a request. Raises KafkaRefused with the brokers' reason, or KafkaUnreachable."""
    try:
        failure = request.exception(REQUEST_TIMEOUT_SECONDS + 2)  # not raised: its traceback would hold the client
    except TimeoutError as error:
        _check_refusal(admin, error)
        raise KafkaUnreachable(
            f"Kafka does not answer within {REQUEST_TIMEOUT_SECONDS + 2:.0f} s",
            hint="check the brokers; it is retried automatically",
        ) from error
    if failure is None:
        admin.note_answer()
        return request.result(0)
    if not isinstance(failure, KafkaException):
        raise failure
    if is_refusal(unreachable(failure)):
        raise unreachable(failure) from failure
    _check_refusal(admin, failure)
    raise unreachable(failure, admin.newest_error()) from failure


def _check_refusal(admin: Admin, error: Exception) -> None:
    """Raise KafkaRefused if the brokers refused the client while a request failed with this error."""
    refusal = admin.refusal()
    if refusal is not None:
        raise KafkaRefused(f"the Kafka brokers refuse EventVault: {refusal.why}", hint=refusal.hint) from error
