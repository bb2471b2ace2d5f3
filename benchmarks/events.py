"""A database of plausible events, of any size, the same for the same seed: orders, payments, sensor readings."""

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
"""A compaction writes a table every fraction of a second."""
_TYPES = ("order.placed", "order.shipped", "payment.received", "stock.counted", "sensor.read", "account.opened")
_WORDS = (
    "amber", "harbour", "invoice", "lantern", "meadow", "northern", "orchard", "parcel", "quarter", "river", "silver",
    "timber", "umbrella", "valley", "window", "yellow", "anchor", "bridge", "copper", "delta", "engine", "forest",
    "garden", "hollow", "island", "jacket", "kettle", "ladder", "marble", "needle",
)  # fmt: skip


def drafts(seed: int) -> Iterator[list[EventDraft]]:
    """Batches of events without end."""
    chance = random.Random(seed)
    while True:
        instant = clock.now()
        yield [event.draft(_event(chance), instant) for _ in range(_BATCH)]


def fill(database: Path, size: int, seed: int = 1) -> int:
    """Add events to the database (made where there is none) until its folder is about `size` bytes larger.

    All of it is in tables afterwards, as LevelDB leaves a database that was opened. Gives the number of events in it.
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
    open_leveldb(database).close()  # which turns the log into a table
    return last


def settle(database: Path) -> None:
    """Let LevelDB compact what waits for it, until the tables stay as they are: the database had a moment of rest."""
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
    """Bytes of its files, as far as they stay where they are."""
    total = 0
    for path in folder.iterdir():
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _event(chance: random.Random) -> dict[str, Any]:
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
