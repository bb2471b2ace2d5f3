"""How the processes of the service begin, the store and the dispatcher: with the settings that they were handed."""

from __future__ import annotations

import sys

from eventvault import environment, file_modes, logs
from eventvault.errors import InvalidSettings
from eventvault.regular_files import raise_limit
from eventvault.settings import SECRETS, Settings, load


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
