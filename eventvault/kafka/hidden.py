"""Hides secrets in the texts of librdkafka, because any of them may contain a secret.

Every secret that this process has read is remembered, even after its file has a new one.
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
"""Names of properties that hold secrets, including those that later versions may add."""
_SHORTEST = 4
"""A shorter secret is not hidden, because it is part of too many words."""
_MOST = 100
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]*@")
"""User and password in an address."""

_lock = threading.Lock()
_secrets: dict[str, None] = {}
"""A set of secrets, in the order in which they were last read."""


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
        longest_first = sorted(_secrets, key=len, reverse=True)
    for secret in longest_first:
        text = text.replace(secret, HIDDEN)
    return _IN_ADDRESS.sub(f"{HIDDEN}@", text)
