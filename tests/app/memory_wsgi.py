"""The application on an in-memory store, for tests that need real gunicorn but no real store."""

from __future__ import annotations

from app import create_app
from eventvault.settings import load
from eventvault.store.memory import MemoryStore

settings = load()
settings.backup_dir.mkdir(parents=True, exist_ok=True)
app = create_app(settings, MemoryStore(settings.backup_dir))
