"""`gunicorn tests.quick_notifications_wsgi:app`: the service with the store of `tests.quick_notifications`."""

from __future__ import annotations

import sys

from app import factory

factory.COMMAND = [sys.executable, "-m", "tests.quick_notifications"]
app = factory.create_app()
