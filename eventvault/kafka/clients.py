"""Makes clients from the settings: an admin that tells why the brokers refuse it, and producers.

A client that is refused has the reason beside its requests, which end after their time only. A password that is changed
in its file is used by the next client, and by a producer when it is refused.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from eventvault.errors import InvalidSettings, KafkaRefused
from eventvault.kafka import config, connection, hidden, refusals
from eventvault.kafka.refusals import Refusal
from eventvault.settings import Settings

log = logging.getLogger("KafkaMonitor")

_T = TypeVar("_T")
_CORRECT = "correct the settings KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_*, KAFKA_SSL_* or KAFKA_CONFIG_FILE"


class Admin(AdminClient):
    """An AdminClient, to be used by one thread. It keeps the newest error until a request is answered.

    That one broker refuses it says more than that another one is away.
    """

    def __init__(self, settings: Settings) -> None:
        """Raise KafkaRefused if no client can be made, as a file is not as it was at the start."""
        self._newest: KafkaError | None = None
        properties: dict[str, Any] = {**_made(lambda: config.client(settings)), "error_cb": self._note}
        _made(lambda: super(Admin, self).__init__(properties))
        self._probe = partial(refusals.certificate_problem, authority=properties.get("ssl.ca.location"))
        self._is_plain = "SSL" not in str(properties.get("security.protocol", "")).upper()
        self._servers = settings.kafka_bootstrap_servers or ""

    def refusal(self) -> Refusal | None:
        """Return why the brokers refuse this client, as far as is known since the last answer."""
        self.poll(0)
        if self._newest is not None:
            return refusals.explain(self._newest, self._probe)
        return refusals.tls_instead(self._servers) if self._is_plain else None

    def heard(self) -> str:
        """Return what else the client said since the last answer, without secrets; empty if nothing."""
        return "" if self._newest is None else hidden.hide(str(self._newest.str()))

    def forget(self) -> None:
        self.poll(0)
        self._newest = None

    def _note(self, error: KafkaError) -> None:
        """That all brokers are down says less than the failure of the request."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            return
        if self._newest is None or refusals.explain(self._newest) is None or refusals.explain(error) is not None:
            self._newest = error


class LoginProducer(Producer):
    """A producer that logs in with what the files have then, once its login was refused.

    A client must not be used by its own callback, which would end the process. So `poll` and `flush` do that.
    """

    def __init__(self, properties: Mapping[str, Any], settings: Settings) -> None:
        this = weakref.ref(self)  # a callback that holds its client would keep it from being closed

        def note(error: KafkaError) -> None:
            client = this()
            if client is not None and error.code() == KafkaError._AUTHENTICATION:
                client._is_refused = True

        self._settings = settings
        self._is_refused = False
        super().__init__({**properties, "error_cb": note})

    def poll(self, *arguments: Any) -> int:
        return self._after(super().poll(*arguments))

    def flush(self, *arguments: Any) -> int:
        return self._after(super().flush(*arguments))

    def _after(self, count: int) -> int:
        if self._is_refused:
            self._is_refused = False
            _renew_login(self, self._settings)
        return count


def producer(settings: Settings, delivery_milliseconds: int = 0, **limits: Any) -> Producer:
    """Make a producer of `config.producer`. limits: further properties, with `_` for `.`. Raises KafkaRefused."""
    properties = _made(lambda: config.producer(settings, delivery_milliseconds))
    more: Mapping[str, Any] = {name.replace("_", "."): value for name, value in limits.items()}
    return _made(lambda: LoginProducer({**properties, **more}, settings))


def _renew_login(client: Producer, settings: Settings) -> None:
    """Let a client log in with what the files have now."""
    try:
        present = connection.properties(settings)
        if "sasl.username" in present and "sasl.password" in present:
            client.set_sasl_credentials(present["sasl.username"], present["sasl.password"])
    except (InvalidSettings, KafkaException) as error:
        log.debug("the login of a producer is not renewed: %s", hidden.hide(str(error)))


def _made(make: Callable[[], _T]) -> _T:
    try:
        return make()
    except InvalidSettings as error:
        raise KafkaRefused(error.message, hint=error.hint) from error
    except KafkaException as error:
        reason = hidden.hide(str(error.args[0].str()))
        raise KafkaRefused(f"no client of Kafka can be made: {reason}", hint=_CORRECT) from error
