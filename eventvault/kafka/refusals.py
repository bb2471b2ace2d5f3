"""Explains why the brokers refuse a client. librdkafka reports that apart from the request, which only times out."""

from __future__ import annotations

import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from confluent_kafka import KafkaError

from eventvault.kafka import hidden

PROBE_SECONDS = 3.0
TOKEN_SECONDS = 2.0
"""Shorter than PROBE_SECONDS: the probe must still be waiting when the token server has not answered in time."""
ASK_AGAIN_SECONDS = 60.0
"""How long an answer about a certificate is used: librdkafka repeats the same error after 30 s, for each connection."""

_LOGIN = (
    "correct KAFKA_SASL_USERNAME and the password in KAFKA_SASL_PASSWORD_FILE, or KAFKA_SASL_MECHANISM; "
    "it is retried automatically"
)
_TOKEN = "correct sasl.oauthbearer.* in KAFKA_CONFIG_FILE, or check the identity provider; it is retried automatically"
_PROTOCOL = "set KAFKA_SECURITY_PROTOCOL to what the brokers' port speaks, or name another port"
_AUTHORITY = "set KAFKA_SSL_CA_LOCATION to the certificate of the authority that signed the brokers' certificates"
_RENEW = "renew the certificate of the brokers, or set the clock of this machine right"
_HOST = "name the brokers in KAFKA_BOOTSTRAP_SERVERS and advertised.listeners as their certificates do"
_OWN = "renew KAFKA_SSL_CERTIFICATE_LOCATION, or have it signed by an authority that the brokers trust"

_NO_TOKEN = re.compile("OAUTHBEARER token|invalid_token")
_OF_TEXT = (
    (r"connecting to a SSL listener|security\.protocol configuration", "they speak another protocol", _PROTOCOL),
    (r"PLAINTEXT broker listener|wrong version number|packet length too long|record layer failure",
     "they speak another protocol", _PROTOCOL),
    (r"client SSL authentication might be required|alert (bad )?certificate|alert certificate|certificate required|"
     r"alert unknown ca|certificate_required", "they refuse the certificate of EventVault", _OWN),
)  # fmt: skip
_TRIED_AGAIN = (408, 425, 429)
"""Statuses of a token server, besides 500 and above, after which librdkafka asks again."""
_VERIFY_FAILED = re.compile("certificate verify failed|could not be verified")
_OF_VERIFICATION = (
    ("expired", "their certificate has expired", _RENEW),
    ("not yet valid", "their certificate is not valid yet", _RENEW),
    ("mismatch", "their certificate is for another name", _HOST),
)
_VARIES = re.compile(r" \((after [0-9]+ms in state|[0-9]+ identical).*?\)$")
_SERVER = re.compile(r"ssl://(.+?):(\d+)(?=/|:)")


class Refusal(NamedTuple):
    """why: completes "the Kafka brokers at … refuse EventVault: ". hint: what to do.

    by_login: a login or a certificate is refused. Otherwise the connection may only have ended, as when a broker stops.
    """

    why: str
    hint: str
    by_login: bool = False


Probe = Callable[[str, int], str]
"""Returns why the certificate of a broker is not trusted; empty if that is unknown."""


def explain(error: KafkaError, probe: Probe = lambda *_: "") -> Refusal | None:
    """Return why the brokers refuse the client; None for any other error, such as a broker that is away."""
    text = _VARIES.sub("", hidden.hide(str(error.str())))
    if error.code() == KafkaError._AUTHENTICATION:
        return Refusal(f"the login fails: {text}", _TOKEN if _NO_TOKEN.search(text) else _LOGIN, by_login=True)
    if error.code() == KafkaError._SSL and _VERIFY_FAILED.search(text):
        return _explain_certificate(text, probe)
    for pattern, why, hint in _OF_TEXT:
        if re.search(pattern, text):
            return Refusal(f"{why}: {text}", hint, by_login=hint == _OWN)
    if error.code() == KafkaError._SSL:
        return Refusal(f"TLS fails: {text}", _AUTHORITY)
    return None


def _explain_certificate(text: str, probe: Probe) -> Refusal:
    """Return why a certificate is not trusted. librdkafka does not say why, so the probe finds it out."""
    server = _SERVER.search(text)
    reason = probe(server[1].strip("[]"), int(server[2])) if server else ""
    for word, why, hint in _OF_VERIFICATION:
        if word in reason:
            return Refusal(f"{why}: {reason}", hint, by_login=True)
    why = f"no trusted authority has signed their certificate: {reason or text}"
    return Refusal(why, _AUTHORITY, by_login=True)


