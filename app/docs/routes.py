"""The routes below `/docs/`: the documents as pages, their search, and the API reference."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import orjson
from flask import Blueprint, Response, abort, render_template, request

from app.docs import site
from app.docs.site import Site
from app.replies import Body, body_reply
from eventvault.settings import PROJECT

blueprint = Blueprint(
    "docs", __name__, static_folder="static", static_url_path="/docs/static", template_folder="templates"
)

_API = Path(__file__).with_name("static") / "api.html"
_HTML = "text/html; charset=utf-8"


@cache
def documents() -> Site:
    return site.load(PROJECT)


@blueprint.get("/docs")
def moved() -> Response:
    return Response(status=308, headers={"Location": "/docs/"})


@blueprint.get("/docs/", strict_slashes=True)
def index() -> Response:
    return _page(site.INDEX)


@blueprint.get("/docs/api")
def api_reference() -> Response:
    return Response(_API.read_bytes(), content_type=_HTML)


@cache
def _sections() -> Body:
    return Body(orjson.dumps(documents().sections))


@blueprint.get("/docs/search.json")
def search() -> Response:
    """Answer with every section of every page, for the search that runs in the browser."""
    return body_reply(_sections())


@blueprint.get(f"/docs/{site.PICTURES}/<filename>")
def picture(filename: str) -> Response:
    path = documents().pictures.get(filename)
    if path is None:
        abort(404)
    answer = Response(path.read_bytes(), content_type="image/webp")
    answer.add_etag()
    answer.make_conditional(request)
    return answer


@blueprint.get("/docs/<path:name>")
def document(name: str) -> Response:
    return _page(name.removesuffix("/"))


def _page(name: str) -> Response:
    page = documents().page(name)
    if page is None:
        abort(404)
    html = render_template("document.html", page=page, groups=documents().groups, name=name)
    answer = Response(html, content_type=_HTML)
    answer.add_etag()
    answer.make_conditional(request)
    return answer
