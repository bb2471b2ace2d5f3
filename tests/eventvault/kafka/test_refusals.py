"""Why brokers refuse a client, in words, and what to do about it."""

from __future__ import annotations

import http.server
import math
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from eventvault.kafka import hidden, refusals
from eventvault.kafka.clients import Admin
from eventvault.kafka.refusals import certificate_problem, explain, probe_of, tls_instead, token_probe_of
from eventvault.kafka.renewal import RENEW_SECONDS, SETTLED_SECONDS, Renewal
from eventvault.settings import load
from tests.authority import Authority, Certificate
from tests.kafka_broker import PATIENCE_SECONDS
from tests.processes import wait_until

VERIFY = (
    "ssl://kafka:9093/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker "
    "certificate could not be verified, verify that ssl.ca.location is correctly configured"
)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe has its answer, however busy the machine is."""
    monkeypatch.setattr(refusals, "PROBE_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(refusals, "TOKEN_SECONDS", PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("code", "text", "why", "setting"),
    [
        (KafkaError._AUTHENTICATION, "sasl_ssl://k:1/bootstrap: SASL authentication error: Authentication failed",
         "the login fails: sasl_ssl://k:1/bootstrap", "KAFKA_SASL_PASSWORD_FILE"),
        (KafkaError._AUTHENTICATION, "Failed to acquire SASL OAUTHBEARER token: HTTP 401", "the login fails: Failed to",
         "sasl.oauthbearer.*"),
        (KafkaError._TRANSPORT, "k:1/bootstrap: Disconnected while requesting ApiVersion: might be caused by incorrect "
         "security.protocol configuration (connecting to a SSL listener?) or broker version is < 0.10 (see "
         "api.version.request) (after 1ms in state APIVERSION_QUERY)", "they speak another protocol",
         "KAFKA_SECURITY_PROTOCOL"),
        (KafkaError._SSL, "ssl://k:1/bootstrap: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker "
         "listener? (after 2ms in state SSL_HANDSHAKE)", "they speak another protocol", "KAFKA_SECURITY_PROTOCOL"),
        (KafkaError._SSL, "ssl://k:1/1: SSL_read: error:0A000416:SSL routines::ssl/tls alert certificate unknown",
         "they refuse the certificate of EventVault", "KAFKA_SSL_CERTIFICATE_LOCATION"),
        (KafkaError._SSL, VERIFY, "no trusted authority has signed their certificate", "KAFKA_SSL_CA_LOCATION"),
        (KafkaError._SSL, "ssl://k:1/1: something new", "TLS fails: ssl://k:1/1: something new", "KAFKA_SSL_CA"),
    ],
)  # fmt: skip
def test_a_refusal_says_why_and_which_setting_to_correct(code: int, text: str, why: str, setting: str) -> None:
    found = explain(KafkaError(code, text))
    assert found is not None
    assert found.why.startswith(why)
    assert setting in found.hint
    assert "ms in state" not in found.why


def test_a_client_is_made_anew_because_of_a_login_or_a_certificate_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("eventvault.kafka.renewal.time.monotonic", lambda: now[0])
    refused = Renewal()
    stopping = "ssl://k:1/1: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?"
    assert refused.note(KafkaError(KafkaError._SSL, stopping)) is None
    now[0] += SETTLED_SECONDS
    assert (refused.is_accepted, refused.is_due) == (True, False)
    for code, text in (
        (KafkaError._AUTHENTICATION, "sasl_ssl://k:1/1: Authentication failed"), (KafkaError._SSL, VERIFY),
        (KafkaError._SSL, "ssl://k:1/1: SSL_read: error:0A000415:SSL routines::ssl/tls alert certificate expired"),
    ):  # fmt: skip
        one = Renewal()
        one.has_read = True
        assert one.note(KafkaError(code, text)) is not None
        assert (one.is_accepted, one.is_due) == (False, False)
        now[0] += RENEW_SECONDS - 1
        assert (one.is_accepted, one.is_due) == (False, False)
        now[0] += 1
        assert (one.is_accepted, one.is_due) == (False, True)


def test_a_broker_that_is_away_refuses_nothing() -> None:
    away = "k:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)"
    assert explain(KafkaError(KafkaError._TRANSPORT, away)) is None
    assert explain(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")) is None


def test_a_broker_that_is_away_hides_no_refusal_by_another_one() -> None:
    admin = Admin(load({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}))
    refused = KafkaError(KafkaError._AUTHENTICATION, "k:1/1: Authentication failed")
    away = KafkaError(KafkaError._TRANSPORT, "k:2/2: Connection refused")
    for error in (away, refused, away, KafkaError(KafkaError._ALL_BROKERS_DOWN, "2/2 brokers are down")):
        admin._note(error)
    found = admin.refusal()
    assert found is not None
    assert found.why == "the login fails: k:1/1: Authentication failed"
    admin.note_answer()
    assert admin.refusal() is None


def test_a_refusal_hides_secrets() -> None:
    hidden.remember({"sasl.password": "geheim-xyz"})
    found = explain(KafkaError(KafkaError._AUTHENTICATION, "new words of a broker: geheim-xyz is wrong"))
    assert found is not None
    assert found.why == "the login fails: new words of a broker: … is wrong"


@pytest.mark.parametrize(
    ("reason", "why", "hint"),
    [
        ("certificate has expired", "their certificate has expired", "renew"),
        ("Hostname mismatch, certificate is not valid for 'kafka'.", "their certificate is for another name", "name"),
        ("unable to get local issuer certificate", "no trusted authority has signed their certificate", "authority"),
    ],
)
def test_why_a_certificate_is_not_trusted_is_asked_of_the_broker(reason: str, why: str, hint: str) -> None:
    asked: list[tuple[str, int]] = []

    def probe(host: str, port: int) -> str:
        asked.append((host, port))
        return reason

    found = explain(KafkaError(KafkaError._SSL, VERIFY), probe)
    assert found is not None
    assert found.why == f"{why}: {reason}"
    assert hint in found.hint
    assert asked == [("kafka", 9093)]


def test_a_broker_that_does_not_answer_is_waited_for_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers = [], threading.Event()

    def ask(host: str, port: int, *_: object) -> str:
        asked.append((host, port))
        assert answers.wait(PATIENCE_SECONDS)
        return "certificate has expired"

    monkeypatch.setattr(refusals, "certificate_problem", ask)
    monkeypatch.setattr(refusals, "ASK_AGAIN_SECONDS", math.inf)
    monkeypatch.setattr(refusals, "PROBE_SECONDS", 0.0)
    probe = probe_of({})
    assert [probe("one", 1), probe("one", 1), probe("two", 1)] == ["", "", ""]
    wait_until(lambda: len(asked) == 2, "not each broker is asked", PATIENCE_SECONDS)  # each in its own thread
    assert sorted(asked) == [("one", 1), ("two", 1)]
    answers.set()
    wait_until(lambda: probe("one", 1) == "certificate has expired", "the late answer is not taken", PATIENCE_SECONDS)
    assert len(asked) == 2
    monkeypatch.setattr(refusals, "ASK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(refusals, "PROBE_SECONDS", PATIENCE_SECONDS)
    assert probe("one", 1) == "certificate has expired"
    assert len(asked) == 3


@pytest.mark.slow
def test_a_certificate_is_asked_for_later_if_no_thread_can_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with tls_server(authority.issue("expired", expired=True)) as port:
        probe = probe_of({"ssl.ca.location": str(authority.certificate)})
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert probe("localhost", port) == ""
        assert probe("localhost", port) == "certificate has expired"


class _Fails(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names; never to another one."""

    def do_POST(self) -> None:
        status = self.path.removeprefix("/")
        if status.isdigit():
            self.send_error(int(status))
        else:
            self.rfile.read()  # until the other end gives up

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def token_url() -> Iterator[str]:
    """Of a token server that answers with the status behind it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Fails) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()
    thread.join(60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("503", "localhost answers 503"),
        ("429", "localhost answers 429"),
        ("401", ""),
        ("400", ""),
    ],
)
def test_a_token_server_that_fails_is_told_from_one_that_refuses(token_url: str, path: str, problem: str) -> None:
    """What it refuses librdkafka reports. The request has no secret."""
    assert token_probe_of({"sasl.oauthbearer.token.endpoint.url": token_url + path})() == problem


@pytest.mark.slow
def test_a_token_server_that_does_not_answer_is_named(token_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "TOKEN_SECONDS", 0.1)
    problem = token_probe_of({"sasl.oauthbearer.token.endpoint.url": token_url + "silence"})()
    assert problem == "localhost does not answer within 0 s"


@pytest.mark.slow
def test_a_client_that_gets_no_token_says_so_although_no_broker_was_asked(token_url: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.touch(0o600)
    file.write_text(
        "sasl.oauthbearer.method=oidc\nsasl.oauthbearer.client.id=id\nsasl.oauthbearer.client.secret=geheim\n"
        f"sasl.oauthbearer.token.endpoint.url={token_url}503\n"
    )
    admin = Admin(load({
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_CONFIG_FILE": str(file),
    }))  # fmt: skip
    found = admin.refusal()
    assert found is not None
    assert found.why == "the login fails: no token was acquired: localhost answers 503"
    assert "identity provider" in found.hint


def test_a_token_server_that_cannot_be_asked_is_left_to_librdkafka() -> None:
    for url in ("", "file:///etc/passwd", "http://127.0.0.1:9/token", "http://[/", "https://nowhere.invalid/token"):
        assert token_probe_of({"sasl.oauthbearer.token.endpoint.url": url})() == "", url


@contextmanager
def tls_server(certificate: Certificate) -> Iterator[int]:
    """A server that shows a certificate and says nothing; yields its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), connection, context.wrap_socket(connection, server_side=True) as encrypted:
                encrypted.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(60)


