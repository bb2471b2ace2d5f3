"""The few places of long requests are free again however a request ends, and every name fits into a header."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.http import parse_options_header
from werkzeug.test import EnvironBuilder

from app.backup import download
from app.edge import MAX_TRANSFERS, current_edge
from app.request_end import RequestEnd, at_request_end
from app.streaming import attachment

NAMES = [
    "b\U0001f600.tar.gz",
    "Gro\u0308sse.tar.gz",
    "бэкап.tar.gz",
    "備份.tar.gz",
    "narrow\u202fspace.tar.gz",
    'a "quoted" name.tar.gz',
    "100%41.tar.gz",
    "semi;colon=.tar.gz",
    "\U0001f600.tar.gz",
    "plain-name_1.tar.gz",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_download_has_the_archives_name_in_a_header_that_every_server_sends(
    web: FlaskClient, archive: bytes, name: str
) -> None:
    assert web.post(f"/api/backup/upload?name={quote(name)}", data=archive).status_code == 201

    answer = web.get(f"/api/backup/{quote(name)}/download")

    assert answer.status_code == 200
    sent = answer.headers["Content-Disposition"]
    assert sent.isascii()
    assert parse_options_header(sent)[1]["filename"] == name


@pytest.mark.parametrize("name", NAMES)
def test_a_client_without_rfc_8187_gets_a_plain_name(name: str) -> None:
    plain = parse_options_header(attachment(name).partition("; filename*=")[0])[1]["filename"]
    assert plain.isascii()
    assert plain.endswith(".tar.gz")
    assert not plain.startswith(".")


def refuse_headers(*_: Any) -> Any:
    raise ValueError("this server sends no such header")


def accept_headers(*_: Any) -> Any:
    return None


def not_begun(app: Flask, environ: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no such header"):
        app.wsgi_app(environ, refuse_headers)


def closed_unread(app: Flask, environ: dict[str, Any]) -> None:
    close(app.wsgi_app(environ, accept_headers))


def broken_off(app: Flask, environ: dict[str, Any]) -> None:
    body = app.wsgi_app(environ, accept_headers)
    next(iter(body))
    close(body)


def failed_after_the_view(app: Flask, environ: dict[str, Any]) -> None:
    app.after_request_funcs[None] = [refuse_headers]
    try:
        close(app.wsgi_app(environ, accept_headers))
    finally:
        app.after_request_funcs[None] = []


def close(body: Iterable[bytes]) -> None:
    getattr(body, "close", lambda: None)()


@pytest.mark.parametrize("end", [not_begun, closed_unread, broken_off, failed_after_the_view])
@pytest.mark.parametrize("path", ["/api/backup/{}/download", "/api/events/export"])
def test_a_place_is_free_however_its_request_ends(
    app: Flask, backup: str, path: str, end: Callable[[Flask, dict[str, Any]], None]
) -> None:
    for _ in range(MAX_TRANSFERS + 1):
        end(app, EnvironBuilder(path=path.format(backup)).get_environ())

    with app.app_context():
        for release in [current_edge().transfers.acquire() for _ in range(MAX_TRANSFERS)]:
            release()


def test_a_download_that_cannot_begin_leaves_its_archive_unlocked(app: Flask, web: FlaskClient, backup: str) -> None:
    not_begun(app, EnvironBuilder(path=f"/api/backup/{backup}/download").get_environ())

    assert web.delete(f"/api/backup/{backup}?force=true").status_code == 200


@pytest.mark.parametrize("number", [errno.EACCES, errno.ELOOP, errno.EIO])
def test_an_archive_that_cannot_be_opened_is_told_so_and_takes_no_place_for_good(
    web: FlaskClient, backup: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(download, "shared_lock", refused)
        for _ in range(MAX_TRANSFERS + 1):
            answer = web.get(f"/api/backup/{backup}/download")
            assert (answer.status_code, answer.json["code"]) == (503, "archive_unreadable")
            assert os.strerror(number) in answer.json["error"]
    assert web.get(f"/api/backup/{backup}/download").status_code == 200


def test_an_error_in_one_release_keeps_no_other_from_being_called(app: Flask) -> None:
    called: list[int] = []

    def inner(environ: dict[str, Any], _: Callable[..., Any]) -> list[bytes]:
        with app.request_context(environ):
            at_request_end(lambda: called.append(1))
            at_request_end(refuse_headers)
            at_request_end(lambda: called.append(3))
        return [b"x"]

    body = RequestEnd(inner)(EnvironBuilder().get_environ(), accept_headers)
    assert list(body) == [b"x"]
    with pytest.raises(ValueError, match="no such header"):
        close(body)
    assert called == [3, 1]
