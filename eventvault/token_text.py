"""The text of a token: `ev_<id>_<secret>`, whose last characters are a checksum, and the form in settings.

The prefix and the checksum let secret scanners find leaked tokens, and tell a typing error from an unknown token.
Settings and files have only the SHA-256 of a token.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from typing import NamedTuple

from eventvault import scopes

PREFIX = "ev_"
ID_LENGTH = 8
SECRET_LENGTH = 32
"""62**32 is above 2**190."""
CHECKSUM_LENGTH = 6
"""62**6 is above 2**32, the number of CRC-32 values."""

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_FORM = rf"{PREFIX}([0-9A-Za-z]{{{ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}"
_TOKEN = re.compile(_FORM)
_INSIDE = re.compile(rf"(?<![0-9A-Za-z]){_FORM}(?![0-9A-Za-z])")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SETTING = re.compile(rf"({_NAME.pattern}):([a-z+]+):sha256=([0-9A-Fa-f]{{64}})")
RESERVED = frozenset({"open", "shell", "schedule", "start", "nobody", "api_tokens"})
"""Who acts without a token, so no token has such a name."""
NAME_ALLOWED = "1 to 64 letters, digits, '.', '_' and '-', not open, shell, schedule, start or nobody"
SETTING_ALLOWED = (
    "name:scope:sha256=<hex>, several separated by commas; a scope is one of "
    f"{', '.join(scopes.SCOPES)}, or several joined by '+'"
)


class ConfiguredToken(NamedTuple):
    """A token of API_TOKENS or API_TOKENS_FILE. digest: the SHA-256 of its text."""

    name: str
    scopes: frozenset[str]
    digest: bytes

    @property
    def id(self) -> str:
        return id_of_digest(self.digest)


def new_token() -> str:
    """Return a new token."""
    body = f"{PREFIX}{_random(ID_LENGTH)}_{_random(SECRET_LENGTH)}"
    return body + _checksum(body)


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def id_of_digest(digest: bytes) -> str:
    """Return the id of a token of the settings, whose text may have any form."""
    return _base62(int.from_bytes(digest[:8], "big"), ID_LENGTH)


def id_of(token: str) -> str | None:
    """Return the id in a text that has the form of a token, whether its checksum is right or not; else None."""
    match = _TOKEN.fullmatch(token)
    return None if match is None else match[1]


def is_whole(token: str) -> bool:
    """Return whether a text is a token as `new_token` makes it, known here or not."""
    return _TOKEN.fullmatch(token) is not None and token.endswith(_checksum(token[:-CHECKSUM_LENGTH]))


def holds_token(text: str) -> bool:
    """Return whether a token is somewhere in a text."""
    return any(is_whole(match[0]) for match in _INSIDE.finditer(text))


def mask_tokens(text: str) -> str:
    """Return a text without what looks like a token, for a log."""
    return _INSIDE.sub(f"{PREFIX}…", text)


def is_name(name: str) -> bool:
    """Return whether a token may have this name. A token may not: names are in files, logs and answers."""
    return _NAME.fullmatch(name) is not None and name.lower() not in RESERVED and not holds_token(name)


def parse_setting(text: str) -> tuple[ConfiguredToken, ...]:
    """Return the tokens of a text as API_TOKENS has it. Raises ValueError, whose argument is the number of the entry.

    Entries are separated by commas or white space; in a file, a line that begins with `#` is a comment.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    entries = re.split(r"[,\s]+", "\n".join(lines).strip())
    return tuple(_parse_entry(entry, number) for number, entry in enumerate(filter(None, entries), start=1))


def _parse_entry(entry: str, number: int) -> ConfiguredToken:
    match = _SETTING.fullmatch(entry)
    if match is None or not is_name(match[1]):
        raise ValueError(number)
    try:
        granted = scopes.parse(match[2])
    except ValueError:
        raise ValueError(number) from None
    return ConfiguredToken(match[1], granted, bytes.fromhex(match[3]))


def _random(length: int) -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(length))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    """Return the last digits of a number in base 62."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
