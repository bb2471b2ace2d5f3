"""`webhook`: posts JSON to a URL, signed as in Standard Webhooks 1.0.0 (https://www.standardwebhooks.com).

Whoever submits such a job chooses where this machine connects to. So no redirect is followed, and no proxy is used. The
check is made on the address of the open connection, not on the name, which may resolve to another address each time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec
from marshmallow import RAISE, Schema, ValidationError, fields, validate

from eventvault import __version__, regular_files, scopes, settings
from worker.jobs import Fail, Job, Retry, job

SECONDS = 30.0
"""How long the server may send nothing."""
MAX_ANSWER_BYTES = 4_096
"""Most bytes of the answer's body in the result."""
_LARGEST_SECRET = 4_096
_SECRET_PREFIX = "whsec_"
_HEADER_NAME = r"[A-Za-z][A-Za-z0-9-]{0,63}"
_OWN_HEADERS = re.compile(
    "host|content-.*|transfer-encoding|connection|webhook-.*|user-agent|expect|te|trailer|upgrade|proxy-.*",
    re.IGNORECASE,
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PUBLIC_OF_IPV6 = ipaddress.ip_network("2000::/3")
_OF_CLOUDS = frozenset(map(ipaddress.ip_address, ("168.63.129.16", "192.0.0.192")))
"""Addresses that look public, but where clouds give a machine its settings and keys."""
_LONGEST_WAIT = 3_600.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _check_url(url: str) -> None:
    try:
        _split(url)
    except ValueError as error:
        raise ValidationError(f"Not an address to post to: {error}.") from None


def _check_headers(headers: dict[str, str]) -> None:
    for name, value in headers.items():
        if not re.fullmatch(_HEADER_NAME, name) or _OWN_HEADERS.fullmatch(name):
            raise ValidationError(f"{name[:80]!r} is not a header that can be set.")
        if not re.fullmatch(r"[\x20-\x7e]{0,1000}", value):
            raise ValidationError(f"The value of {name} is not printable ASCII of at most 1000 characters.")


class WebhookSchema(Schema):
    """The payload: where to post, and what. The body is JSON."""

    class Meta:
        unknown = RAISE

    url = fields.String(
        required=True,
        validate=[validate.Length(max=2_000), _check_url],
        metadata={"example": "https://example.org/hook"},
    )
    body = fields.Raw(load_default=None, allow_none=True)
    headers = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        load_default=dict,
        validate=[validate.Length(max=20), _check_headers],
    )


@job("webhook", schema=WebhookSchema, scope=scopes.ADMIN, timeout=timedelta(minutes=2), max_attempts=8)
def webhook(asked: Job) -> dict[str, Any]:
    """Post the body. An answer from 200 to 299 is a success; after any other answer the job is retried."""
    url, secret = _split(asked.payload["url"]), _secret()
    body = msgspec.json.encode(asked.payload["body"])
    headers = {**asked.payload["headers"], **signed(asked.id, body, secret, round(time.time()))}
    try:
        answer = _post(url, body, headers)
    except (OSError, http.client.HTTPException) as error:
        raise Retry(f"{url.hostname} was not reached: {error}") from error
    if not 200 <= answer.status < 300:
        raise Retry(f"the server answered {answer.status} {answer.reason}"[:200], after=answer.after)
    return {"status": answer.status, "address": answer.address, "body": answer.body}


