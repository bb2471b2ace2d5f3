"""Clients that have to log in, over TLS, at a real broker; and what health says when they are refused."""

from __future__ import annotations

import base64
import http.server
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import ScramMechanism

from eventvault import settings
from eventvault.errors import KafkaRefused
from eventvault.kafka import clients, config, refusals, renewal, topics
from eventvault.kafka import consuming as run
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.kafka.refusals import Refusal
from eventvault.settings import Settings
from tests.authority import Authority
from tests.eventvault.kafka.conftest import Consuming, MemoryRegistry
from tests.eventvault.kafka.test_consumer import events, until
from tests.eventvault.kafka.test_refusals import tls_server
from tests.kafka_broker import PATIENCE_SECONDS, Kafka, SecuredKafka, User
from tests.kafka_process import PLAIN_PASSWORD
from tests.service import PROJECT

pytestmark = pytest.mark.kafka
Consume = Callable[..., Consuming]


@pytest.fixture
def consume_as(settings_environment: dict[str, str]) -> Iterator[Consume]:
    """consume_as(environment, topic, registry=None) starts a consumer with these settings; all are stopped."""
    started: list[Consuming] = []

    def begin(environment: dict[str, str], topic: str, registry: MemoryRegistry | None = None) -> Consuming:
        started.append(Consuming(loaded(settings_environment, environment, topic), registry or MemoryRegistry()))
        return started[-1]

    yield begin
    for consuming in started:
        consuming.consumer.stop()


def loaded(base: dict[str, str], environment: dict[str, str], topic: str) -> Settings:
    return settings.load({**base, **environment, "KAFKA_EVENTS_TOPIC": topic, "KAFKA_CREATE_TOPICS": "true"})


def refusal_of(consuming: Consuming) -> Any:
    """The problem that the brokers refuse the client, once health has it."""
    until(lambda: "kafka_refused" in consuming.codes(), "health does not say that the client is refused")
    (problem,) = consuming.monitor.problems()
    return problem


def plain(secured: SecuredKafka) -> dict[str, str]:
    return secured.environment(User("plain", PLAIN_PASSWORD), KAFKA_SASL_MECHANISM="PLAIN")


def scram(secured: SecuredKafka) -> dict[str, str]:
    user = secured.user(ScramMechanism.SCRAM_SHA_256)
    return secured.environment(user, KAFKA_SASL_MECHANISM="scram-sha-256")


def scram_512(secured: SecuredKafka) -> dict[str, str]:
    return secured.environment(secured.user())


def config_file(secured: SecuredKafka) -> dict[str, str]:
    """All of it in one file."""
    user = secured.user()
    lines = (
        "security.protocol=SASL_SSL", "sasl.mechanisms=SCRAM-SHA-512", f"sasl.username={user.name}",
        f"sasl.password={user.password}", f"ssl.ca.location={secured.ca}",
    )  # fmt: skip
    return {"KAFKA_BOOTSTRAP_SERVERS": secured.bootstrap, "KAFKA_CONFIG_FILE": str(secured.secret("\n".join(lines)))}


@pytest.mark.parametrize("login", [plain, scram, scram_512, config_file])
def test_events_and_dead_letters_go_through_a_login_over_tls(
    secured_kafka: SecuredKafka, consume_as: Consume, login: Callable[[SecuredKafka], dict[str, str]]
) -> None:
    kafka = secured_kafka.kafka
    topic = kafka.topic()
    kafka.send(topic, [*events(1, 1), b"\xff", *events(2, 2)])
    one = consume_as(login(secured_kafka), topic)
    until(lambda: one.registry.types() == ["t1", "t2"], "the events do not come")
    assert [letter.value() for letter in kafka.read(f"{topic}.dead-letter", 1)] == [b"\xff"]
    until(lambda: one.codes() == [], "health stays degraded")


_TOKENS = """\
sasl.oauthbearer.method=oidc
sasl.oauthbearer.client.id=eventvault
sasl.oauthbearer.client.secret=client-geheim
sasl.oauthbearer.token.endpoint.url=http://127.0.0.1:{port}/token
"""


