"""Makes clients from the settings: an admin that tells why the brokers refuse it, consumers, and producers.

A client that is refused has the reason beside its requests, which end after their time only. What is changed in files
is used by the next client. A producer that meets an error looks whether there is something new.

No client's `error_cb` refers to whatever holds the client. Such a cycle would keep a client that is no longer used, and
it would go on logging in, until Python collects garbage.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from eventvault.errors import InvalidSettings, KafkaRefused
from eventvault.files import FileIdentity
from eventvault.kafka import config, connection, hidden, refusals
from eventvault.kafka.refusals import Refusal
from eventvault.kafka.waits import ClockSetBack, Repeated
from eventvault.settings import Settings

log = logging.getLogger("KafkaMonitor")

LOGIN_SECONDS = 30.0
"""How long a client may take to connect and to log in; librdkafka gives a connection up then, and begins anew."""
_MOST_ERRORS = 100
_LOOK_SECONDS = 60.0
"""How long a producer looks for changed files after an error: librdkafka repeats the same one after 30 s only."""
_LOOK_PAUSE_SECONDS = 1.0
_LOGIN = frozenset({"sasl.username", "sasl.password"})
_T = TypeVar("_T")
OnError = Callable[[KafkaError, Refusal | None], None]
_CORRECT = "correct the settings KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_*, KAFKA_SSL_* or KAFKA_CONFIG_FILE"


class Admin(AdminClient):
    """An AdminClient, to be used by one thread. It keeps the newest error until a request is answered.

    That one broker refuses it says more than that another one is away.
    """

    def __init__(self, settings: Settings) -> None:
        """Raise KafkaRefused if no client can be made, as a file is not as it was at the start."""
        self._newest: KafkaError | None = None
        self._was_answered = False
        self._made_at = time.monotonic()
        self._errors = errors = _no_errors()
        properties: dict[str, Any] = {**_made(lambda: config.client(settings)), "error_cb": errors.append}
        _made(lambda: super(Admin, self).__init__(properties))
        self._probe = refusals.probe_of(properties)
        self._token_problem = refusals.token_probe_of(properties)
        self._may_take_long = "sasl.oauthbearer.token.endpoint.url" not in properties
        self._is_plain = "SSL" not in str(properties.get("security.protocol", "")).upper()
        self._servers = settings.kafka_bootstrap_servers or ""

    def refusal(self) -> Refusal | None:
        """Return why the brokers refuse this client, as far as is known since the last answer."""
        self._take_errors()
        found = None if self._newest is None else refusals.explain(self._newest, self._probe)
        if found is None and (problem := self._token_problem()):
            return refusals.no_token(problem)
        if self._newest is None and self._is_plain:
            return refusals.tls_instead(self._servers)
        return found

    def heard(self) -> str:
        """Return what else the client said since the last answer, without secrets; empty if nothing."""
        return "" if self._newest is None else hidden.hide(str(self._newest.str()))

    def answered(self) -> None:
        """Forget the errors that the client met before an answer."""
        self._take_errors()
        self._newest = None
        self._was_answered = True

    @property
    def is_logging_in(self) -> bool:
        """Whether the first answer may still come: a new client would begin to connect and to log in again.

        False for a client that uses OAuth tokens. If the token server fails, librdkafka waits long before it asks
        again; a new client asks at once.
        """
        is_new = time.monotonic() - self._made_at < LOGIN_SECONDS
        return self._may_take_long and is_new and not self._was_answered and self._newest is None

    def _take_errors(self) -> None:
        self.poll(0)
        while self._errors:
            self._note(self._errors.popleft())

    def _note(self, error: KafkaError) -> None:
        """That all brokers are down says less than the failure of the request."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            return
        if self._newest is None or refusals.explain(self._newest) is None or refusals.explain(error) is not None:
            self._newest = error


class MonotonicConsumer(Consumer):
    """A consumer whose `poll` waits by the monotonic clock. on_error: called by `poll` with each error."""

    def __init__(self, properties: Mapping[str, Any], on_error: Callable[[KafkaError], None] | None = None) -> None:
        self._repeated = Repeated()
        self._on_error = on_error
        self._errors = errors = _no_errors()
        super().__init__({**properties, "error_cb": errors.append})

    def poll(self, timeout: float = 0.0) -> Message | None:
        """Return the next message, or the one that comes within so many seconds; None if none comes."""
        return self._repeated.wait(self._poll_now, lambda message: message is not None, timeout)

    def close(self) -> None:
        self._on_error = None  # its owner may hold this consumer
        super().close()

    def _poll_now(self) -> Message | None:
        message = super().poll(0)
        while self._errors and self._on_error is not None:
            self._on_error(self._errors.popleft())
        return message


