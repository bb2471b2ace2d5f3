"""The addresses in NOTIFY_URLS and PING_URL: their form, and how they are shown without what is secret in them.

Nearly every part of such an address may be a secret: a password, a token in place of the host, the path of a webhook.
So a part is shown only where it is known to be none.
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
"""A shorter part of an address is in too many words to be hidden there."""


def is_address(text: str) -> bool:
    """Return whether a text has the form of an address; whether Apprise knows it is not asked."""
    found = _ADDRESS.fullmatch(text)
    return found is not None and any(found.groups()[1:])


def is_web_address(text: str) -> bool:
    """Return whether a text is an address of plain HTTP or HTTPS."""
    found = _ADDRESS.fullmatch(text)
    return found is not None and found[1].lower() in ("http", "https") and bool(_host_of(found))


def mask(address: str) -> str:
    """Return the address without its secrets, such as `mailto://…@example.org`, `json://example.org/…` or `ntfy://…`."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return HIDDEN
    scheme, host = found[1].lower(), _shown_host(found)
    if not host:
        return f"{scheme}://{HIDDEN}"
    user = f"{HIDDEN}@" if "@" in found[2] or scheme.startswith("mailto") else ""
    rest = f"/{HIDDEN}" if found[3].strip("/") or found[4] else ""
    return f"{scheme}://{user}{host}{'' if user else rest}"


def mask_all(addresses: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses without their secrets; those that look the same then have their place behind them."""
    masked = [mask(address) for address in addresses]
    return tuple(
        f"{text} ({place} of {len(masked)})" if masked.count(text) > 1 else text
        for place, text in enumerate(masked, start=1)
    )


def redact(text: str, address: str) -> str:
    """Return what somebody says of an address, without the parts of the address that `mask` hides.

    Apprise's own way of hiding shows the first and the last character of a password, so no address is left in the text.
    """
    text = _QUOTED.sub(rf"\1://{HIDDEN}", text)
    for secret in sorted(_secrets_of(address), key=len, reverse=True):
        text = re.sub(re.escape(secret), HIDDEN, text, flags=re.IGNORECASE)
    return text


def _secrets_of(address: str) -> Iterator[str]:
    found = _ADDRESS.fullmatch(address)
    shown = _shown_host(found) if found is not None else ""
    for part in re.split(r"[^\w%.~-]+", address.partition("://")[2]):
        for secret in {part, unquote(part)}:
            if len(secret) >= _SHORTEST_SECRET and secret not in shown:
                yield secret


def _shown_host(found: re.Match[str]) -> str:
    return _host_of(found) if found[1].lower() in _WITH_HOST else ""


def _host_of(found: re.Match[str]) -> str:
    """Return the host; empty if a password that holds `/` or `@` may have been taken for it."""
    host = found[2].rpartition("@")[2]
    return host if _HOST.fullmatch(host) and "@" not in found[3] else ""
