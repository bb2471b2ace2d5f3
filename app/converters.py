"""URL converters for the variable parts of a path: an event's or a job's id, a backup's name, and a topic's."""

from __future__ import annotations

from werkzeug.routing import BaseConverter


class EventIdConverter(BaseConverter):
    """Matches any text, including slashes at the start, at the end and in between."""

    regex = ".+"
    weight = 300
    part_isolating = False


class JobIdConverter(EventIdConverter):
    """As an event's id, but for the words that stand for a change: `GET /api/jobs/cancel` is a 405, not an id."""

    regex = r"(?!(?:cancel|retry|pause|resume)\Z).+"
    part_isolating = False


class BackupNameConverter(BaseConverter):
    """Matches a file name with a dot, as every archive has one. So `GET /api/backup/create` is a 405, not a name."""

    regex = r"[^/]*\.[^/]*"
    weight = 150


class TopicConverter(BaseConverter):
    """Matches a name that a Kafka topic may have."""

    regex = "[a-zA-Z0-9._-]{1,249}"
