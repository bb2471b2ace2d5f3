"""The routes of the dashboard: the page, and its files."""

from __future__ import annotations

from functools import cache

from flask import Blueprint, Response, abort, request

from app.replies import takes_gzip
from app.ui import files
from app.ui.files import Dashboard, StaticFile

blueprint = Blueprint("ui", __name__)

_STORE_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_EACH_TIME = "no-cache"
_COLOURS = "eventvault-theme"
"""The cookie that `preferences.js` sets."""


@cache
def dashboard() -> Dashboard:
    return files.load()


@blueprint.get("/")
def page() -> Response:
    """Answer with the page. It is small and names the version of the files, so the browser asks for it each time."""
    pages = dashboard().pages
    answer = _answer(pages.get(request.cookies.get(_COLOURS, ""), pages["system"]), _ASK_EACH_TIME)
    answer.headers["Vary"] = "Accept-Encoding, Cookie"
    return answer


@blueprint.get("/ui/<version>/<path:name>")
def file(version: str, name: str) -> Response:
    current = dashboard()
    static = current.files.get(name)
    if version != current.version or static is None:
        abort(404)
    return _answer(static, _STORE_FOR_EVER)


def _answer(static: StaticFile, caching: str) -> Response:
    packed = takes_gzip()
    answer = Response(static.compressed if packed else static.content, content_type=static.content_type)
    if packed:
        answer.headers["Content-Encoding"] = "gzip"
    answer.headers["Vary"] = "Accept-Encoding"
    answer.headers["Cache-Control"] = caching
    answer.set_etag(f"{static.tag}{'-gzip' if packed else ''}")
    answer.make_conditional(request)
    return answer