class WatchedProducer(Producer):
    """A producer that hears why the brokers do not take its messages, and whether a new one would be let in.

    `poll` and `flush` wait by the monotonic clock. on_error: called by them with each error, and with why the brokers
    refuse the client, if they do.

    is_outdated: its owner is to replace it. Certificates, or the configuration, were changed since it was made, and
    then it met an error; or it met one that ends it, which only `on_error` hears; or the clock was set back. A password
    alone is changed in place.
    """

    def __init__(
        self, properties: Mapping[str, Any], settings: Settings, made_of: Mapping[str, Any], on_error: OnError | None
    ) -> None:
        """made_of: as `_material`, from before the properties were read."""
        self.is_outdated = False
        self._settings = settings
        self._made_of = made_of
        self._probe = refusals.probe_of(properties)
        self._on_error = on_error
        self._look_at = self._look_until = 0.0
        self._clock = ClockSetBack()
        self._errors = errors = _no_errors()
        super().__init__({**properties, "error_cb": errors.append})

    def poll(self, timeout: float = 0.0) -> int:
        """Take in what came, or what comes within so many seconds. Returns how many callbacks were called."""
        return self._repeated(lambda: super(WatchedProducer, self).poll(0), lambda served: served > 0, timeout)

    def flush(self, timeout: float = 0.0) -> int:
        """Wait until all is delivered, or for so many seconds. Returns how many messages are not."""
        return self._repeated(lambda: super(WatchedProducer, self).flush(0), lambda unsent: unsent == 0, timeout)

    def drop(self) -> None:
        """Give up what is not delivered. Their callbacks hear of it."""
        self.purge()
        self.flush()

    def _repeated(self, call: Callable[[], int], is_enough: Callable[[int], bool], seconds: float) -> int:
        return Repeated().wait(lambda: self._watched(call), is_enough, seconds)

    def _watched(self, call: Callable[[], int]) -> int:
        try:
            result = call()
        except KafkaException as error:
            self._note_end(error)
            return self._watched(call)
        self.is_outdated |= self._clock.was_set_back()
        self._take_errors(time.monotonic())
        return result

    def _note_end(self, error: KafkaException) -> None:
        """Note an error that ends the client: it is raised once, and the errors that follow from it are not fatal.

        Raises an error of another kind.
        """
        cause: KafkaError = error.args[0]
        if not cause.fatal():
            raise error
        self.is_outdated = True
        self._errors.append(cause)
        log.warning("an error ended a client of Kafka; another one replaces it: %s", hidden.hide(str(cause.str())))

    def _take_errors(self, now: float) -> None:
        while self._errors:
            error = self._errors.popleft()
            if self._on_error is not None:
                self._on_error(error, refusals.explain(error, self._probe))
            self._look_until = now + _LOOK_SECONDS
        if not self._look_at <= now < self._look_until:
            return
        self._look_at = now + _LOOK_PAUSE_SECONDS
        try:
            self._renew()
        except (InvalidSettings, KafkaException) as error:  # a file is being written, say
            log.debug("a producer was not replaced: %s", hidden.hide(str(error)))

    def _renew(self) -> None:
        present = connection.properties(self._settings)
        made_of = _material(present)
        changed = {name for name, _ in made_of.items() ^ self._made_of.items()}
        if changed and changed <= _LOGIN and present.keys() >= _LOGIN:
            self.set_sasl_credentials(present["sasl.username"], present["sasl.password"])
            self._made_of = made_of
        elif changed:
            self.is_outdated = True


def producer(
    settings: Settings, delivery_milliseconds: int = 0, on_error: OnError | None = None, **limits: Any
) -> WatchedProducer:
    """Make a producer of `config.producer`. limits: further properties, with `_` for `.`. Raises KafkaRefused."""
    made_of = _made(lambda: _material(connection.properties(settings)))
    properties = _made(lambda: config.producer(settings, delivery_milliseconds))
    more: Mapping[str, Any] = {name.replace("_", "."): value for name, value in limits.items()}
    return _made(lambda: WatchedProducer({**properties, **more}, settings, made_of, on_error))


def _no_errors() -> deque[KafkaError]:
    return deque(maxlen=_MOST_ERRORS)


def _material(properties: Mapping[str, str]) -> dict[str, Any]:
    """Return what a client is made of: its properties, and which files those name."""
    files = {f"the file of {name}": value for name, value in properties.items() if name.endswith(".location")}
    return {**properties, **{name: _identity(Path(value)) for name, value in files.items()}}


def _identity(path: Path) -> FileIdentity | None:
    with suppress(OSError):
        return FileIdentity.of(path.stat())  # a container's secret may be a link
    return None


def _made(make: Callable[[], _T]) -> _T:
    try:
        return make()
    except InvalidSettings as error:
        raise KafkaRefused(error.message, hint=error.hint) from error
    except KafkaException as error:
        reason = hidden.hide(str(error.args[0].str()))
        raise KafkaRefused(f"no client of Kafka can be made: {reason}", hint=_CORRECT) from error
