"""The fixtures around a real Kafka broker: one for the whole test session, shared by all xdist workers.

`kafka` gives the shared broker, `secured_kafka` its second listener, where a client has to log in, and `private_kafka`
one of the test's own that it may stop and start. The broker is
started by the first test that asks and ended with the session, however that ends. `KAFKA_BOOTSTRAP_SERVERS` in the
environment that pytest is given names a broker to use instead. Where there is neither a broker nor the means to
start one the test is skipped with the reason; with CI=true it fails.
"""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer, ConsumerGroupState, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.authority import Authority
from tests.kafka_process import KafkaBroker, KafkaUnavailable, locked

GIVEN_BROKER = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "").strip()
"""Read before any test changes the environment."""

PATIENCE_SECONDS = 60.0
_SHARED = pytest.StashKey[tuple[Path, int]]()


class Kafka:
    """A broker as tests use it. Topics get unique names, so that tests never meet."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.topics: list[str] = []
        self._config = {"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 500}
        self.admin = AdminClient(self._config)
        self._producer: Producer | None = None

    def name(self, prefix: str = "events") -> str:
        """A topic's or group's name that nobody else has; nothing is created."""
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        self.topics.append(name)
        return name

    def topic(self, partitions: int = 1, name: str | None = None, **config: str) -> str:
        """A topic, created; `config` as the broker names it, with `_` for `.`."""
        name = name or self.name()
        settings = {key.replace("_", "."): value for key, value in config.items()}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(30)
                break
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS or time.monotonic() > deadline:
                    raise
        self.wait_for_topic(name, there=True)
        return name

    def exists(self, topic: str) -> bool:
        return topic in self.admin.list_topics(timeout=30).topics

    def delete(self, topic: str) -> None:
        self.admin.delete_topics([topic])[topic].result(30)
        self.wait_for_topic(topic, there=False)

    def send(
        self,
        topic: str,
        values: Sequence[bytes | str | None],
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Any = None,
    ) -> None:
        """Produce, and return when the broker has all of it, in this order.

        Idempotent, for the order: a partition that was just created can refuse a first batch, for it has no leader
        yet, and take the second one that is on its way already.
        """
        if self._producer is None:
            self._producer = Producer({
                **self._config, "enable.idempotence": True, "linger.ms": 1, "message.max.bytes": 100 * 2**20,
            })  # fmt: skip
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error)

        for value in values:
            self._producer.produce(
                topic, value, key=key, partition=partition, headers=headers or [], on_delivery=delivered
            )
            self._producer.poll(0)
        left = self._producer.flush(PATIENCE_SECONDS)
        assert not left, f"{left} messages to {topic} were not delivered"
        assert not failed, failed

    def forget_producer(self) -> None:
        """Send with a new client from now on, as after a message that the broker did not take."""
        self._producer = None

    def read(self, topic: str, count: int, partitions: int = 1) -> list[Message]:
        """The first `count` messages of a topic that may not exist yet; fails when they do not come."""
        consumer = Consumer({
            **self._config, "group.id": "reader", "enable.auto.commit": False, "isolation.level": "read_committed",
            "fetch.wait.max.ms": 50, "topic.metadata.refresh.interval.ms": 500,
        })  # fmt: skip
        try:
            self.wait_for_topic(topic, there=True)
            consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
            found: list[Message] = []
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(found) < count and time.monotonic() < deadline:
                message = consumer.poll(0.2)
                if message is not None and message.error() is None:
                    found.append(message)
                    deadline = time.monotonic() + PATIENCE_SECONDS
        finally:
            consumer.close()
        assert len(found) == count, f"{len(found)} of {count} messages came to {topic}"
        return found

    def total(self, topic: str) -> int:
        """How many messages were ever sent to a topic."""
        ends = {
            TopicPartition(topic, partition): OffsetSpec.latest()
            for partition in self.admin.list_topics(topic, timeout=30).topics[topic].partitions
        }
        return sum(int(found.result(30).offset) for found in self.admin.list_offsets(ends).values())

    def members(self, group: str) -> list[int]:
        """How many partitions each member of a consumer group has; none while it rebalances."""
        try:
            found = self.admin.describe_consumer_groups([group])[group].result(30)
        except KafkaException:
            return []
        members = found.members if found.state == ConsumerGroupState.STABLE else []
        return [len(member.assignment.topic_partitions) if member.assignment else 0 for member in members]

    def remove_before(self, topic: str, offset: int, partition: int = 0) -> None:
        """What retention does: the messages before `offset` are gone."""
        where = TopicPartition(topic, partition, offset)
        self.admin.delete_records([where])[where].result(30)

    def change_config(self, topic: str, **config: str) -> None:
        """A topic's settings, as the broker names them with `_` for `.`."""
        entries = [
            ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for key, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        self.admin.incremental_alter_configs([resource])[resource].result(30)

    def add_partitions(self, topic: str, total: int) -> None:
        """Raise the number of a topic's partitions to `total`."""
        self.admin.create_partitions([NewPartitions(topic, total)])[topic].result(30)
        self.wait_for_topic(topic, there=True, partitions=total)
        self._producer = None

    def close(self, *, delete: bool) -> None:
        """delete: leave nothing behind on a broker that goes on."""
        if delete and self.topics:
            there = self.admin.list_topics(timeout=30).topics
            mine = [name for name in there if name.startswith(tuple(self.topics))]
            for future in (self.admin.delete_topics(mine) if mine else {}).values():
                future.result(30)

    def wait_for_topic(self, topic: str, *, there: bool, partitions: int = 1) -> None:
        """Returns when the topic is there with at least so many partitions, or not there any more."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            found = self.admin.list_topics(topic, timeout=30).topics[topic]
            if there == (found.error is None and len(found.partitions) >= partitions):
                return
            time.sleep(0.02)
        raise AssertionError(f"topic {topic} is {'not there' if there else 'still there'}")


def pytest_configure(config: pytest.Config) -> None:
    """The controller says where the shared broker lies; nothing is made or started before a test asks."""
    given = getattr(config, "workerinput", {}).get("kafka")
    name = f"eventvault-kafka-{os.getpid()}-{secrets.token_hex(4)}"
    folder, owner = given or (str(Path(tempfile.gettempdir()) / name), os.getpid())
    config.stash[_SHARED] = (Path(folder), owner)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: tell each worker where the shared broker lies."""
    folder, owner = node.config.stash[_SHARED]
    node.workerinput["kafka"] = (str(folder), owner)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Whoever leads the session ends the broker, once all workers are done."""
    folder, owner = config.stash.get(_SHARED, (Path(), 0))
    if owner != os.getpid() or not folder.is_dir():
        return
    with locked(folder / "lock"):
        supervisor = folder / "supervisor"
        if supervisor.exists():
            _end(int(supervisor.read_text()), folder)
        shutil.rmtree(folder)


def _end(supervisor: int, folder: Path) -> None:
    """End the supervisor and wait until it is gone; its id may be another process's by now."""
    try:
        process = os.pidfd_open(supervisor)
        if str(folder) in Path(f"/proc/{supervisor}/cmdline").read_text():
            signal.pidfd_send_signal(process, signal.SIGTERM)
            select.select([process], [], [], PATIENCE_SECONDS)
        os.close(process)
    except (ProcessLookupError, FileNotFoundError):
        return
    with suppress(ChildProcessError):
        os.waitpid(supervisor, os.WNOHANG)


def _shared_broker(folder: Path, owner: int) -> str:
    """The shared broker's address; started where it does not run yet."""
    folder.mkdir(mode=0o700, exist_ok=True)
    with locked(folder / "lock"):
        address = folder / "address"
        if not address.exists():
            broker = KafkaBroker(folder, owner, secured=True)
            or_skip(broker.start)
            (folder / "supervisor").write_text(str(broker.supervisor))
            (folder / "secured").write_text(f"localhost:{broker.secured_port}")
            address.write_text(broker.bootstrap)
        return address.read_text()


def or_skip(begin: Callable[[], object]) -> None:
    """Run `begin`; skip the test where it says that this machine has no Kafka. With CI=true that is a failure."""
    try:
        begin()
    except KafkaUnavailable as reason:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"no Kafka broker, and CI=true does not allow to skip: {reason}")
        pytest.skip(f"no Kafka broker: {reason}")


