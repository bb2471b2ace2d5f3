"""A process that consumes into a real LevelDB until it is killed: `consume_into_leveldb.py <folder>`.

Takes a byte from its standard input before each batch, until that ends. Prints the last sequence after each batch that
is on disk; something else where a message came a second time.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from eventvault import settings
from eventvault.database import keys
from eventvault.database.registry import AppendBatch, EventRegistry, create_database, open_leveldb
from eventvault.database.values import AppendResult
from eventvault.events.event import EventDraft
from eventvault.kafka import consumer, consuming
from eventvault.kafka.monitor import KafkaMonitor
from eventvault.kafka.quarantine_format import DeadLetter

consuming.BATCH_MESSAGES = 100


def main(folder: Path) -> None:
    if not folder.is_dir():
        create_database(folder)
    registry = EventRegistry(open_leveldb(folder), folder)

    def sink(
        drafts: Sequence[EventDraft], notes: Sequence[tuple[bytes, bytes]], _: Sequence[DeadLetter]
    ) -> AppendResult:
        os.read(sys.stdin.fileno(), 1)
        (results,) = registry.append([AppendBatch(drafts, os.urandom(8), notes)])
        doubled = sum(result.duplicate for result in results)
        print(f"{doubled} read again" if doubled else registry.last_sequence, flush=True)
        return AppendResult(results, registry.last_sequence)

    loaded = settings.load()
    consumer.EventsConsumer(
        loaded, begin=lambda: sink, load=lambda: registry.scan_meta(keys.KAFKA), monitor=KafkaMonitor(loaded)
    ).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