def tls_instead(servers: str) -> Refusal | None:
    """Return a refusal if the first broker speaks TLS. A client without TLS only sees a broken connection."""
    host, _, port = servers.partition(",")[0].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS) as connection:
            _trusting_context().wrap_socket(connection).close()
    except (OSError, ValueError):
        return None
    return Refusal(f"they speak another protocol: {host}:{port} speaks TLS", _PROTOCOL)


def _trusting_context() -> ssl.SSLContext:
    """Return a context that trusts any server, for probes that send no secret."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def probe_of(properties: Mapping[str, str]) -> Probe:
    """Return a probe that asks a broker for its certificate, and trusts the same authorities as these properties."""
    authority, pem = properties.get("ssl.ca.location"), properties.get("ssl.ca.pem")
    if authority == "probe":
        authority = None
    return BoundedProbe(lambda host, port: certificate_problem(host, port, authority, pem))


def token_probe_of(properties: Mapping[str, str]) -> Callable[[], str]:
    """Return a function that asks the token server in these properties why it gives no token; empty if it gives one."""
    url = properties.get("sasl.oauthbearer.token.endpoint.url", "")
    if not url.lower().startswith(("http://", "https://")):
        return lambda: ""
    return partial(BoundedProbe(token_server_problem), url)


def no_token(problem: str) -> Refusal:
    return Refusal(f"the login fails: no token was acquired: {problem}", _TOKEN, by_login=True)


class BoundedProbe:
    """Asks each server once a minute, and waits PROBE_SECONDS at most, because its caller has more to do.

    Used by one thread. ask: returns what is wrong with a server; empty if nothing is.
    """

    def __init__(self, ask: Callable[..., str]) -> None:
        self._problem_of = ask
        self._asked: dict[tuple[str | int, ...], tuple[float, Future[str]]] = {}
        """Server → when it was asked last, and its answer."""

    def __call__(self, *server: str | int) -> str:
        now = time.monotonic()
        asked_at, answer = self._asked.get(server, (-math.inf, Future[str]()))
        if now - asked_at < ASK_AGAIN_SECONDS:
            return answer.result(0) if answer.done() else ""
        answer = Future()
        with suppress(RuntimeError, TimeoutError):  # no thread can be started, or the server does not answer in time
            threading.Thread(target=self._ask, args=(server, answer), name="probe", daemon=True).start()
            self._asked[server] = now, answer
            return answer.result(PROBE_SECONDS)
        return ""

    def _ask(self, server: tuple[str | int, ...], answer: Future[str]) -> None:
        answer.set_result(self._problem_of(*server))


def token_server_problem(url: str) -> str:
    """Return what is wrong with a token server. librdkafka does not report it: it only retries for minutes.

    A problem is a status such as 500, or no answer. The request has no secret: a refusal shows that the server works.
    """
    # Imported here: it is needed only if no broker answers.
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    server = None
    try:
        server = urlsplit(url).hostname
        request = Request(url, b"grant_type=client_credentials")
        urlopen(request, timeout=TOKEN_SECONDS, context=_trusting_context()).close()  # nosec B310  # token_probe_of allows only http
    except HTTPError as error:
        error.close()
        return f"{server} answers {error.code}" if error.code >= 500 or error.code in _TRIED_AGAIN else ""
    except (OSError, ValueError, HTTPException) as error:
        is_late = isinstance(getattr(error, "reason", error), TimeoutError)
        return f"{server} does not answer within {TOKEN_SECONDS:.0f} s" if is_late else ""
    return ""


def certificate_problem(host: str, port: int, authority: str | Path | None, pem: str | None = None) -> str:
    """Return what is wrong with the certificate of a broker; empty if nothing is, or if the broker does not answer.

    authority: a file or folder of trusted certificates. pem: such certificates. If both are None: those of the system.
    """
    context = ssl.create_default_context()
    try:
        if authority is not None or pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            is_folder = authority is not None and Path(authority).is_dir()
            context.load_verify_locations(None if is_folder else authority, authority if is_folder else None, pem)
        with socket.create_connection((host, port), PROBE_SECONDS) as connection:
            context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    except (OSError, ValueError):
        return ""
    return ""
