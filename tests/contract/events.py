"""Events for the contract tests."""

from __future__ import annotations

import secrets
from typing import Any

import orjson

from eventvault import clock
from eventvault.database.values import ScanQuery
from eventvault.events import event
from eventvault.events.event import EventDraft
from eventvault.store.ports.store import Store


def drafts(*ids: str, **attributes: Any) -> list[EventDraft]:
    return [event.draft({"type": "t", "id": name, **attributes}, clock.now()) for name in ids]


def ids(store: Store, query: ScanQuery | None = None) -> list[str]:
    return [orjson.loads(value)["id"] for value in store.scan(query or ScanQuery(limit=1000)).events]


def unique(name: str) -> str:
    """A name that no other test has in a store that they share."""
    return f"{name}-{secrets.token_hex(4)}"
