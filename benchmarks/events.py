"""Generates databases of plausible events (orders, payments, sensor readings), equal for equal seeds."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eventvault import clock
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.events import event
from eventvault.events.event import EventDraft

_BATCH = 1000
_CALM_SECONDS = 3.0
"""Without a new table for this time, the compaction has ended: it writes several per second."""
_TYPES = ("order.placed", "order.shipped", "payment.received", "stock.counted", "sensor.read", "account.opened")
_WORDS = (
    "amber", "harbour", "invoice", "lantern", "meadow", "northern", "orchard", "parcel", "quarter", "river", "silver",
    "timber", "umbrella", "valley", "window", "yellow", "anchor", "bridge", "copper", "delta", "engine", "forest",
    "garden", "hollow", "island", "jacket", "kettle", "ladder", "marble", "needle",
)  # fmt: skip


def drafts(seed: int) -> Iterator[list[EventDraft]]:
    """Yield batches of events endlessly."""
    chance = random.Random(seed)
    while True:
        instant = clock.now()
        yield [event.draft(event_attributes(chance), instant) for _ in range(_BATCH)]


def fill(database: Path, size: int, seed: int = 1) -> int:
    """Add events to the database until its folder is about `size` bytes larger; return the number of its events.

    A missing database is created. Afterwards all events are in tables, as LevelDB leaves a reopened database.
    """
    if not database.exists():
        create_database(database)
    db = open_leveldb(database)
    try:
        registry = EventRegistry(db, database)
        target, batches, nonce = folder_size(database) + size, drafts(seed), 0
        while folder_size(database) < target:
            for _ in range(5):
                nonce += 1
                registry.append([AppendBatch(next(batches), seed.to_bytes(2, "big") + nonce.to_bytes(6, "big"))])
        last = registry.last_sequence
    finally:
        db.close()
    open_leveldb(database).close()  # opening turns the log into a table
    return last


def settle(database: Path) -> None:
    """Let LevelDB finish its compactions: wait until the tables do not change for _CALM_SECONDS."""
    db = open_leveldb(database)
    try:
        seen, since = _tables(database), time.monotonic()
        while time.monotonic() - since < _CALM_SECONDS:
            time.sleep(0.1)
            if (now := _tables(database)) != seen:
                seen, since = now, time.monotonic()
    finally:
        db.close()


def _tables(database: Path) -> set[str]:
    return {path.name for path in database.glob("*.ldb")}


def folder_size(folder: Path) -> int:
    """Return the size of its files in bytes, without those that vanish meanwhile."""
    total = 0
    for path in folder.iterdir():
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def event_attributes(chance: random.Random) -> dict[str, Any]:
    kind = chance.choice(_TYPES)
    return {
        "type": f"com.example.{kind}",
        "source": f"/shops/{chance.randrange(40)}",
        "subject": f"customer-{chance.randrange(200_000)}",
        "data": {
            "reference": f"{chance.getrandbits(64):016x}",
            "amount": {"value": chance.randrange(100_000) / 100, "currency": chance.choice(("EUR", "USD", "CHF"))},
            "items": [
                {"sku": f"{chance.choice(_WORDS)}-{chance.randrange(9999):04}", "quantity": chance.randrange(1, 9)}
                for _ in range(chance.randrange(1, 4))
            ],
            "note": " ".join(chance.choices(_WORDS, k=chance.randrange(6, 20))),
            "signature": f"{chance.getrandbits(128):032x}",
        },
    }
