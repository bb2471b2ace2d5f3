"""The route of `/api/settings`."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from app.edge import current_edge
from app.query import accepts_parameters, reject_repeated_parameters
from app.replies import reply
from app.settings.schemas import SettingsSchema
from eventvault import settings

blueprint = Blueprint("settings", __name__, url_prefix="/api/settings", description="The settings in force.")
blueprint.before_request(reject_repeated_parameters)


@blueprint.route("", methods=["GET"])
@blueprint.doc(summary="List the settings in force")
@blueprint.response(200, SettingsSchema)
@accepts_parameters()
def list_settings() -> Response:
    """Names each setting with its value, default, source, unit and meaning. Of a secret it says only that it is set."""
    return reply({"success": True, "settings": settings.describe(current_edge().settings)})