@pytest.fixture(scope="session")
def kafka_bootstrap(pytestconfig: pytest.Config) -> str:
    """The address of a broker that runs for the whole session."""
    return GIVEN_BROKER or _shared_broker(*pytestconfig.stash[_SHARED])


class User(NamedTuple):
    """Who may log in at the second listener."""

    name: str
    password: str


class SecuredKafka:
    """The second listener of the shared broker: SASL over TLS, for PLAIN, SCRAM and OAUTHBEARER (unsigned tokens).

    Its users may do everything but what `deny` denies them. folder: for the files of this test. ca: the authority's
    certificate, which a client needs.
    """

    def __init__(self, kafka: Kafka, bootstrap: str, shared: Path, folder: Path) -> None:
        self.kafka = kafka
        self.bootstrap = bootstrap
        self.authority = Authority(shared)
        self.ca = self.authority.certificate
        self.folder = folder
        self._files = 0

    def user(self, mechanism: ScramMechanism = ScramMechanism.SCRAM_SHA_512) -> User:
        """A new user, whom the broker knows."""
        user = User(f"user-{uuid.uuid4().hex[:12]}", f"geheim-{secrets.token_hex(8)}")
        self.set_password(user, user.password, mechanism)
        return user

    def set_password(self, user: User, password: str, mechanism: ScramMechanism = ScramMechanism.SCRAM_SHA_512) -> None:
        change = UserScramCredentialUpsertion(user.name, ScramCredentialInfo(mechanism, 4096), password.encode())
        self.kafka.admin.alter_user_scram_credentials([change])[user.name].result(30)

    def deny(self, topic: str, user: User, operation: AclOperation = AclOperation.READ) -> None:
        """Let a user not read a topic, or do another operation on it. All others may do everything still."""
        for binding in (AclBinding(*_allowing_all(topic)), AclBinding(*_denial(topic, user, operation))):
            self.kafka.admin.create_acls([binding])[binding].result(30)

    def allow(self, topic: str, user: User, operation: AclOperation = AclOperation.READ) -> None:
        """Take back what `deny` did."""
        binding = AclBindingFilter(*_denial(topic, user, operation))
        self.kafka.admin.delete_acls([binding])[binding].result(30)

    def secret(self, text: str) -> Path:
        """A file with a secret."""
        self._files += 1
        path = self.folder / f"secret-{self._files}"
        path.touch(0o600)
        path.write_text(text)
        return path

    def environment(self, user: User, **changed: str) -> dict[str, str]:
        """The settings with which EventVault logs in as this user."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": user.name,
            "KAFKA_SASL_PASSWORD_FILE": str(self.secret(user.password)),
            "KAFKA_SSL_CA_LOCATION": str(self.ca),
            **changed,
        }


def _denial(topic: str, user: User, operation: AclOperation) -> tuple[Any, ...]:
    who = f"User:{user.name}"
    return ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, who, "*", operation, AclPermissionType.DENY


def _allowing_all(topic: str) -> tuple[Any, ...]:
    """Where a topic has any rule, what no rule allows is denied."""
    allowed = (AclOperation.ALL, AclPermissionType.ALLOW)
    return ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:*", "*", *allowed


@pytest.fixture
def secured_kafka(kafka: Kafka, pytestconfig: pytest.Config, tmp_path: Path) -> SecuredKafka:
    """To deny a user the right to read a topic: `secured_kafka.deny(topic, user)`, before the client comes."""
    if GIVEN_BROKER:
        pytest.skip("the broker that KAFKA_BOOTSTRAP_SERVERS names has no second listener for tests")
    shared, _ = pytestconfig.stash[_SHARED]
    folder = tmp_path / "secrets"
    folder.mkdir()
    return SecuredKafka(kafka, (shared / "secured").read_text(), shared, folder)


@pytest.fixture
def kafka(kafka_bootstrap: str) -> Iterator[Kafka]:
    broker = Kafka(kafka_bootstrap)
    yield broker
    broker.close(delete=bool(GIVEN_BROKER))


@pytest.fixture
def private_kafka(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker of the test's own, not started yet: `start()`, `stop()`; its address stays the same."""
    broker = KafkaBroker(tmp_path / "kafka", os.getpid())
    or_skip(broker.prepare)
    yield broker
    broker.stop()
