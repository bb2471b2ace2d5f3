"""A command that is run as root first becomes the owner of BACKUP_DIR, as the entry point of the container does.

`docker-compose exec app flask …` runs as root. The service could not write files that it made as root.
"""

from __future__ import annotations

import errno
import os

from eventvault.errors import InvalidSettings
from eventvault.files import temporary_folder
from eventvault.settings import Settings


def become_owner(settings: Settings) -> None:
    """Become the owner. Raises InvalidSettings if root may not. Root of a rootless container engine stays root."""
    if os.geteuid() != 0:
        return
    try:
        owner = settings.backup_dir.stat()
    except OSError:
        return
    if owner.st_uid == 0:
        return
    try:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    except OSError as error:
        if error.errno == errno.EINVAL:  # such a user does not exist in this user namespace
            return
        problem = f"this command runs as root and cannot become user {owner.st_uid}, the owner of BACKUP_DIR"
        hint = f"run it as that user: docker-compose exec --user {owner.st_uid}:{owner.st_gid} app flask …"
        raise InvalidSettings(problem, hint=hint, problems=[problem]) from error
    os.environ["HOME"] = str(temporary_folder())
