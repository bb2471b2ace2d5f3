"""How the brokers are reached: the login, TLS, and what KAFKA_CONFIG_FILE adds, as properties of librdkafka.

A setting is named like its property: KAFKA_SASL_USERNAME is `sasl.username`. Secrets are read whenever a client is
made, so a new client has the present ones. Secrets that are read here are hidden in every text that a client writes.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from eventvault.errors import InvalidSettings
from eventvault.kafka import hidden
from eventvault.regular_files import open_file
from eventvault.settings import Settings

MAX_BYTES = 2**20

_PROPERTIES = (
    "security.protocol", "sasl.mechanism", "sasl.username", "sasl.password", "ssl.ca.location",
    "ssl.certificate.location", "ssl.key.location", "ssl.key.password",
)  # fmt: skip
"""Properties that have a setting of their own: KAFKA_, and the name in capitals with `_` for `.`."""
_OF_FILES = ("sasl.password", "ssl.key.password")
"""Properties that may be in a file of their own: that setting's name ends in _FILE."""
_ALIASES = {"sasl.mechanisms": "sasl.mechanism"}
_NAME = re.compile(r"[a-z][a-z0-9._]*")

RESERVED = frozenset(
    {
        # Which messages are read, and where reading begins.
        *("enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store", "auto.offset.reset"),
        *("isolation.level", "enable.partition.eof", "allow.auto.create.topics"),
        *("fetch.wait.max.ms", "queued.max.messages.kbytes", "receive.message.max.bytes"),
        # Messages are written once and in order.
        *("enable.idempotence", "acks", "request.required.acks", "retries", "message.send.max.retries"),
        *("max.in.flight", "max.in.flight.requests.per.connection", "transactional.id", "partitioner"),
        *("linger.ms", "queue.buffering.max.ms", "compression.type", "compression.codec", "message.max.bytes"),
        *("message.timeout.ms", "delivery.timeout.ms", "enable.gapless.guarantee"),
        *("topic.metadata.propagation.max.ms", "topic.metadata.refresh.interval.ms", "reconnect.backoff.max.ms"),
        # Which brokers are used, and where the client logs.
        *("bootstrap.servers", "metadata.broker.list", "client.id", "plugin.library.paths"),
        *("debug", "log_level", "logger", "default.topic.config", "on_delivery", "on_commit"),
    }
)
"""Properties on which EventVault's guarantees rest, with all names that librdkafka has for them."""
_RESERVED_PARTS = re.compile(r"(group|transaction)\..*|.*_cb|test\..*")
"""EventVault is in no consumer group, and writes in no transaction."""


def properties(settings: Settings) -> dict[str, str]:
    """Return the properties. Raises InvalidSettings, naming everything that is not allowed."""
    problems: list[str] = []
    found = _read_config_file(settings.kafka_config_file, problems)
    for name in _PROPERTIES:
        setting = setting_of(name)
        value = getattr(settings, setting.lower())
        if name in _OF_FILES:
            value = _secret(setting, value, getattr(settings, f"{setting}_FILE".lower()), problems)
        if value is None:
            continue
        if name in found:
            problems.append(f"KAFKA_CONFIG_FILE has {name}, and {setting} is set too; allowed: one of them")
        found[name] = str(value)
    hidden.remember(found)
    problems += _writable_by_all(settings, found)
    if not problems:
        problems += _contradictions(found)
    if problems:
        raise InvalidSettings("; ".join(problems), hint="docs/kafka.md shows what goes together", problems=problems)
    return found


def setting_of(name: str) -> str:
    return f"KAFKA_{name.upper().replace('.', '_')}"


def readable_by_others(settings: Settings) -> list[str]:
    """Name the files with secrets that other users of this machine may read."""
    return [
        f"{setting} {path} may be read by other users of this machine: its mode is {mode:04o}"
        for setting, path in secret_files(settings).items()
        if (mode := _mode(path)) is not None and mode & stat.S_IROTH
    ]


def secret_files(settings: Settings) -> Mapping[str, Path]:
    """Return the files that hold secrets, by the settings that name them."""
    names = (*(f"{setting_of(name)}_FILE" for name in _OF_FILES), "KAFKA_SSL_KEY_LOCATION", "KAFKA_CONFIG_FILE")
    paths = {name: getattr(settings, name.lower()) for name in names}
    return {name: path for name, path in paths.items() if path is not None}


