"""`python -m eventvault.doctor.database_head VIEW`: prints how many events a view of a database has, as JSON.

It is a separate program: a bad sector under a table that LevelDB maps into memory kills it, but not the caller.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import msgspec
import plyvel

from eventvault.damage import is_damage
from eventvault.database import keys
from eventvault.database.registry import EventRegistry, open_leveldb
from eventvault.errors import EventVaultError
from eventvault.system_errors import reason_of


class DatabaseHead(msgspec.Struct, frozen=True, kw_only=True):
    """foreign: another program wrote the database. problem: damage. unread: why the events could not be counted."""

    events: int | None = None
    generation: str | None = None
    last_recorded: int | None = None
    foreign: bool = False
    problem: str | None = None
    unread: str | None = None


def read_head(view: Path) -> DatabaseHead:
    """Open a view, and return its head. LevelDB writes to the view."""
    try:
        with closing(open_leveldb(view)) as db:
            if db.get(keys.META_STORE) is None or db.get(keys.META_SCHEMA) is None:
                return DatabaseHead(foreign=True)
            registry = EventRegistry(db, view)
            return DatabaseHead(
                events=registry.last_sequence, generation=registry.identity.generation,
                last_recorded=registry.last_recorded or None,
            )  # fmt: skip
    except EventVaultError as error:
        return DatabaseHead(problem=error.message)
    except (OSError, plyvel.Error) as error:
        reason = reason_of(error)
        return DatabaseHead(problem=reason) if is_damage(error) else DatabaseHead(unread=reason)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(read_head(Path(sys.argv[1]))))
