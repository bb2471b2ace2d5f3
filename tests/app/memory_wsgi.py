"""The application on an in-memory store, for tests that need real gunicorn but no real store."""

from __future__ import annotations

import os
import time
from pathlib import Path

from app import client_socket, create_app, gunicorn_worker
from app.streams import writer
from eventvault.backups.entry import Created
from eventvault.settings import load
from eventvault.store.memory.store import MemoryStore


class HeldStore(MemoryStore):
    """A store whose backups end once the file that HOLD_BACKUPS names is removed."""

    def create_backup(self, label: str | None = None) -> Created:
        held = os.environ.get("HOLD_BACKUPS")
        while held and Path(held).exists():
            time.sleep(0.01)
        return super().create_backup(label)


def divide_deadlines(divisor: float) -> None:
    """Shorten the deadlines of slow clients, so that a test need not wait for them."""
    for module in (client_socket, gunicorn_worker, writer):
        for name in ("HEAD_SECONDS", "BODY_GRACE_SECONDS", "MAX_SILENCE_SECONDS", "TAKE_SECONDS", "COMMENT_SECONDS"):
            if hasattr(module, name):
                setattr(module, name, getattr(module, name) / divisor)


divide_deadlines(float(os.environ.get("DIVIDE_DEADLINES", "1")))
settings = load()
settings.backup_dir.mkdir(parents=True, exist_ok=True)
app = create_app(settings, HeldStore(settings.backup_dir))