def _writable_by_all(settings: Settings, found: Mapping[str, str]) -> Iterable[str]:
    """Name the files of TLS that any user may write: whoever replaces an authority can pose as the brokers."""
    for name, path in found.items():
        mode = _mode(Path(path)) if name.endswith(".location") else None
        if mode is not None and mode & stat.S_IWOTH:
            has_setting = name in _PROPERTIES and getattr(settings, setting_of(name).lower()) is not None
            where = setting_of(name) if has_setting else f"{name} of KAFKA_CONFIG_FILE"
            yield f"{where} {path} may be written to by any user of this machine: its mode is {mode:04o}"


def _secret(setting: str, value: str | None, path: Path | None, problems: list[str]) -> str | None:
    if path is None:
        return value
    if value is not None:
        problems.append(f"{setting} and {setting}_FILE are both set; allowed: one of them")
    content = _read(f"{setting}_FILE", path, problems)
    if content is None:
        return None
    secret = content.rstrip("\r\n")
    if not secret or len(secret.split("\n")) > 1:
        problems.append(f"{setting}_FILE {path} has {'more than one line' if secret else 'nothing in it'}")
    return secret


def _read_config_file(path: Path | None, problems: list[str]) -> dict[str, str]:
    """Return the properties in KAFKA_CONFIG_FILE. Problems name a line by its number, because it may be a secret."""
    found: dict[str, str] = {}
    text = None if path is None else _read("KAFKA_CONFIG_FILE", path, problems)
    for number, line in enumerate((text or "").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separator, value = (part.strip() for part in line.partition("="))
        name = _ALIASES.get(name, name)
        where = f"line {number} of KAFKA_CONFIG_FILE {path}"
        if not separator or not _NAME.fullmatch(name):
            problems.append(f"{where} is not name=value")
        elif name in RESERVED or _RESERVED_PARTS.fullmatch(name):
            problems.append(f"{where} sets {name}, which EventVault sets itself: its guarantees rest on it")
        elif name in found:
            problems.append(f"{where} sets {name} a second time")
        else:
            found[name] = value.replace("\\n", "\n") if name.endswith(".pem") else value
    return found


def _read(setting: str, path: Path, problems: list[str]) -> str | None:
    """Return the text of a file with secrets; None, and a problem in `problems`, if it cannot be used."""
    try:
        with open_file(path.resolve()) as file:  # a container's secret may be a link
            mode, content = os.fstat(file.fileno()).st_mode, file.read(MAX_BYTES + 1)
        if mode & stat.S_IWOTH:
            problems.append(
                f"{setting} {path} may be written to by any user of this machine: its mode is {stat.S_IMODE(mode):04o}"
            )
        elif len(content) > MAX_BYTES:
            problems.append(f"{setting} {path} is larger than {MAX_BYTES} bytes")
        else:
            return content.decode()
    except (OSError, RuntimeError) as error:
        problems.append(f"{setting} {path} cannot be read: {getattr(error, 'strerror', None) or error}")
    except UnicodeDecodeError:
        problems.append(f"{setting} {path} is not UTF-8")
    return None


def _contradictions(found: Mapping[str, str]) -> Iterable[str]:
    """Name the contradictions that librdkafka would accept, and with which it would never log in."""
    protocol, mechanism = found.get("security.protocol", "").upper(), found.get("sasl.mechanism", "").upper()
    if mechanism and not protocol.startswith("SASL_"):
        yield f"KAFKA_SASL_MECHANISM is {mechanism}, but KAFKA_SECURITY_PROTOCOL is {protocol or 'unset'}"
    if protocol.startswith("SASL_") and not mechanism:
        yield f"KAFKA_SECURITY_PROTOCOL is {protocol}, but KAFKA_SASL_MECHANISM is unset"
    needed = ("sasl.username", "sasl.password") if mechanism == "PLAIN" or mechanism.startswith("SCRAM-") else ()
    missing = [setting_of(name) for name in needed if not found.get(name)]
    if missing:
        yield f"KAFKA_SASL_MECHANISM is {mechanism}, which needs {' and '.join(missing)}"
    if mechanism == "OAUTHBEARER" and not _gets_tokens(found):
        yield "KAFKA_SASL_MECHANISM is OAUTHBEARER, which needs sasl.oauthbearer.method=oidc in KAFKA_CONFIG_FILE"
    if ("ssl.certificate.location" in found) != ("ssl.key.location" in found):
        yield "of KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION one is set; allowed: both or none"


def _gets_tokens(found: Mapping[str, str]) -> bool:
    """Return whether librdkafka itself gets tokens. Otherwise it would wait for this program to hand it one."""
    unsecured = found.get("enable.sasl.oauthbearer.unsecure.jwt", "").lower() == "true"
    return unsecured or found.get("sasl.oauthbearer.method", "").lower() == "oidc"


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
