"""The application that the factory builds."""

from __future__ import annotations

import pytest
from flask import Flask, url_for
from werkzeug.routing import BuildError


def test_a_url_is_built_from_a_route_when_one_is_asked_for(app: Flask) -> None:
    event = next(rule.endpoint for rule in app.url_map.iter_rules() if rule.rule == "/api/events/<event_id:event_id>")
    with app.test_request_context():
        assert url_for(event, event_id="a b") == "/api/events/a%20b"
        assert url_for(event, event_id="a b", more="1") == "/api/events/a%20b?more=1"
        with pytest.raises(BuildError):
            url_for(event)