class TokenServer(http.server.ThreadingHTTPServer):
    """Gives whoever has the client's secret a token that is not signed.

    lifetime: of the next tokens, in seconds. fails: the status that it answers instead. given: how many tokens.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.lifetime = 3600
        self.fails: int | None = None
        self.given = 0


class _Answer(http.server.BaseHTTPRequestHandler):
    server: TokenServer

    def do_POST(self) -> None:
        login = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        if self.server.fails or login != "eventvault:client-geheim":
            self.send_error(self.server.fails or 401)
            return
        now = int(time.time())
        claims = {"sub": "eventvault", "iat": now, "exp": now + self.server.lifetime, "scope": "kafka"}
        head, body = (
            base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=")
            for each in ({"alg": "none"}, claims)
        )
        token = {"access_token": f"{head}.{body}.", "token_type": "Bearer", "expires_in": self.server.lifetime}
        answer = json.dumps(token).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.server.given += 1

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def token_server() -> Iterator[TokenServer]:
    with TokenServer() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
    thread.join(10)


def with_tokens(secured: SecuredKafka, server: TokenServer) -> dict[str, str]:
    file = secured.secret(_TOKENS.format(port=server.server_port))
    return {
        "KAFKA_BOOTSTRAP_SERVERS": secured.bootstrap, "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_SSL_CA_LOCATION": str(secured.ca),
        "KAFKA_CONFIG_FILE": str(file),
    }  # fmt: skip


def test_oauthbearer_gets_its_token_from_the_server_that_the_file_names(
    secured_kafka: SecuredKafka, token_server: TokenServer, consume_as: Consume
) -> None:
    kafka = secured_kafka.kafka
    topic = kafka.topic()
    kafka.send(topic, [*events(1, 1), b"\xff"])
    one = consume_as(with_tokens(secured_kafka, token_server), topic)
    until(lambda: one.registry.types() == ["t1"], "the event does not come")
    kafka.read(f"{topic}.dead-letter", 1)
    assert token_server.given
    one.consumer.stop()


def test_tokens_are_renewed_before_they_expire(
    secured_kafka: SecuredKafka, token_server: TokenServer, consume_as: Consume
) -> None:
    """The brokers end a connection whose token has expired."""
    kafka = secured_kafka.kafka
    topic = kafka.topic()
    kafka.send(topic, events(1, 1))
    token_server.lifetime = 8
    one = consume_as(with_tokens(secured_kafka, token_server), topic)
    until(lambda: one.registry.types() == ["t1"], "the event does not come")
    first = token_server.given
    until(lambda: token_server.given >= 3 * first, "no token is renewed")
    kafka.send(topic, [*events(2, 2), b"\xff"])
    until(lambda: one.registry.types() == ["t1", "t2"], "it does not go on with the renewed tokens")
    kafka.read(f"{topic}.dead-letter", 1)
    until(lambda: one.codes() == [], "health stays degraded")
    one.consumer.stop()


@pytest.mark.parametrize(
    ("status", "said"), [(401, "OAUTHBEARER token"), (503, "no token was acquired: 127.0.0.1 answers 503")]
)
def test_a_token_server_that_gives_no_token_is_named_and_what_comes_waits_until_it_does(
    secured_kafka: SecuredKafka,
    token_server: TokenServer,
    consume_as: Consume,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    said: str,
) -> None:
    """After a 503 librdkafka asks again for minutes, and says nothing."""
    for name in ("PROBE_SECONDS", "TOKEN_SECONDS"):  # however busy the machine is
        monkeypatch.setattr(refusals, name, PATIENCE_SECONDS)
    kafka = secured_kafka.kafka
    topic = kafka.topic()
    kafka.send(topic, events(1, 1))
    token_server.fails = status
    one = consume_as(with_tokens(secured_kafka, token_server), topic)
    problem = refusal_of(one)
    assert said in problem.message
    assert "sasl.oauthbearer" in problem.hint
    assert "geheim" not in problem.message
    token_server.fails = None
    until(lambda: one.registry.types() == ["t1"], "the event does not come once there are tokens")
    until(lambda: one.codes() == [], "health stays degraded")
    one.consumer.stop()


def test_the_page_shows_what_is_tried_here(secured_kafka: SecuredKafka) -> None:
    page = (PROJECT / "docs" / "kafka.md").read_text()
    (shown,) = re.findall(r"```sh\n\(umask.*?```", page, re.DOTALL)
    environment = secured_kafka.environment(User("eventvault", "the password"))
    assert re.findall(r"(KAFKA_\w+)=", shown) == list(environment)
    (file,) = re.findall(r"```properties\n(.*?)```", page, re.DOTALL)
    assert re.findall(r"^([a-z.]+)=", file, re.MULTILINE) == re.findall(r"^([a-z.]+)=", _TOKENS, re.MULTILINE)


def test_a_wrong_password_is_named_until_the_file_has_the_right_one(
    secured_kafka: SecuredKafka, consume_as: Consume, caplog: pytest.LogCaptureFixture
) -> None:
    kafka, user = secured_kafka.kafka, secured_kafka.user()
    topic = kafka.topic()
    kafka.send(topic, events(1, 1))
    wrong = secured_kafka.secret("falsch-geheim")
    one = consume_as(secured_kafka.environment(user, KAFKA_SASL_PASSWORD_FILE=str(wrong)), topic)
    problem = refusal_of(one)
    assert "the login fails" in problem.message
    assert "Authentication failed" in problem.message
    assert "KAFKA_SASL_PASSWORD_FILE" in problem.hint
    assert one.monitor.snapshot()["connected"] is False
    wrong.write_text(user.password)
    until(lambda: one.registry.types() == ["t1"], "the right password is not used")
    until(lambda: one.codes() == [], "health stays degraded")
    for secret in ("falsch-geheim", user.password):
        assert secret not in caplog.text + str(one.monitor.snapshot())
    assert caplog.text.count("the login fails") == 1


def test_one_connection_that_is_refused_is_named_until_it_logs_in_with_the_new_password(
    secured_kafka: SecuredKafka, consume_as: Consume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The brokers ended one connection, and know another password by now. Others go on, as they are logged in."""
    runs: list[run.Consuming] = []
    begin = run.Consuming.__init__

    def remember(self: run.Consuming, *arguments: Any) -> None:
        begin(self, *arguments)
        runs.append(self)

    monkeypatch.setattr(run.Consuming, "__init__", remember)
    monkeypatch.setattr(renewal, "RENEW_SECONDS", 10 * PATIENCE_SECONDS)  # however busy the machine is
    kafka, user = secured_kafka.kafka, secured_kafka.user()
    topic = kafka.topic()
    kafka.send(topic, events(1, 1))
    file = secured_kafka.secret(user.password)
    one = consume_as(secured_kafka.environment(user, KAFKA_SASL_PASSWORD_FILE=str(file)), topic)
    until(lambda: one.registry.types() == ["t1"], "the event does not come")
    refusal = KafkaError(KafkaError._AUTHENTICATION, "sasl_ssl://kafka:9093/2: Authentication failed")
    runs[0]._client_error(refusal)
    kafka.send(topic, events(2, 2))
    until(lambda: one.registry.types() == ["t1", "t2"], "the other connections do not go on")
    until(lambda: one.monitor.snapshot()["lag"] == 0, "the lag does not end")
    (problem,) = one.monitor.problems()
    assert (problem.code, "KAFKA_SASL_PASSWORD_FILE" in problem.hint) == ("kafka_refused", True)
    assert one.monitor.snapshot()["connected"] is True
    monkeypatch.setattr(renewal, "RENEW_SECONDS", 0.0)
    until(lambda: len(runs) == 2, "no client logs in anew")
    until(lambda: one.codes() == [], "health stays degraded")
    kafka.send(topic, events(3, 3))
    until(lambda: one.registry.types() == ["t1", "t2", "t3"], "the new client reads nothing")


