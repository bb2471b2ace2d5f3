"""Streams of a server that has no writer, such as `flask run` and the test client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from app.edge import MAX_STREAMS, current_edge
from app.streams import writer


@pytest.mark.slow
def test_a_stream_is_sent_from_the_thread_of_its_request(web: FlaskClient) -> None:
    web.post("/api/events", json={"type": "a", "id": "first"})
    answer = web.get("/api/events/stream?after=0&type=a", buffered=False)
    pieces = answer.iter_encoded()
    assert next(pieces).startswith(b"retry: ")
    assert b'"first"' in next(pieces)
    web.post("/api/events", json={"type": "b"})
    web.post("/api/events", json={"type": "a", "id": "second"})
    assert b'"second"' in next(pieces)
    answer.close()


@pytest.mark.slow
def test_such_a_stream_sends_comments_and_ends_after_its_time(
    web: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "COMMENT_SECONDS", 0.05)
    monkeypatch.setattr(writer, "STREAM_SECONDS", 2.0)
    assert b"\n: still here\n" in web.get("/api/events/stream").get_data()


def not_begun(app: Flask, environ: dict[str, Any]) -> None:
    def refuse(*_: Any) -> Any:
        raise ValueError("this server sends no such header")

    with pytest.raises(ValueError, match="no such header"):
        app.wsgi_app(environ, refuse)


def broken_off(app: Flask, environ: dict[str, Any]) -> None:
    body = app.wsgi_app(environ, lambda *_: None)  # type: ignore[arg-type, return-value]
    next(iter(body))
    body.close()  # type: ignore[attr-defined]


def of_head(app: Flask, environ: dict[str, Any]) -> None:
    environ["REQUEST_METHOD"] = "HEAD"
    body = app.wsgi_app(environ, lambda *_: None)  # type: ignore[arg-type, return-value]
    assert b"".join(body) == b""
    body.close()  # type: ignore[attr-defined]


def invalid(app: Flask, environ: dict[str, Any]) -> None:
    environ["HTTP_LAST_EVENT_ID"] = "x"
    broken_off(app, environ)


@pytest.mark.parametrize("end", [not_begun, broken_off, of_head, invalid])
def test_a_place_is_free_however_its_stream_ends(app: Flask, end: Callable[[Flask, dict[str, Any]], None]) -> None:
    for _ in range(3):
        end(app, EnvironBuilder(path="/api/events/stream").get_environ())

    with app.app_context():
        for release in [current_edge().streams.take() for _ in range(MAX_STREAMS)]:
            release()


def test_streams_beyond_the_places_are_refused(app: Flask, web: FlaskClient) -> None:
    with app.app_context():
        releases = [current_edge().streams.take() for _ in range(MAX_STREAMS)]
    answer = web.get("/api/events/stream")
    assert (answer.status_code, answer.json["code"], answer.headers["Retry-After"]) == (503, "too_busy", "5")
    for release in releases:
        release()
