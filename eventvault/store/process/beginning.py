"""How the processes of the service begin, the store and the dispatcher: with the settings that they were handed."""

from __future__ import annotations

import gc
import sys

from eventvault import environment, file_modes, logs
from eventvault.errors import InvalidSettings
from eventvault.regular_files import raise_limit
from eventvault.settings import SECRETS, Settings, load

COLLECT_AFTER = 5_000
"""Objects that may refer to others, made since the last collection and not freed. A batch from Kafka has 4,000."""


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
    """Keep Python's garbage collector from stopping all threads for long. Call it once everything is loaded.

    A full collection goes through all that was ever loaded, which takes 30 ms and frees nothing: so it passes over that
    from now on. Batches of events have no cycles, but by default two collections take place while one is read. Other
    cycles are still collected. None takes place here, as a start must be quick.
    """
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *older)
