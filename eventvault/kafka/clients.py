"""Makes clients from the settings: an admin that tells why the brokers refuse it, consumers, and producers.

librdkafka reports a refusal to `error_cb`; the requests of a refused client only time out. A new client reads passwords
and certificates again. A producer that gets an error checks whether they have changed.

The `error_cb` of a client never refers to the client's owner. Such a cycle would keep an unused client, which would go
on logging in, until Python collects garbage.
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
"""How long a client may take to connect and to log in; then librdkafka closes the connection and opens a new one."""
_MOST_ERRORS = 100
_CHECK_SECONDS = 60.0
"""How long a producer checks for changed files after an error: librdkafka repeats the same error only after 30 s."""
_CHECK_PAUSE_SECONDS = 1.0
_LOGIN = frozenset({"sasl.username", "sasl.password"})
_T = TypeVar("_T")
OnError = Callable[[KafkaError, Refusal | None], None]
_CORRECT = "correct the settings KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_*, KAFKA_SSL_* or KAFKA_CONFIG_FILE"


class Admin(AdminClient):
    """An AdminClient for one thread. It keeps the newest error until a request is answered.

    But a refusal by one broker is kept even if another broker then is away: it says more.
    """

    def __init__(self, settings: Settings) -> None:
        """Raise KafkaRefused if no client can be made, for instance because a file has changed since the start."""
        self._newest: KafkaError | None = None
        self._was_answered = False
        self._made_at = time.monotonic()
        self._errors = errors = _no_errors()
        properties: dict[str, Any] = {**_make(lambda: config.client(settings)), "error_cb": errors.append}
        _make(lambda: super(Admin, self).__init__(properties))
        self._probe = refusals.probe_of(properties)
        self._token_problem = refusals.token_probe_of(properties)
        self._may_take_long = "sasl.oauthbearer.token.endpoint.url" not in properties
        self._is_plain = "SSL" not in str(properties.get("security.protocol", "")).upper()
        self._servers = settings.kafka_bootstrap_servers or ""

    def refusal(self) -> Refusal | None:
        """Return why the brokers refuse this client, as far as is known since the last answer."""
        self._take_errors()
        refusal = None if self._newest is None else refusals.explain(self._newest, self._probe)
        if refusal is None and (problem := self._token_problem()):
            return refusals.no_token(problem)
        if self._newest is None and self._is_plain:
            return refusals.tls_instead(self._servers)
        return refusal

    def newest_error(self) -> str:
        """Return the newest error since the last answer, without secrets; empty if there is none."""
        return "" if self._newest is None else hidden.hide(str(self._newest.str()))

    def note_answer(self) -> None:
        """Forget the errors that came before an answer."""
        self._take_errors()
        self._newest = None
        self._was_answered = True

    @property
    def is_logging_in(self) -> bool:
        """Whether the first answer may still come. Then a new client would only begin to log in again.

        False for a client that uses OAuth tokens: if the token server fails, librdkafka waits long before it asks it
        again, but a new client asks at once.
        """
        is_new = time.monotonic() - self._made_at < LOGIN_SECONDS
        return self._may_take_long and is_new and not self._was_answered and self._newest is None

    def _take_errors(self) -> None:
        self.poll(0)
        while self._errors:
            self._note(self._errors.popleft())

    def _note(self, error: KafkaError) -> None:
        """Keep an error if it says more than the earlier one. "All brokers down" says less than a failed request."""
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
        """Return the next message; None if none comes within so many seconds."""
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
    """A producer that knows why the brokers refuse it, and whether a new producer might be accepted.

    `poll` and `flush` wait by the monotonic clock. They call `on_error` with each error, and with the refusal if the
    brokers refuse the client.

    is_outdated: its owner must replace it, because the clock was set back; or a fatal error came, which only `on_error`
    gets; or an error came after certificates or the configuration had changed. A changed password is set in place.
    """

    def __init__(
        self, properties: Mapping[str, Any], settings: Settings, made_of: Mapping[str, Any], on_error: OnError | None
    ) -> None:
        """made_of: what `_material` returned before the properties were read."""
        self.is_outdated = False
        self._settings = settings
        self._made_of = made_of
        self._probe = refusals.probe_of(properties)
        self._on_error = on_error
        self._check_at = self._check_until = 0.0
        self._clock = ClockSetBack()
        self._errors = errors = _no_errors()
        super().__init__({**properties, "error_cb": errors.append})

    def poll(self, timeout: float = 0.0) -> int:
        """Call the callbacks of what came, or comes within so many seconds. Returns how many were called."""
        return self._repeated(lambda: super(WatchedProducer, self).poll(0), lambda served: served > 0, timeout)

    def flush(self, timeout: float = 0.0) -> int:
        """Wait until all is delivered, at most for so many seconds. Returns how many messages are not."""
        return self._repeated(lambda: super(WatchedProducer, self).flush(0), lambda unsent: unsent == 0, timeout)

    def drop(self) -> None:
        """Give up the messages that are not delivered, and call their callbacks."""
        self.purge()
        self.flush()

    def _repeated(self, call: Callable[[], int], is_enough: Callable[[int], bool], seconds: float) -> int:
        return Repeated().wait(lambda: self._call_watched(call), is_enough, seconds)

    def _call_watched(self, call: Callable[[], int]) -> int:
        try:
            result = call()
        except KafkaException as error:
            self._note_fatal(error)
            return self._call_watched(call)
        self.is_outdated |= self._clock.was_set_back()
        self._take_errors(time.monotonic())
        return result

    def _note_fatal(self, error: KafkaException) -> None:
        """Note an error that ends the client. librdkafka raises it once; later errors are not marked as fatal.

        Raises any other error again.
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
            self._check_until = now + _CHECK_SECONDS
        if not self._check_at <= now < self._check_until:
            return
        self._check_at = now + _CHECK_PAUSE_SECONDS
        try:
            self._renew()
        except (InvalidSettings, KafkaException) as error:  # for instance, a file is being written
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
    """Return a new producer. limits: further properties of librdkafka, with `_` for `.`. Raises KafkaRefused."""
    made_of = _make(lambda: _material(connection.properties(settings)))
    properties = _make(lambda: config.producer(settings, delivery_milliseconds))
    more: Mapping[str, Any] = {name.replace("_", "."): value for name, value in limits.items()}
    return _make(lambda: WatchedProducer({**properties, **more}, settings, made_of, on_error))


def _no_errors() -> deque[KafkaError]:
    return deque(maxlen=_MOST_ERRORS)


def _material(properties: Mapping[str, str]) -> dict[str, Any]:
    """Return what a client is made of: its properties, and the identities of the files that they name."""
    files = {f"the file of {name}": value for name, value in properties.items() if name.endswith(".location")}
    return {**properties, **{name: _identity(Path(value)) for name, value in files.items()}}


def _identity(path: Path) -> FileIdentity | None:
    with suppress(OSError):
        return FileIdentity.of(path.stat())  # a container's secret may be a link
    return None


def _make(make: Callable[[], _T]) -> _T:
    try:
        return make()
    except InvalidSettings as error:
        raise KafkaRefused(error.message, hint=error.hint) from error
    except KafkaException as error:
        reason = hidden.hide(str(error.args[0].str()))
        raise KafkaRefused(f"no client of Kafka can be made: {reason}", hint=_CORRECT) from error