def test_a_client_that_is_refused_before_it_reads_anything_is_made_anew_within_seconds(
    secured_kafka: SecuredKafka, consume_as: Consume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password changed between two logins: that for requests, and that of the client that reads."""
    monkeypatch.setattr(renewal, "RENEW_SECONDS", 2 * PATIENCE_SECONDS)  # however busy the machine is
    properties = config.events_consumer
    old = [{"sasl.password": "falsch-geheim"}]
    monkeypatch.setattr(config, "events_consumer", lambda settings: properties(settings) | (old.pop() if old else {}))
    kafka, user = secured_kafka.kafka, secured_kafka.user()
    topic = kafka.topic()
    kafka.send(topic, events(1, 1))
    one = consume_as(secured_kafka.environment(user), topic)
    until(lambda: one.registry.types() == ["t1"], "no client logs in anew")
    until(lambda: one.codes() == [], "health stays degraded")
    assert not old


def test_an_authority_that_is_not_trusted_is_named(secured_kafka: SecuredKafka, consume_as: Consume) -> None:
    other = Authority(secured_kafka.folder, "other")
    user = secured_kafka.user()
    one = consume_as(secured_kafka.environment(user, KAFKA_SSL_CA_LOCATION=str(other.certificate)), "events")
    problem = refusal_of(one)
    assert "no trusted authority has signed their certificate" in problem.message
    assert "KAFKA_SSL_CA_LOCATION" in problem.hint


def test_a_broker_whose_certificate_has_expired_is_named(secured_kafka: SecuredKafka, consume_as: Consume) -> None:
    """The certificate is looked at before anything of Kafka is said, so a server that says nothing is enough."""
    expired = Authority(secured_kafka.folder, "mine").issue("expired", expired=True)
    with tls_server(expired) as port:
        environment = secured_kafka.environment(
            secured_kafka.user(), KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{port}",
            KAFKA_SSL_CA_LOCATION=str(secured_kafka.folder / "mine.pem"),
        )  # fmt: skip
        one = consume_as(environment, "events")
        problem = refusal_of(one)
        assert "their certificate has expired: certificate has expired" in problem.message
        assert "renew" in problem.hint
        one.consumer.stop()


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_SSL"])
def test_a_port_that_speaks_another_protocol_is_named(
    kafka: Kafka, secured_kafka: SecuredKafka, consume_as: Consume, protocol: str
) -> None:
    """PLAINTEXT to the port of TLS, and TLS to the port without."""
    environment = secured_kafka.environment(secured_kafka.user(), KAFKA_SECURITY_PROTOCOL=protocol)
    if protocol == "PLAINTEXT":
        environment |= {name: "" for name in environment if "_SASL_" in name}
    elif protocol == "SSL":
        environment |= {name: "" for name in environment if "_SASL_" in name}
        environment["KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrap
    else:
        environment["KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrap
    problem = refusal_of(consume_as(environment, "events"))
    assert "they speak another protocol" in problem.message
    assert "KAFKA_SECURITY_PROTOCOL" in problem.hint


def test_a_certificate_of_our_own_is_shown_and_an_expired_one_is_named(
    secured_kafka: SecuredKafka, consume_as: Consume
) -> None:
    topic = secured_kafka.kafka.topic()
    secured_kafka.kafka.send(topic, events(1, 1))
    user = secured_kafka.user()

    def environment(name: str, *, expired: bool) -> dict[str, str]:
        password = "key-geheim"
        own = Authority(secured_kafka.ca.parent).issue(user.name + name, expired=expired, password=password)
        return secured_kafka.environment(
            user, KAFKA_SSL_CERTIFICATE_LOCATION=str(own.certificate), KAFKA_SSL_KEY_LOCATION=str(own.key),
            KAFKA_SSL_KEY_PASSWORD_FILE=str(secured_kafka.secret(password)),
        )  # fmt: skip

    good = consume_as(environment("good", expired=False), topic)
    until(lambda: good.registry.types() == ["t1"], "the event does not come")
    problem = refusal_of(consume_as(environment("expired", expired=True), topic))
    assert "they refuse the certificate of EventVault" in problem.message
    assert "KAFKA_SSL_CERTIFICATE_LOCATION" in problem.hint


def test_a_certificate_that_is_renewed_on_the_disk_needs_no_restart(
    secured_kafka: SecuredKafka, consume_as: Consume
) -> None:
    topic = secured_kafka.kafka.topic()
    secured_kafka.kafka.send(topic, events(1, 1))
    user, authority = secured_kafka.user(), Authority(secured_kafka.ca.parent)
    own = authority.issue(f"{user.name}renewed", expired=True)
    one = consume_as(
        secured_kafka.environment(
            user, KAFKA_SSL_CERTIFICATE_LOCATION=str(own.certificate), KAFKA_SSL_KEY_LOCATION=str(own.key)
        ),
        topic,
    )
    assert "they refuse the certificate of EventVault" in refusal_of(one).message
    authority.issue(f"{user.name}renewed")
    until(lambda: one.registry.types() == ["t1"], "the renewed certificate is not used")
    until(lambda: one.codes() == [], "health stays degraded")


def test_a_topic_that_may_not_be_read_is_named_and_taken_once_it_may(
    secured_kafka: SecuredKafka, consume_as: Consume
) -> None:
    kafka, user = secured_kafka.kafka, secured_kafka.user()
    topic = kafka.topic()
    kafka.send(topic, events(1, 2))
    secured_kafka.deny(topic, user)
    one = consume_as(secured_kafka.environment(user), topic)
    until(lambda: "kafka_topic_refused" in one.codes(), "health does not say so")
    (problem,) = one.monitor.problems()
    assert "Topic authorization failed" in problem.message
    assert "allow this client to Read" in problem.hint
    secured_kafka.allow(topic, user)
    until(lambda: one.registry.types() == ["t1", "t2"], "the topic is not taken once it may be read")
    until(lambda: one.codes() == [], "health stays degraded")


def test_a_producer_that_is_refused_uses_the_password_that_the_file_has_then(
    secured_kafka: SecuredKafka, settings_environment: dict[str, str]
) -> None:
    kafka, user = secured_kafka.kafka, secured_kafka.user()
    topic = kafka.topic()
    file = secured_kafka.secret("falsch-geheim")
    chosen = loaded(settings_environment, secured_kafka.environment(user, KAFKA_SASL_PASSWORD_FILE=str(file)), topic)
    producer = clients.producer(chosen)
    producer.produce(topic, b"{}")
    with pytest.raises(KafkaRefused, match="the login fails"):
        topics.describe_cluster(clients.Admin(chosen))
    file.write_text(user.password)
    until(lambda: producer.flush(0.1) == 0, "the producer does not log in")
    assert [message.value() for message in kafka.read(topic, 1)] == [b"{}"]


def wrong_authority(secured: SecuredKafka, file: Path) -> tuple[dict[str, str], Callable[[], object]]:
    other = Authority(secured.folder, "other")
    file.write_bytes(other.certificate.read_bytes())
    return {"KAFKA_SSL_CA_LOCATION": str(file)}, lambda: file.write_bytes(secured.ca.read_bytes())


def expired_certificate(secured: SecuredKafka, file: Path) -> tuple[dict[str, str], Callable[[], object]]:
    authority = Authority(secured.ca.parent)
    old, new = (authority.issue(f"{file.name}-{name}", expired=name == "old") for name in ("old", "new"))
    file.write_bytes(old.certificate.read_bytes() + old.key.read_bytes())
    environment = {"KAFKA_SSL_CERTIFICATE_LOCATION": str(file), "KAFKA_SSL_KEY_LOCATION": str(file)}
    return environment, lambda: file.write_bytes(new.certificate.read_bytes() + new.key.read_bytes())


@pytest.mark.parametrize("wrong", [wrong_authority, expired_certificate])
def test_a_producer_that_is_refused_is_replaced_once_its_files_are_renewed(
    secured_kafka: SecuredKafka, settings_environment: dict[str, str], wrong: Callable[..., Any]
) -> None:
    kafka, user = secured_kafka.kafka, secured_kafka.user()
    topic = kafka.topic()
    file = secured_kafka.secret("")
    changed, renew = wrong(secured_kafka, file)
    chosen = loaded(settings_environment, secured_kafka.environment(user, **changed), topic)
    said = list[Refusal | None]()
    producer = clients.producer(chosen, on_error=lambda _, refusal: said.append(refusal))
    producer.produce(topic, b"{}")

    def poll() -> bool:
        producer.poll(0.1)
        return any(said)

    until(poll, "it is not said that the brokers refuse it")
    assert not producer.is_outdated
    renew()
    until(lambda: producer.poll(0.1) >= 0 and producer.is_outdated, "nobody notices the new file")
    producer.drop()
    another = clients.producer(chosen)
    another.produce(topic, b"{}")
    assert another.flush(PATIENCE_SECONDS) == 0
    assert [message.value() for message in kafka.read(topic, 1)] == [b"{}"]


def test_words_of_librdkafka_that_are_not_foreseen_are_passed_on(
    settings_environment: dict[str, str], secured_kafka: SecuredKafka
) -> None:
    """A server that hangs up at once: nothing is known of why."""
    user = User("ada", "geheim-word")
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]

        def hang_up() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        environment = secured_kafka.environment(user, KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{port}")
        one = Consuming(loaded(settings_environment, environment, "events"), MemoryRegistry())
        until(lambda: one.monitor.snapshot()["lastError"], "nothing is said")
        words = str(one.monitor.snapshot()["lastError"]["message"])
        listener.shutdown(socket.SHUT_RDWR)
    one.consumer.stop()
    assert f"127.0.0.1:{port}" in words
    assert "geheim" not in words


def test_the_monitor_logs_a_refusal_once_and_forgets_it_with_an_answer(
    settings_environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    monitor = KafkaMonitor(settings.load({**settings_environment, "KAFKA_BOOTSTRAP_SERVERS": "kafka:9093"}))
    for number in range(3):
        monitor.lost(f"the login fails, for the {number}. time", "correct the password")
    (problem,) = monitor.problems()
    assert (problem.code, problem.hint) == ("kafka_refused", "correct the password")
    assert len(caplog.records) == 1
    monitor.lost("no certificate", "name one")
    assert len(caplog.records) == 2
    monitor.connected({1: "kafka:9093"})
    assert monitor.problems() == []
