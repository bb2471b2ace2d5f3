"""The routes of the dashboard: the page, and its files."""

from __future__ import annotations

from functools import cache

from flask import Blueprint, Response, abort, request

from app.replies import takes_gzip
from app.ui import files
from app.ui.files import Dashboard, StaticFile

blueprint = Blueprint("ui", __name__)

_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_EACH_TIME = "no-cache"
_COLOURS = "eventvault-theme"
"""The cookie that `preferences.js` sets."""


@cache
def dashboard() -> Dashboard:
    return files.load()


@blueprint.get("/")
def page() -> Response:
    """The page is small and says which version of the files it needs, so the browser asks for it each time."""
    pages = dashboard().pages
    answer = _answer(pages.get(request.cookies.get(_COLOURS, ""), pages["system"]), _ASK_EACH_TIME)
    answer.headers["Vary"] = "Accept-Encoding, Cookie"
    return answer


@blueprint.get("/ui/<version>/<path:name>")
def file(version: str, name: str) -> Response:
    present = dashboard()
    found = present.files.get(name)
    if version != present.version or found is None:
        abort(404)
    return _answer(found, _FOR_EVER)


def _answer(found: StaticFile, caching: str) -> Response:
    packed = takes_gzip()
    answer = Response(found.compressed if packed else found.content, content_type=found.content_type)
    if packed:
        answer.headers["Content-Encoding"] = "gzip"
    answer.headers["Vary"] = "Accept-Encoding"
    answer.headers["Cache-Control"] = caching
    answer.set_etag(f"{found.tag}{'-gzip' if packed else ''}")
    answer.make_conditional(request)
    return answer
