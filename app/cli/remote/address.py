"""Where the service is, and who asks: `--url`, the token of the environment, and the authority of its certificate.

A token is never an argument, as everybody on the machine sees those, and never goes over a network in plain text unless
`--insecure` says so, or `--to-insecure` for the second service of a command.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click

from eventvault.printable import printable
from eventvault.regular_files import open_handle

URL, TOKEN, TOKEN_FILE = "EVENTVAULT_URL", "EVENTVAULT_TOKEN", "EVENTVAULT_TOKEN_FILE"
OTHER_TOKEN = "EVENTVAULT_TO_TOKEN"
"""The environment variables; the last one has the token of a second service, that a command compares with the first."""

_TOKEN = re.compile(r"[!-~]{1,512}")
_TOKEN_FILE_BYTES = 4096
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~%-]+)*/?")
_PORTS = {"http": 80, "https": 443}
_EXAMPLE = "such as https://vault.example or http://127.0.0.1:5050"


@dataclass(frozen=True)
class ServiceAddress:
    """The address of a service. prefix: the path below which a proxy serves the API; usually empty."""

    scheme: str
    host: str
    port: int
    prefix: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.prefix}"


def parse(url: str, *, insecure: bool, service: str = "") -> ServiceAddress:
    """Return the address that `--url` names. insecure: plain HTTP is allowed beyond this machine too.

    service: `to-` for the second one, whose options are called `--to-url` and `--to-insecure`. Raises UsageError.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:
        raise _no_address(url, service) from None
    if "@" in parts.netloc:
        where = OTHER_TOKEN if service else f"{TOKEN} or {TOKEN_FILE}"
        raise click.UsageError(f"--{service}url holds no user and no password: a token goes into {where}")
    if parts.scheme not in _PORTS or not host or parts.query or parts.fragment or not _PREFIX.fullmatch(parts.path):
        raise _no_address(url, service)
    address = ServiceAddress(parts.scheme, host, port or _PORTS[parts.scheme], parts.path.rstrip("/"))
    if address.scheme == "http" and not insecure and not _is_this_machine(host):
        raise click.UsageError(
            f"{address} is plain HTTP: whoever is on the way can read the token and the events; "
            f"use https://, or add --{service}insecure if the network can be trusted"
        )
    return address


def _no_address(url: str, service: str) -> click.UsageError:
    return click.UsageError(f"--{service}url: {printable(url[:200])!r} is not the address of a service, {_EXAMPLE}")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def token_of(environment: Mapping[str, str] = os.environ, names: Sequence[str] = (TOKEN, TOKEN_FILE)) -> str | None:
    """Return the token of the environment; None if there is none. Raises UsageError, which never shows it.

    names: the variables that may have it; the first one that is set is used.
    """
    is_set = (name for name in names if name != TOKEN_FILE and environment.get(name, "").strip())
    name = next(is_set, TOKEN)
    token = environment.get(name, "").strip() if name in names else ""
    if not token and TOKEN_FILE in names and (file := environment.get(TOKEN_FILE, "").strip()):
        name, token = f"the file in {TOKEN_FILE}", _read(Path(file))
    if token and not _TOKEN.fullmatch(token):
        raise click.UsageError(f"{name} holds no token: a token is one word of printable ASCII characters")
    return token or None


def _read(path: Path) -> str:
    try:
        with os.fdopen(open_handle(path, follow=True), "rb") as file:  # a mounted secret may be a link
            return file.read(_TOKEN_FILE_BYTES).decode(errors="replace").strip()
    except OSError as error:
        raise click.UsageError(f"{TOKEN_FILE}: reading {path} failed: {error.strerror or error}") from None


def tls_of(address: ServiceAddress, authority: Path | None) -> ssl.SSLContext | None:
    """Return how the certificate of the service is checked; None for plain HTTP.

    authority: a file of PEM certificates that is trusted instead of the system's; without it OpenSSL takes its own, or
    what SSL_CERT_FILE names. Raises UsageError.
    """
    if address.scheme == "http":
        return None
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:  # an SSLError too: the file holds no certificate
        raise click.UsageError(f"--ca-file: {authority} holds no certificate: {error.strerror or error}") from None
