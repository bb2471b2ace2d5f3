"""What the settings make of the connection, and what is refused before anything starts."""

from __future__ import annotations

import ctypes
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from eventvault import settings
from eventvault.errors import InvalidSettings, KafkaRefused
from eventvault.kafka import clients, config, connection, hidden
from eventvault.kafka.clients import WatchedProducer
from eventvault.kafka.start_check import check_kafka_settings
from eventvault.settings import PROJECT, Settings
from tests.authority import Authority
from tests.clock_shim import SettableClock
from tests.processes import wait_until

Write = Callable[..., str]
LOGIN = {"KAFKA_SECURITY_PROTOCOL": "sasl_ssl", "KAFKA_SASL_MECHANISM": "scram-sha-256", "KAFKA_SASL_USERNAME": "ada"}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(text, mode=0o600) makes a file and returns its path."""

    def make(text: str | bytes, mode: int = 0o600) -> str:
        path = tmp_path / f"file-{len(list(tmp_path.iterdir()))}"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return str(path)

    return make


def loaded(**environment: str) -> Settings:
    return settings.load({"KAFKA_BOOTSTRAP_SERVERS": "kafka:9093", **environment})


def problems(**environment: str) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        check_kafka_settings(loaded(**environment))
    return list(caught.value.details["problems"])


@pytest.mark.slow
def test_each_setting_is_the_property_of_the_same_name(write: Write, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("eventvault", password="key-geheim")
    found = loaded(
        **LOGIN,
        KAFKA_SASL_PASSWORD_FILE=write("geheim \n"),
        KAFKA_SSL_CA_LOCATION=str(authority.certificate),
        KAFKA_SSL_CERTIFICATE_LOCATION=str(own.certificate),
        KAFKA_SSL_KEY_LOCATION=str(own.key),
        KAFKA_SSL_KEY_PASSWORD="key-geheim",
        KAFKA_CONFIG_FILE=write("# of the network\r\n\r\nsocket.keepalive.enable = true\r\n"),
    )
    check_kafka_settings(found)
    for made in (config.client(found), config.events_consumer(found), config.producer(found)):
        assert {name: made[name] for name in made if name.startswith(("security", "sasl", "ssl", "socket"))} == {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": "ada",
            "sasl.password": "geheim ",
            "ssl.ca.location": str(authority.certificate),
            "ssl.certificate.location": str(own.certificate),
            "ssl.key.location": str(own.key),
            "ssl.key.password": "key-geheim",
            "socket.keepalive.enable": "true",
        }


def test_without_them_the_clients_are_as_they_were() -> None:
    assert connection.properties(loaded()) == {}


def test_what_eventvault_sets_itself_is_reserved(write: Write) -> None:
    made = [config.client, config.events_consumer, config.jobs_reader, config.session_reader, config.producer]
    names = {name for function in made for name in function(loaded())}
    assert len(made) == sum(
        each.__module__ == config.__name__ for _, each in inspect.getmembers(config, inspect.isfunction)
    )
    for name in sorted(names | {"metadata.broker.list", "transactional.id", "group.protocol", "test.mock.num.brokers"}):
        (problem,) = problems(KAFKA_CONFIG_FILE=write(f"{name}=x"))
        assert f"sets {name}, which EventVault sets itself" in problem


@pytest.mark.parametrize(
    "name",
    [
        *("group.id", "isolation.level", "auto.offset.reset", "enable.auto.commit", "enable.idempotence", "acks"),
        *("debug", "error_cb", "plugin.library.paths"),
    ],
)
def test_a_reserved_property_is_named_with_its_line(write: Write, name: str) -> None:
    path = write(f"socket.nagle.disable=true\n{name}=geheim")
    assert problems(KAFKA_CONFIG_FILE=path) == [
        f"line 2 of KAFKA_CONFIG_FILE {path} sets {name}, which EventVault sets itself: its guarantees rest on it"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("geheim", "line 1 of {file} is not name=value"),
        ("Sasl.Password=geheim", "line 1 of {file} is not name=value"),
        ("=geheim", "line 1 of {file} is not name=value"),
        ("sasl.username=a\nsasl.username=geheim", "line 2 of {file} sets sasl.username a second time"),
        (b"\xff", "{file} is not UTF-8"),
        (b"#" * (connection.MAX_BYTES + 1), "{file} is larger than 1048576 bytes"),
        ("no.such=geheim", 'a property of KAFKA_CONFIG_FILE is not allowed: No such configuration property: "no.such"'),
        ("sasl.password=geheim\nno.geheim=1",
         'a property of KAFKA_CONFIG_FILE is not allowed: No such configuration property: "no.…"'),
        ("ssl.truststore.location=x", "a property of KAFKA_CONFIG_FILE is not allowed: Java TrustStores"),
    ],
)  # fmt: skip
def test_a_config_file_that_cannot_be_used_is_named_without_what_it_holds(
    write: Write, text: str | bytes, problem: str
) -> None:
    path = write(text)
    (found,) = problems(KAFKA_CONFIG_FILE=path)
    assert found.startswith(problem.format(file=f"KAFKA_CONFIG_FILE {path}"))
    assert "geheim" not in found


def test_a_secret_file_that_cannot_be_used_is_named(write: Write, tmp_path: Path) -> None:
    def of(path: str) -> list[str]:
        return problems(**LOGIN, KAFKA_SASL_PASSWORD_FILE=path)

    os.mkfifo(tmp_path / "pipe")
    assert of("/nowhere/x") == ["KAFKA_SASL_PASSWORD_FILE /nowhere/x cannot be read: No such file or directory"]
    assert of(str(tmp_path)) == [f"KAFKA_SASL_PASSWORD_FILE {tmp_path} cannot be read: Is a directory"]
    assert "is a pipe and not a regular file" in of(str(tmp_path / "pipe"))[0]
    (empty, two, open_to_all) = write("\n"), write("geheim\nzwei"), write("geheim", 0o666)
    assert of(empty) == [f"KAFKA_SASL_PASSWORD_FILE {empty} has nothing in it"]
    assert of(two) == [f"KAFKA_SASL_PASSWORD_FILE {two} has more than one line"]
    assert of(open_to_all) == [
        f"KAFKA_SASL_PASSWORD_FILE {open_to_all} may be written to by any user of this machine: its mode is 0666"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("name", ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location"])
def test_a_certificate_or_key_that_anybody_may_replace_is_refused(
    write: Write, tmp_path: Path, name: str, in_file: bool
) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("own")
    files = {
        "ssl.ca.location": authority.certificate, "ssl.certificate.location": own.certificate,
        "ssl.key.location": own.key,
    }  # fmt: skip
    files[name].chmod(0o646)
    if in_file:
        lines = "\n".join(f"{each}={path}" for each, path in files.items())
        found, where = problems(KAFKA_CONFIG_FILE=write(lines)), f"{name} of KAFKA_CONFIG_FILE"
    else:
        found = problems(**{connection.setting_of(each): str(path) for each, path in files.items()})
        where = connection.setting_of(name)
    assert found == [f"{where} {files[name]} may be written to by any user of this machine: its mode is 0646"]


def test_a_folder_of_authorities_that_anybody_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "authorities"
    folder.mkdir()
    check_kafka_settings(loaded(KAFKA_SSL_CA_LOCATION=str(folder)))
    folder.chmod(0o1777)
    (problem,) = problems(KAFKA_SSL_CA_LOCATION=str(folder))
    assert problem.endswith("may be written to by any user of this machine: its mode is 1777")


def test_an_authority_stands_in_one_line_of_the_config_file(write: Write, tmp_path: Path) -> None:
    line = Authority(tmp_path).certificate.read_text().replace("\n", "\\n")
    found = loaded(KAFKA_SECURITY_PROTOCOL="ssl", KAFKA_CONFIG_FILE=write(f"ssl.ca.pem={line}"))
    check_kafka_settings(found)
    clients.Admin(found)
    (problem,) = problems(KAFKA_CONFIG_FILE=write("ssl.ca.pem=nothing"))
    assert problem.startswith("ssl.ca.pem of KAFKA_CONFIG_FILE has no certificates")


def test_a_secret_that_others_may_read_is_named_and_used_as_containers_have_them_so(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    path = write("geheim", 0o444)
    check_kafka_settings(loaded(**LOGIN, KAFKA_SASL_PASSWORD_FILE=path))
    (record,) = caplog.records
    assert f"KAFKA_SASL_PASSWORD_FILE {path} may be read by other users" in record.message
    assert "geheim" not in caplog.text


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        (
            {**LOGIN, "KAFKA_SASL_PASSWORD": "geheim", "KAFKA_SECURITY_PROTOCOL": "ssl"},
            "KAFKA_SASL_MECHANISM is SCRAM-SHA-256, but KAFKA_SECURITY_PROTOCOL is SSL",
        ),
        ({"KAFKA_SECURITY_PROTOCOL": "sasl_ssl"}, "KAFKA_SECURITY_PROTOCOL is SASL_SSL, but KAFKA_SASL_MECHANISM is"),
        (LOGIN, "KAFKA_SASL_MECHANISM is SCRAM-SHA-256, which needs KAFKA_SASL_PASSWORD"),
        ({**LOGIN, "KAFKA_SASL_MECHANISM": "oauthbearer"}, "KAFKA_SASL_MECHANISM is OAUTHBEARER, which needs"),
        ({"KAFKA_SSL_KEY_LOCATION": "/x"}, "of KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION one is set"),
        ({"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_CA_LOCATION": "/x"}, "KAFKA_SSL_CA_LOCATION /x has no cert"),
    ],
)
def test_settings_that_contradict_each_other_are_named(environment: dict[str, str], problem: str) -> None:
    (found,) = problems(**environment)
    assert found.startswith(problem)


def test_a_property_is_given_in_one_place(write: Write) -> None:
    password, file = write("one-geheim"), write("sasl.password=two-geheim\nsasl.mechanisms=PLAIN")
    both = problems(**LOGIN, KAFKA_SASL_PASSWORD_FILE=password, KAFKA_SASL_PASSWORD="geheim", KAFKA_CONFIG_FILE=file)
    assert [problem.partition(";")[0] for problem in both] == [
        "KAFKA_CONFIG_FILE has sasl.mechanism, and KAFKA_SASL_MECHANISM is set too",
        "KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE are both set",
        "KAFKA_CONFIG_FILE has sasl.password, and KAFKA_SASL_PASSWORD is set too",
    ]


@pytest.mark.slow
def test_a_certificate_with_another_key_or_a_wrong_password_is_refused(tmp_path: Path, write: Write) -> None:
    authority = Authority(tmp_path)
    one, other = authority.issue("one", password="geheim-1"), authority.issue("other")

    def of(key: Path, **environment: str) -> str:
        names = {"KAFKA_SSL_CERTIFICATE_LOCATION": str(one.certificate), "KAFKA_SSL_KEY_LOCATION": str(key)}
        (problem,) = problems(KAFKA_SECURITY_PROTOCOL="ssl", **names, **environment)
        return problem

    for problem in (of(other.key), of(one.key), of(one.key, KAFKA_SSL_KEY_PASSWORD="geheim-2")):
        assert "are not a certificate with its key, or the key's password is wrong" in problem
        assert "geheim" not in problem


def test_without_brokers_nothing_of_kafka_is_checked() -> None:
    check_kafka_settings(settings.load({"KAFKA_CONFIG_FILE": "/nowhere"}))


def test_a_file_that_goes_after_the_start_is_a_refusal_and_not_the_end(write: Write) -> None:
    path = write("geheim")
    found = loaded(**LOGIN, KAFKA_SASL_PASSWORD_FILE=path)
    check_kafka_settings(found)
    Path(path).unlink()
    for make in (clients.Admin, clients.producer):
        with pytest.raises(KafkaRefused, match="cannot be read") as caught:
            make(found)
        assert caught.value.hint
    with pytest.raises(KafkaRefused, match="no client of Kafka can be made"):
        clients.Admin(replace(loaded(KAFKA_SECURITY_PROTOCOL="ssl"), kafka_ssl_ca_location=Path("/nowhere")))


def met_an_error(producer: WatchedProducer, heard: list[KafkaError]) -> None:
    wait_until(lambda: producer.poll(0.05) >= 0 and heard != [], "the client says nothing of its broker")


@pytest.mark.slow
def test_a_producer_that_meets_an_error_looks_whether_its_files_are_others(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, read = list[Settings](), connection.properties
    monkeypatch.setattr(connection, "properties", lambda found: (looks.append(found), read(found))[1])
    monkeypatch.setattr(clients, "_CHECK_PAUSE_SECONDS", 0.05)
    authority = Authority(tmp_path)
    password, more = write("geheim"), write("socket.keepalive.enable=true")
    chosen = loaded(
        KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", KAFKA_SECURITY_PROTOCOL="SASL_SSL", KAFKA_SASL_MECHANISM="PLAIN",
        KAFKA_SASL_USERNAME="ada", KAFKA_SASL_PASSWORD_FILE=password, KAFKA_CONFIG_FILE=more,
        KAFKA_SSL_CA_LOCATION=str(authority.certificate),
    )  # fmt: skip

    def change(path: str | Path, text: str) -> bool:
        """Whether a producer that was made before is outdated by it."""
        heard = list[KafkaError]()
        producer = clients.producer(chosen, on_error=lambda error, _: heard.append(error))
        met_an_error(producer, heard)
        assert not producer.is_outdated
        Path(path).write_text(text)
        looks.clear()
        wait_until(lambda: producer.poll(0.05) >= 0 and looks != [], "it does not look")
        return producer.is_outdated

    assert not change(password, "geheim-2"), "the login is changed in place"
    assert change(more, "socket.keepalive.enable=false")
    assert change(authority.certificate, authority.certificate.read_text() + "\n")
    assert not change(more, "half a li"), "it is looked at again"


def end_client(producer: Producer) -> None:
    """Let a client meet an error that ends it; a broker answers so to numbers that are out of order, say."""
    mapped = Path("/proc/self/maps").read_text().splitlines()
    library = ctypes.CDLL(next(line.split()[-1] for line in mapped if "librdkafka" in line))
    client = ctypes.c_void_p.from_address(id(producer) + object.__basicsize__)  # what an object has behind its head
    library.rd_kafka_test_fatal_error(client, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, b"as in a test")


@pytest.mark.parametrize("wait", [lambda producer: producer.poll(0.05), lambda producer: producer.flush(0.05)])
def test_a_producer_that_an_error_ended_says_that_it_is_to_be_replaced(wait: Callable[[Producer], int]) -> None:
    heard, undelivered = list[KafkaError](), list[KafkaError]()
    producer = clients.producer(
        loaded(KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1"), on_error=lambda error, _: heard.append(error)
    )
    producer.produce("topic", b"{}", on_delivery=lambda error, _: undelivered.append(error))
    end_client(producer)
    wait_until(lambda: wait(producer) >= 0 and producer.is_outdated, "it does not say that it has ended")
    assert [error.str() for error in heard if error.fatal()] == ["test_fatal_error: as in a test"]
    with pytest.raises(KafkaException) as refused:
        producer.produce("topic", b"{}")
    producer.drop()
    assert len(producer) == 0
    later = [refused.value.args[0], *undelivered]
    assert [(error.name(), error.fatal()) for error in later] == [("_FATAL", False), ("_PURGE_QUEUE", False)]


_SHORT_WAITS = """
import os
from eventvault import settings
from eventvault.kafka import clients
producer = clients.producer(settings.load({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}))
producer.produce("topic", b"{}")
producer.poll(0.2)
assert producer.flush(0.2) == 1
print("they ended", flush=True)
os._exit(0)
"""


@pytest.mark.slow
def test_a_clock_that_is_set_back_makes_no_wait_of_a_producer_longer(tmp_path: Path) -> None:
    """librdkafka waits until an instant of the system clock: one hour later than meant, in this process."""
    clock = SettableClock(tmp_path)
    clock.set_offset(3600)
    environment = {**os.environ, **clock.environment, "PYTHONPATH": str(PROJECT)}
    ran = subprocess.run(
        [sys.executable, "-c", _SHORT_WAITS],
        env=environment, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert "they ended" in ran.stdout, ran.stderr


def test_secrets_are_hidden_wherever_they_stand() -> None:
    hidden.remember({
        "sasl.password": "pass.word(1)", "sasl.oauthbearer.client.secret": "pass.word", "sasl.username": "adalovelace",
        "ssl.key.location": "/run/secrets/key.pem", "sasl.oauthbearer.config": "principal=geheim", "ssl.key.pem": "abc",
    })  # fmt: skip
    text = "pass.word(1), pass.word: adalovelace at /run/secrets/key.pem principal=geheim abc https://u:p@idp/token"
    assert hidden.hide(text) == "…, …: adalovelace at /run/secrets/key.pem … abc https://…@idp/token"
