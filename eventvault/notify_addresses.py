"""The addresses in NOTIFY_URLS and PING_URL: their form, and how they are shown without what is secret in them.

Nearly every part of such an address may be a secret: a password, a token in place of the host, the path of a webhook.
So a part is shown only where it cannot be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

HIDDEN = "…"

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://([^/?#\s]*)([^?#\s]*)(\S*)")
"""Scheme, authority, path, and what follows."""
_QUOTED = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,31})://[^\s'\"<>]+")
"""An address in the text of an error."""
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")
_WITH_HOST = frozenset({"mailto", "mailtos", "json", "jsons", "xml", "xmls", "form", "forms", "http", "https"})
"""The schemes whose authority ends in the name of a host; with others it may be a token."""
_SHORTEST_SECRET = 4
"""A shorter part of an address is not hidden, because too many words contain it."""


def is_address(text: str) -> bool:
    """Return whether a text has the form of an address; Apprise may still not know it."""
    match = _ADDRESS.fullmatch(text)
    return match is not None and any(match.groups()[1:])


def is_web_address(text: str) -> bool:
    """Return whether a text is an address of plain HTTP or HTTPS."""
    match = _ADDRESS.fullmatch(text)
    return match is not None and match[1].lower() in ("http", "https") and bool(_host_of(match))


def mask(address: str) -> str:
    """Return the address without its secrets, such as `mailto://…@example.org`, `json://example.org/…` or `ntfy://…`."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return HIDDEN
    scheme, host = match[1].lower(), _shown_host(match)
    if not host:
        return f"{scheme}://{HIDDEN}"
    user = f"{HIDDEN}@" if "@" in match[2] or scheme.startswith("mailto") else ""
    rest = f"/{HIDDEN}" if match[3].strip("/") or match[4] else ""
    return f"{scheme}://{user}{host}{'' if user else rest}"


def mask_all(addresses: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses without their secrets; those that then look the same are numbered."""
    masked = [mask(address) for address in addresses]
    return tuple(
        f"{text} ({place} of {len(masked)})" if masked.count(text) > 1 else text
        for place, text in enumerate(masked, start=1)
    )


def redact(text: str, address: str) -> str:
    """Return a text about an address, such as an error, without the parts of the address that `mask` hides.

    Every address in the text is hidden, because Apprise itself shows the first and the last character of a password.
    """
    text = _QUOTED.sub(rf"\1://{HIDDEN}", text)
    for secret in sorted(_secrets_of(address), key=len, reverse=True):
        text = re.sub(re.escape(secret), HIDDEN, text, flags=re.IGNORECASE)
    return text


def _secrets_of(address: str) -> Iterator[str]:
    match = _ADDRESS.fullmatch(address)
    shown = _shown_host(match) if match is not None else ""
    for part in re.split(r"[^\w%.~-]+", address.partition("://")[2]):
        for secret in {part, unquote(part)}:
            if len(secret) >= _SHORTEST_SECRET and secret not in shown:
                yield secret


def _shown_host(address: re.Match[str]) -> str:
    return _host_of(address) if address[1].lower() in _WITH_HOST else ""


def _host_of(address: re.Match[str]) -> str:
    """Return the host; empty if it may be part of a password that holds `/` or `@`."""
    host = address[2].rpartition("@")[2]
    return host if _HOST.fullmatch(host) and "@" not in address[3] else ""
