"""`gunicorn tests.held_chores_wsgi:app`: the service with the store of `tests.held_chores`."""

from __future__ import annotations

import sys

from app import factory

factory.COMMAND = [sys.executable, "-m", "tests.held_chores", "app.store"]
app = factory.create_app()
