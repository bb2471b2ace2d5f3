"""The address and scheme of a client behind trusted proxies. Only trusted proxies are believed.

A proxy appends the address that it saw to `X-Forwarded-For`. So the header is read from its end: the first address that
is not a trusted proxy's is the client's, and the client may have written everything before it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

UNIX = "unix"
"""Stands for every peer at a Unix socket, which has no address."""
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}", re.ASCII)


class Client(NamedTuple):
    """address: empty at a Unix socket. scheme: `http` or `https`."""

    address: str
    scheme: str


class TrustedProxies:
    """names: addresses, networks such as `10.0.0.0/8`, and UNIX. Raises ValueError for any other text."""

    def __init__(self, names: Iterable[str]) -> None:
        names = list(names)
        self._networks = [ipaddress.ip_network(name) for name in names if name != UNIX]
        self._unix = UNIX in names
        self._trusts = lru_cache(maxsize=256)(self._is_trusted)

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def client(self, peer: str, forwarded_for: str, forwarded_scheme: str) -> Client:
        """Return who sent a request.

        peer: the address at the other end of the connection. forwarded_for, forwarded_scheme: `X-Forwarded-For` and
        `X-Forwarded-Proto`, empty if there is none. In place of a malformed address, it returns the proxy that sent it.
        """
        if not self._trusts(peer):
            return Client(peer, "http")
        return Client(self._nearest_client(peer, forwarded_for), _scheme(forwarded_scheme))

    def _nearest_client(self, peer: str, forwarded_for: str) -> str:
        nearest = peer
        for text in reversed(forwarded_for.split(",")):
            address = parse_address(text)
            if address is None:
                break
            nearest = str(address)
            if not self._trusts(nearest):
                break
        return nearest

    def _is_trusted(self, peer: str) -> bool:
        address = parse_address(peer)
        if address is None:
            return self._unix and not peer
        return any(address in network for network in self._networks)


def parse_address(text: str) -> Address | None:
    """Return an address without its port and zone; the IPv4 address of a mapped one; None for anything else."""
    text = text.strip()
    with_port = _WITH_PORT.fullmatch(text)
    if with_port is not None:
        text = with_port[1] or with_port[2]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _scheme(forwarded: str) -> str:
    """Return the scheme that the nearest proxy wrote: each proxy appends to the header or replaces it."""
    return "https" if forwarded.rpartition(",")[2].strip().lower() == "https" else "http"
