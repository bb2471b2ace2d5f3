"""Decides by origin which requests are served: without tokens, only those of programs and pages on this machine.

A foreign `Host` is DNS rebinding. A foreign `Origin` or `Sec-Fetch-Site` is a web page that posts to localhost. A peer
on another machine means that the service listens where it should not. Each gets a 403.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from eventvault.errors import Forbidden, MalformedInput
from eventvault.settings import Settings

_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})

_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[\w.-]+)(?::[0-9]{1,5})?", re.ASCII)
"""A name or an address and a port (RFC 9110, section 7.2). Readers differ about anything else, such as `a@b`."""

_SAME_ORIGIN = frozenset({"same-origin", "none"})
"""`Sec-Fetch-Site` of a page of this service, and of an address that its user typed."""


def is_loopback(host: str) -> bool:
    """Return whether a host name or address, with or without brackets, always means this machine."""
    name = host.strip("[]").rstrip(".").lower()
    address = _parse_address(name)
    if address is None:
        return name in _LOOPBACK_NAMES or name.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def split_host(host: str) -> tuple[str, str]:
    """Return name and port: `Example.com:80` → (`example.com`, `80`); `[::1]` → (`::1`, ``)."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name.lower(), rest.removeprefix(":")
    name, _, port = host.partition(":") if host.count(":") < 2 else (host, "", "")
    return name.rstrip(".").lower(), port


class OriginRules:
    """The rules that follow from the settings. They are checked for every request, so they must be cheap.

    environ: as in WSGI. closed: requests need a token, so they may come from another machine.
    """

    def __init__(self, settings: Settings) -> None:
        self._open_to_all = settings.allow_unauthenticated
        self._any_host = "*" in settings.allowed_hosts
        self._hosts = {split_host(host)[0] for host in (settings.host, *settings.allowed_hosts)}
        self._accepted_hosts: set[str] = set()

    def check(self, environ: Mapping[str, str], *, closed: bool) -> None:
        """Raise Forbidden if this machine, site or page may not send the request."""
        if not closed:
            self._check_peer(environ.get("REMOTE_ADDR") or "")
        host = environ.get("HTTP_HOST")
        if host is None and environ.get("SERVER_PROTOCOL") != "HTTP/1.0":
            raise MalformedInput("the request has no Host header", hint="send one, as HTTP/1.1 demands")
        site = environ.get("HTTP_SEC_FETCH_SITE", "none")
        if site not in _SAME_ORIGIN and not _may_come_from(site, environ):
            raise Forbidden("a page of another site sent this request", hint="open the page that this service serves")
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None:
            self._check_origin(origin, host or "")

    def check_host(self, environ: Mapping[str, str], *, closed: bool) -> None:
        """Raise Forbidden for a foreign `Host`. Not for a request with a token, which a foreign page does not know."""
        host = environ.get("HTTP_HOST")
        if host is not None and host not in self._accepted_hosts:
            self._check_host(host, closed=closed)

    def _check_peer(self, peer: str) -> None:
        if self._open_to_all or peer in ("", "127.0.0.1", "::1") or is_loopback(peer):
            return
        raise Forbidden(
            f"requests from {peer} are not served: without tokens the service answers only its own machine",
            hint="make a token (flask tokens create admin --scope admin), or set ALLOW_UNAUTHENTICATED=true to serve "
            "everybody who can reach the service",
        )

    def _check_host(self, host: str, *, closed: bool) -> None:
        name, _ = split_host(host)
        numeric = (self._open_to_all or closed) and _parse_address(name) is not None
        allowed = self._any_host or is_loopback(name) or name in self._hosts or numeric
        if not allowed or _HOST.fullmatch(host) is None:
            raise Forbidden(
                f"the host {host[:100]!r} is not a name of this service", hint="add the host to ALLOWED_HOSTS"
            )
        if len(self._accepted_hosts) < 100:
            self._accepted_hosts.add(host)

    def _check_origin(self, origin: str, host: str) -> None:
        """Accept an origin with the request's own host. A port is not compared if a proxy removed it from `Host`."""
        origin_scheme, _, authority = origin.partition("://")
        own_host, own_port = split_host(host)
        origin_host, origin_port = split_host(authority)
        standard = {"http": "80", "https": "443"}
        same_port = not own_port or (origin_port or standard.get(origin_scheme)) == own_port
        if origin_scheme not in standard or origin_host != own_host or not same_port:
            raise Forbidden(
                f"a page of {origin[:100]!r} sent this request", hint="pages of other origins may not use this service"
            )


def _may_come_from(site: str, environ: Mapping[str, str]) -> bool:
    """Return whether a page of another origin may make a browser send this request. It may change nothing.

    A link may lead to a page. Data goes only to pages of the same site, such as those of another port.
    """
    if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
        return False
    is_page = not environ.get("PATH_INFO", "").startswith(("/api/", "/metrics"))
    return site == "same-site" or (is_page and environ.get("HTTP_SEC_FETCH_MODE") == "navigate")
