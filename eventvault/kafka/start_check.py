"""Checks at the start what a client would refuse later: the files of TLS, and the names and values of properties.

No client is made, because a client has threads, and the calling process may fork.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from eventvault.errors import InvalidSettings
from eventvault.kafka import connection, hidden
from eventvault.kafka.connection import setting_of
from eventvault.settings import Settings

log = logging.getLogger("KafkaMonitor")

_UNKNOWN = "eventvault.check"
"""A property that librdkafka refuses after it has checked those before it, so that no client is ever made."""
_PLAIN = frozenset({"security.protocol", "sasl.mechanism", "sasl.username", "sasl.password"})
"""Properties that librdkafka need not check. If there are no others, it is not loaded."""


def check_kafka_settings(settings: Settings) -> None:
    """Raise InvalidSettings, naming all settings of Kafka with which no client can be made."""
    if not settings.kafka_bootstrap_servers:
        return
    properties = connection.properties(settings)
    problems = [*_problems_of_files(properties), *_problems_of_librdkafka(properties)]
    if problems:
        raise InvalidSettings("; ".join(problems), hint="docs/kafka.md shows what is needed", problems=problems)
    for problem in connection.readable_by_others(settings):
        log.warning("%s; chmod 600 keeps it for this user", problem)


def _problems_of_files(properties: Mapping[str, str]) -> Iterator[str]:
    """Name the certificates and keys that cannot be used."""
    import ssl  # here, because every start loads this module, and few use such files

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority, pem = properties.get("ssl.ca.location"), properties.get("ssl.ca.pem")
    if pem is not None:
        try:
            context.load_verify_locations(cadata=pem)
        except (OSError, ValueError) as error:
            yield f"ssl.ca.pem of KAFKA_CONFIG_FILE has no certificates: {_reason(error)}"
    if authority is not None and authority != "probe":
        try:
            context.load_verify_locations(authority)
        except IsADirectoryError:
            pass
        except (OSError, ValueError) as error:
            yield f"{setting_of('ssl.ca.location')} {authority} has no certificates: {_reason(error)}"
    certificate, key = properties.get("ssl.certificate.location"), properties.get("ssl.key.location")
    if certificate is None or key is None:
        return
    try:
        context.load_cert_chain(certificate, key, properties.get("ssl.key.password", ""))
    except (OSError, ValueError) as error:
        settings = f"{setting_of('ssl.certificate.location')} {certificate} and {setting_of('ssl.key.location')} {key}"
        yield f"{settings} are not a certificate with its key, or the key's password is wrong: {_reason(error)}"


def _problems_of_librdkafka(properties: Mapping[str, str]) -> Iterator[str]:
    """Let librdkafka check each property; it names the first one that it refuses."""
    if properties.keys() <= _PLAIN:
        return
    from confluent_kafka import KafkaException, Producer

    try:
        Producer({**properties, _UNKNOWN: ""})
    except (KafkaException, TypeError, ValueError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        if _UNKNOWN not in reason:
            yield f"a property of KAFKA_CONFIG_FILE is not allowed: {hidden.hide(reason)}"


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
