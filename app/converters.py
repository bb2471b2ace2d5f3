"""What stands in addresses besides fixed words: an event's id and a backup's name."""

from __future__ import annotations

from werkzeug.routing import BaseConverter


class EventIdConverter(BaseConverter):
    """Anything, slashes at its beginning, its end and in between included."""

    regex = ".+"
    weight = 300
    part_isolating = False


class BackupNameConverter(BaseConverter):
    """A file's name with a dot in it, as each archive's has, so that `GET /api/backup/create` is a 405 and no name."""

    regex = r"[^/]*\.[^/]*"
    weight = 150