@pytest.mark.slow
def test_a_broker_that_speaks_tls_to_a_client_that_does_not_is_noticed(tmp_path: Path) -> None:
    with tls_server(Authority(tmp_path).issue("good", expired=True)) as port:
        found = tls_instead(f"127.0.0.1:{port},elsewhere:1")
        assert found is not None
        assert found.why == f"they speak another protocol: 127.0.0.1:{port} speaks TLS"
    assert tls_instead(f"127.0.0.1:{port}") is None


@pytest.mark.slow
def test_the_probe_tells_what_is_wrong_with_a_certificate(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    good, expired, foreign = (
        authority.issue("good"), authority.issue("expired", expired=True), authority.issue("foreign", host="elsewhere"),
    )  # fmt: skip
    with tls_server(good) as port:
        assert certificate_problem("127.0.0.1", port, authority.certificate) == ""
        assert "self-signed" in certificate_problem("127.0.0.1", port, other.certificate) or (
            "unable to get" in certificate_problem("127.0.0.1", port, other.certificate)
        )
        assert certificate_problem("127.0.0.1", port, "/nowhere") == ""
    with tls_server(expired) as port:
        assert certificate_problem("localhost", port, authority.certificate) == "certificate has expired"
        for trusted in (
            {"ssl.ca.pem": authority.certificate.read_text()}, {"ssl.ca.location": str(authority.certificate)},
        ):  # fmt: skip
            assert probe_of(trusted)("localhost", port) == "certificate has expired"
        assert probe_of({"ssl.ca.location": "probe"})("localhost", port) not in ("", "certificate has expired")
    with tls_server(foreign) as port:
        assert "mismatch" in certificate_problem("localhost", port, authority.certificate)
    assert certificate_problem("127.0.0.1", port, None) == ""
