"""Which installation this is: told apart from another's by an id that lies beside the archives and the database.

It is how a lost database is known from a new installation, and our archives from those that were copied in.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from eventvault.files import make_folder, write_durably
from eventvault.settings import Settings

NAME = ".installation"


def installation_of(settings: Settings) -> str:
    """The id, made at the first call. The one in BACKUP_DIR counts, STORAGE_DIR holds a second copy."""
    places = [settings.backup_dir / NAME, settings.storage_dir / NAME]
    known = next((text for place in places if (text := _read(place))), None)
    identity = known or secrets.token_hex(8)
    for place in places:
        if _read(place) != identity:
            make_folder(place.parent)
            write_durably(place, identity.encode())
    return identity


def _read(place: Path) -> str | None:
    try:
        return place.read_text().strip() or None
    except (FileNotFoundError, UnicodeDecodeError):
        return None
