"""The HTTP edge: one blueprint per folder, marshmallow schemas, one table of error statuses (`errors.py`).

It parses requests, calls the core and serialises answers. It opens no event database and never imports `worker`; rules
about events, backups and restores belong into the core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from eventvault.jobs.port import Jobs
    from eventvault.settings import Settings
    from eventvault.store.ports.store import Store


def create_app(
    settings: Settings | None = None,
    store: Store | None = None,
    *,
    jobs: Jobs | None = None,
    shared_seconds: float | None = None,
) -> Flask:
    """Return the application; see `app.factory.create_app`."""
    # Imported here because gunicorn's master imports this package for `app.serving`. Workers must load the rest after
    # the fork: prometheus-client decides at import how it counts.
    from app import factory

    return factory.create_app(settings, store, jobs=jobs, shared_seconds=shared_seconds)
