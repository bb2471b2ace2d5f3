"""The route of `/docs`."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response

blueprint = Blueprint("docs", __name__, static_folder="static", static_url_path="/docs/static")

_PAGE = Path(__file__).with_name("static") / "index.html"


@blueprint.get("/docs")
def docs() -> Response:
    return Response(_PAGE.read_bytes(), content_type="text/html; charset=utf-8")
