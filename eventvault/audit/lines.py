"""The lines of the audit, and the entries that become lines in the chain."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from eventvault import clock, token_text
from eventvault.printable import encodable, printable

BEGUN, ENDED, NOTED = "begun", "ended", "noted"
"""`state`: a deed is about to begin, has ended, or took no time."""
DONE, FAILED, CANCELLED, INTERRUPTED = "done", "failed", "cancelled", "interrupted"
"""`result` of a deed that has ended."""

NOTHING = "0" * 64
"""`previous` of the first line."""
MAX_BYTES = 32 * 1024
"""An entry with more is written without its details."""
MAX_TEXT = 300

AUDIT = "audit"
"""`action` of a line about the audit itself."""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is noted of a deed. at: RFC 3339. operation: joins the two entries of a deed. result: after its end.

    who: the name of a token, or `open`, `shell`, `schedule`, `start`. target: what the deed is about.
    """

    at: str
    operation: str
    state: str
    action: str
    who: str
    target: str | None = None
    result: str | None = None
    details: dict[str, Any] = {}

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Tells an entry from all others."""
        return self.at, self.operation, self.state, self.action


class AuditLine(AuditEntry, frozen=True, kw_only=True, omit_defaults=True):
    """An entry with its place in the chain. previous: the SHA-256 of the line before, with its line feed."""

    line: int
    previous: str


def entry_now(**members: Any) -> AuditEntry:
    """Return an entry of this moment. Its texts are printable and bounded, and tokens in them are masked."""
    texts = {name: _text(value) for name, value in members.items() if isinstance(value, str)}
    entry = AuditEntry(**{"at": clock.format_microseconds(clock.now()), **members, **texts})
    details = encodable(entry.details)
    try:
        encoded = msgspec.json.encode(details)
        size, details = len(encoded), msgspec.json.decode(token_text.mask_tokens(encoded.decode()))
    except (TypeError, ValueError, msgspec.MsgspecError):
        details, size = {"omitted": True}, 0
    return msgspec.structs.replace(entry, details=details if size <= MAX_BYTES else {"omittedBytes": size})


def encode_line(entry: AuditEntry, number: int, previous: str) -> bytes:
    members = msgspec.to_builtins(entry)
    return msgspec.json.encode({"line": number, **members, "previous": previous}) + b"\n"


def decode_line(raw: bytes) -> AuditLine | None:
    """Return the line; None if the bytes are not one."""
    if not raw.endswith(b"\n"):
        return None
    try:
        return msgspec.json.decode(raw, type=AuditLine)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None


def digest_of(raw: bytes) -> str:
    """Return the digest of a line with its line feed, as `sed -n 12p FILE | sha256sum` prints it."""
    return hashlib.sha256(raw).hexdigest()


def _text(text: str) -> str:
    return printable(token_text.mask_tokens(str(encodable(text))))[:MAX_TEXT]
