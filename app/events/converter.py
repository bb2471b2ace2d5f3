"""An event's id in a path: anything, slashes at its beginning, its end and in between included."""

from __future__ import annotations

from werkzeug.routing import BaseConverter


class EventIdConverter(BaseConverter):
    regex = ".+"
    weight = 300
    part_isolating = False
