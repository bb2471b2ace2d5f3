"""The scopes of tokens: what each of them may, and their text, in which several are joined by `+`."""

from __future__ import annotations

READ, WRITE, BACKUP, METRICS, ADMIN = "read", "write", "backup", "metrics", "admin"
SCOPES = (READ, WRITE, BACKUP, METRICS, ADMIN)

_INCLUDED = {
    READ: {READ, METRICS},
    WRITE: {WRITE, READ, METRICS},
    BACKUP: {BACKUP},
    METRICS: {METRICS},
    ADMIN: set(SCOPES),
}
MEANINGS = {
    READ: "read everything",
    WRITE: "read everything and post events",
    BACKUP: "create, verify, rehearse, list, download and pin backups",
    METRICS: "read /metrics",
    ADMIN: "do everything",
}
"""Scope → what a token with it may, after "may"."""


def parse(text: str) -> frozenset[str]:
    """Return the scopes of a text such as `read+backup`. Raises ValueError for others."""
    words = frozenset(word.strip().lower() for word in text.split("+"))
    if not words <= _INCLUDED.keys():
        raise ValueError(text)
    return words


def text_of(scopes: frozenset[str]) -> str:
    """Return the scopes as `parse` reads them, the lesser ones first."""
    return "+".join(scope for scope in SCOPES if scope in scopes)


def included_in(scopes: frozenset[str]) -> frozenset[str]:
    """Return these scopes and all that they include."""
    return frozenset().union(*(_INCLUDED[scope] for scope in scopes))
