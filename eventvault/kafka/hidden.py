"""Hides secrets in what a client of librdkafka writes: which text that will be is not foreseen.

What this process has read as a secret of Kafka is remembered, also after the file has another one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping

HIDDEN = "…"
_SECRET = re.compile(
    r".*(password|passphrase|secret|pem|credentials|private|\btoken(?!\.endpoint)).*"
    r"|sasl\.oauthbearer\.(config|extensions)"
)
"""The properties that hold secrets, among them those that later versions may add."""
_SHORTEST = 4
"""A shorter text is in too many words to be hidden there."""
_MOST = 100
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]*@")
"""User and password in an address."""

_lock = threading.Lock()
_secrets: dict[str, None] = {}
"""In the order of their last use."""


def is_secret(name: str) -> bool:
    """Return whether the property of this name holds a secret."""
    return _SECRET.fullmatch(name) is not None and not name.endswith(".location")


def remember(properties: Mapping[str, str]) -> None:
    """Remember the secrets among these properties."""
    with _lock:
        for name, value in properties.items():
            if is_secret(name) and len(value) >= _SHORTEST:
                _secrets.pop(value, None)
                _secrets[value] = None
        while len(_secrets) > _MOST:
            _secrets.pop(next(iter(_secrets)))


def hide(text: str) -> str:
    """Return the text without the secrets."""
    with _lock:
        present = sorted(_secrets, key=len, reverse=True)
    for secret in present:
        text = text.replace(secret, HIDDEN)
    return _IN_ADDRESS.sub(f"{HIDDEN}@", text)
