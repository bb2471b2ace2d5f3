"""How the store and the dispatcher begin: with the settings that their parent process handed over."""

from __future__ import annotations

import gc
import sys

from eventvault import environment, file_modes, logs
from eventvault.errors import InvalidSettings
from eventvault.regular_files import raise_limit
from eventvault.settings import SECRETS, Settings, load

COLLECT_AFTER = 5_000
"""How many new objects that may refer to others start a collection. A batch from Kafka has 4,000."""


def settings_of_process() -> Settings | None:
    """Return the settings, once files, logs and descriptors follow them; None if they are invalid, which is printed."""
    environment.receive()
    environment.hide(SECRETS)
    try:
        settings = load()
    except InvalidSettings as error:
        print(f"{error}\nHINT: {error.hint}", file=sys.stderr)
        return None
    file_modes.restrict_new_files(settings)
    logs.setup(settings)
    raise_limit()
    return settings


def collect_seldom() -> None:
    """Keep Python's garbage collector from stopping all threads for long. Call this once everything is loaded.

    A full collection examines everything that was ever loaded, which takes 30 ms and frees nothing; from now on it
    skips that. Batches of events have no cycles, but by default two collections run while one batch is read. Other
    cycles are still collected. This does not collect, because a start must be quick.
    """
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *older)