def signed(message_id: str, body: bytes, secret: bytes, seconds: int) -> dict[str, str]:
    """Return the headers that prove the sender and the time of this message. seconds: since the epoch."""
    name = message_id if re.fullmatch(r"[!-~]{1,200}", message_id) else hashlib.sha256(message_id.encode()).hexdigest()
    digest = hmac.new(secret, b"%s.%d.%s" % (name.encode(), seconds, body), hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "User-Agent": f"EventVault/{__version__}",
        "webhook-id": name,
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _secret() -> bytes:
    """Return the key in WEBHOOK_SECRET_FILE, which is `whsec_` and base64, or any bytes."""
    path = settings.load().webhook_secret_file
    if path is None:
        raise Fail("WEBHOOK_SECRET_FILE is not set, and webhooks are never sent unsigned")
    try:
        content = _read(path).strip()
    except OSError as error:
        raise Retry(f"the secret of webhooks cannot be read: {path}: {error.strerror}") from error
    if content.startswith(_SECRET_PREFIX.encode()):
        try:
            content = base64.b64decode(content.removeprefix(_SECRET_PREFIX.encode()), validate=True)
        except ValueError:
            raise Fail(f"the secret of webhooks begins with {_SECRET_PREFIX} and is not base64: {path}") from None
    if not content:
        raise Fail(f"the secret of webhooks is empty: {path}")
    return content


def _read(path: Path) -> bytes:
    with regular_files.open_file(path) as file:
        return file.read(_LARGEST_SECRET)


class WebhookAnswer(NamedTuple):
    """The server's answer. address: the server's. after: seconds from its header Retry-After; None without one."""

    status: int
    reason: str
    address: str
    body: str
    after: float | None


def _split(url: str) -> SplitResult:
    """Return the parts of a URL. Raises ValueError, with the reason, if it is not allowed."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it must begin with http:// or https://, and have a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it has a user or a password; send a header instead")
    if not re.fullmatch(r"[!-~]+", url):
        raise ValueError("it has blanks or other characters that must be percent-encoded")
    if parts.port == 0:
        raise ValueError("its port is 0")
    return parts


def _post(url: SplitResult, body: bytes, headers: dict[str, str]) -> WebhookAnswer:
    connection, address = _connect(url)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    exchange = http.client.HTTPConnection(url.netloc, timeout=SECONDS)
    exchange.sock = connection
    try:
        exchange.request("POST", target, body, headers)
        answer = exchange.getresponse()
        text = answer.read(MAX_ANSWER_BYTES).decode(errors="replace")
        return WebhookAnswer(
            answer.status, answer.reason, str(address), text, _after(answer.headers.get("Retry-After", ""))
        )
    finally:
        exchange.close()


def _connect(url: SplitResult) -> tuple[socket.socket, Address]:
    """Connect to the first address of the host that is allowed and answers. Raises OSError; Fail if none is allowed."""
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    failure: OSError | None = None
    refused: list[str] = []
    for family, target in _resolve(host, port):
        if not is_allowed(target[0]):
            refused.append(target[0])
            continue
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(SECONDS)
        try:
            connection.connect(target)
            peer = connection.getpeername()[0]
            if not is_allowed(peer):
                raise PermissionError(f"it led to {peer}")
            return (_with_tls(connection, host) if url.scheme == "https" else connection), _parsed(peer)
        except OSError as error:
            connection.close()
            failure = error
    if failure is not None:
        raise failure
    raise Fail(
        f"{host} is at {', '.join(refused)}, which is not a public address; "
        "WEBHOOK_ALLOWED_NETWORKS can allow its network"
    )


def _resolve(host: str, port: int) -> Iterator[tuple[int, Any]]:
    for family, _, _, _, target in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        yield family, target


def _with_tls(connection: socket.socket, host: str) -> socket.socket:
    return ssl.create_default_context().wrap_socket(connection, server_hostname=host)


def is_allowed(address: str) -> bool:
    """Return whether a webhook may go to an address: a public one, or one of WEBHOOK_ALLOWED_NETWORKS."""
    parsed = _parsed(address)
    allowed = (ipaddress.ip_network(network) for network in settings.load().webhook_allowed_networks)
    if any(parsed.version == network.version and parsed in network for network in allowed):
        return True
    if parsed in _OF_CLOUDS or (isinstance(parsed, ipaddress.IPv6Address) and parsed not in _PUBLIC_OF_IPV6):
        return False
    return parsed.is_global and not parsed.is_multicast


def _parsed(address: str) -> Address:
    """Return the IPv4 address that an IPv6 address stands for; any other address as it is."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv4Address):
        return parsed
    if parsed in _NAT64:
        return ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)
    teredo = None if parsed.teredo is None else parsed.teredo[1]
    return parsed.ipv4_mapped or parsed.sixtofour or teredo or parsed


def _after(text: str) -> float | None:
    return min(float(text), _LONGEST_WAIT) if re.fullmatch("[0-9]{1,9}", text) else None
