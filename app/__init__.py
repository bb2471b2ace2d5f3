"""The HTTP edge: one blueprint a folder, marshmallow schemas, the error table. Parses, calls the core, serialises.

It never opens the event database: all it knows of it is `eventvault.store.interface.Store`. Rules about events,
backups and restores live in the core, never here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from eventvault.settings import Settings
    from eventvault.store.interface import Store


def create_app(settings: Settings | None = None, store: Store | None = None) -> Flask:
    """The application; see `app.factory.create_app`."""
    # Imported here: gunicorn's master imports this package for `app.serving`, and must not load what workers are to
    # load after the fork, prometheus-client among it, which decides at its import how it counts.
    from app import factory

    return factory.create_app(settings, store)
