"""The routes of `/api/backup`."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_smorest import Blueprint
from marshmallow import RAISE

from app.backup import schemas
from app.backup.download import download
from app.backup.moment_schemas import RestoreAnswerSchema, RestoreSchema, TimelineSchema, wanted_of
from app.backup.past import diff_reply, part_reply
from app.backup.past_schemas import DiffSchema, PartSchema, TakenSchema
from app.backup.schemas import entry_of, name_in_path
from app.backup.undo_schemas import UndoListSchema, UndoneSchema, UndoSchema, kept_of, left_behind_of, undo_of
from app.backup.upload import receive
from app.edge import edge, long_work, store
from app.query import refuse_repeated, takes
from app.replies import JSON, given_object, object_body, reply, valid
from app.streaming import NDJSON
from eventvault.backups.entry import BackupEntry
from eventvault.errors import BackupNotFound
from eventvault.restore.values import Restored

blueprint = Blueprint("backup", __name__, url_prefix="/api/backup", description="Backups and restores.")
blueprint.before_request(refuse_repeated)

ASYNC = "async"
"""Taken by what may take long, and not acted upon: it is answered when it is done."""
GZIP = "application/gzip"
STAGED_MESSAGE = "Restore complete. Restart application to apply changes."
RESTART_COMMAND = "docker-compose restart app worker"

_create, _restore, _undo = schemas.CreateSchema(), RestoreSchema(), UndoSchema()
_part = PartSchema()
_BINARY = {"type": "string", "format": "binary"}
_UPLOAD = {
    "required": True,
    "content": {
        GZIP: {"schema": _BINARY},
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}},
        },
    },
}
_NAME_QUERY = {"in": "query", "name": "name", "schema": {"type": "string"}, "description": "The archive's name."}


def _body(schema: type, *, required: bool) -> dict[str, Any]:
    return {"required": required, "content": {JSON: {"schema": schema}}}


@blueprint.route("/create", methods=["POST"])
@blueprint.doc(summary="Back up now", requestBody=_body(schemas.CreateSchema, required=False))
@blueprint.response(200, schemas.CreatedSchema)
@takes(ASYNC, body=True)
def create_backup() -> Response:
    """Everything that was acknowledged before this request is inside. Writers go on meanwhile."""
    asked = object_body(_create)
    with long_work() as vault:
        created = vault.create_backup(asked.get("label"))
    backup = created.backup
    return reply(
        {
            "success": True,
            "backupPath": backup.path,
            "size": backup.size,
            "name": backup.name,
            "label": backup.label,
            "events": backup.events,
            "sequence": backup.sequence,
            "sha256": backup.sha256,
            "durationMs": created.duration,
        }
    )


@blueprint.route("/list", methods=["GET"])
@blueprint.doc(summary="List the backups, newest first")
@blueprint.response(200, schemas.BackupListSchema)
@takes()
def list_backups() -> Response:
    return reply({"success": True, "backups": [entry_of(entry) for entry in store().list_backups()]})


@blueprint.route("/restore", methods=["POST"])
@blueprint.doc(
    summary="Restore a backup, or part of the past",
    requestBody={"required": True, "content": {JSON: {"schema": {"anyOf": [RestoreSchema, PartSchema]}}}},
    responses={
        "200": {
            "description": "What was restored; with `into`: `export` the events, one a line.",
            "content": {
                JSON: {"schema": {"anyOf": [RestoreAnswerSchema, TakenSchema]}},
                NDJSON: {"schema": {"type": "string"}},
            },
        }
    },
)
@blueprint.response(200, {"anyOf": [RestoreAnswerSchema, TakenSchema]})
@takes(ASYNC, body=True)
def restore_backup() -> Response:
    """To an archive, or to any moment: one of `backupName`, `pointInTime` and `sequence`.

    Applied when this answers, without a restart; with `"apply": "restart"` at the next start of the service. With
    `dryRun` nothing is done, and `plan` says what would be.

    With `into` only events that the `filter` finds, of any moment of the past: `present` appends them as new events,
    never over what is there; `export` answers with them as NDJSON.
    """
    given = given_object()
    if "into" in given:
        return part_reply(valid(_part, given))
    asked = valid(_restore, given)
    wanted, staged = wanted_of(asked), asked["apply"] == "restart"
    with long_work() as vault:
        if asked["dryRun"]:
            return reply({"success": True, "dryRun": True, "plan": vault.plan_restore(wanted)})
        if isinstance(wanted, str):
            return reply(_restored(vault.restore(wanted, staged=staged)))
        return reply(_restored(vault.restore_moment(wanted, staged=staged)))


@blueprint.route("/timeline", methods=["GET"])
@blueprint.doc(summary="What can be restored")
@blueprint.response(200, TimelineSchema)
@takes()
def get_timeline() -> Response:
    """Ready to be drawn: the window, generations with their forks, archives, segments of the journal, gaps."""
    return reply({"success": True, **store().timeline()})


@blueprint.route("/diff", methods=["GET"])
@blueprint.doc(summary="What two moments have that the other has not")
@blueprint.arguments(DiffSchema, location="query", unknown=RAISE)
@blueprint.response(200, {"type": "string"}, content_type=NDJSON, description="One difference a line, a summary last.")
def diff_moments(asked: dict[str, Any]) -> Response:
    """Lines with `in`: `from`, `to`, or `both` for one identity with two contents; the last one is the `summary`."""
    return diff_reply(asked["one"], asked["other"])


@blueprint.route("/undo", methods=["POST"])
@blueprint.doc(summary="Undo the newest restore", requestBody=_body(UndoSchema, required=False))
@blueprint.response(200, UndoneSchema)
@takes(ASYNC, body=True)
def undo_restore() -> Response:
    """Bring back what the newest restore left behind, or with `name` what an earlier one did.

    `leftBehind` is what was posted since the restore. It is kept as well: an undo can be undone.
    """
    asked = object_body(_undo)
    with long_work() as vault:
        restored = vault.undo(asked.get("name"))
    return reply({**_restored(restored), "leftBehind": left_behind_of(restored.left_behind)})


@blueprint.route("/undo", methods=["GET"])
@blueprint.doc(summary="List what can be brought back, newest first")
@blueprint.response(200, UndoListSchema)
@takes()
def list_undo() -> Response:
    return reply({"success": True, "undo": [kept_of(entry) for entry in store().list_undo()]})


def _restored(restored: Restored) -> dict[str, Any]:
    live = f"Restore complete. The {restored.events} restored events are live; no restart is needed."
    return {
        "success": True,
        "message": STAGED_MESSAGE if restored.staged else live,
        "restartRequired": restored.staged,
        "restartCommand": RESTART_COMMAND if restored.staged else None,
        "backupName": restored.source,
        "events": restored.events,
        "notJson": restored.not_json,
        "generation": restored.generation,
        "durationMs": restored.duration,
        "notes": restored.notes,
        "undo": undo_of(restored.undo),
    }


@blueprint.route("/export-metadata", methods=["GET"])
@blueprint.doc(summary="What a migration needs to know")
@blueprint.response(200, schemas.ExportedMetadataSchema)
@takes()
def export_metadata() -> Response:
    backups = [entry_of(entry) for entry in store().list_backups()]
    created = sorted(backup["created"] for backup in backups)
    metadata = {
        "backupCount": len(backups),
        "totalSize": sum(backup["size"] for backup in backups),
        "oldestBackup": created[0] if created else None,
        "newestBackup": created[-1] if created else None,
        "backups": backups,
    }
    return reply({"success": True, "metadata": metadata})


@blueprint.route("/upload", methods=["POST"])
@blueprint.doc(summary="Take an archive in", requestBody=_UPLOAD, parameters=[_NAME_QUERY])
@blueprint.response(201, schemas.OneBackupSchema)
@takes(ASYNC, "name")
def upload_backup() -> Response:
    """The archive's bytes as the body with `?name=`, or multipart with a field `file`; 409 when the name is taken."""
    return reply({"success": True, "backup": entry_of(receive(edge()))}, 201)


@blueprint.route("/<backup_name:name>", methods=["GET"])
@blueprint.doc(summary="One backup with its manifest")
@blueprint.response(200, schemas.ManifestSchema)
@takes()
def get_backup(name: str) -> Response:
    manifest = store().backup_manifest(name_in_path(name))
    return reply({"success": True, "backup": entry_of(_entry(name)), "manifest": manifest})


@blueprint.route("/<backup_name:name>/download", methods=["GET"])
@blueprint.doc(summary="Download a backup")
@blueprint.response(200, _BINARY, content_type=GZIP, description="The archive.")
@blueprint.alt_response(206, schema=_BINARY, content_type=GZIP, description="The range asked for.", success=True)
@takes()
def download_backup(name: str) -> Response:
    """With `Range`, `If-Range` and `If-None-Match`; the ETag is the archive's SHA-256 where that is known."""
    return download(edge(), name_in_path(name))


@blueprint.route("/<backup_name:name>", methods=["DELETE"])
@blueprint.doc(summary="Delete a backup")
@blueprint.arguments(schemas.DeleteQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, schemas.DeletedSchema)
def delete_backup(asked: dict[str, Any], name: str) -> Response:
    """409 for a pinned one and the last good one without `?force=true`, and always for one that is being read."""
    store().delete_backup(name_in_path(name), force=asked["force"])
    return reply({"success": True, "name": name})


@blueprint.route("/<backup_name:name>/verify", methods=["POST"])
@blueprint.doc(summary="Check a backup from end to end")
@blueprint.response(200, schemas.OneBackupSchema)
@takes(ASYNC)
def verify_backup(name: str) -> Response:
    """Every checksum, LevelDB's own ones, every record, the sequence without holes, as many events as it says.

    422 says what is wrong with it and where; from then on it counts as good no longer.
    """
    with long_work() as vault:
        return reply({"success": True, "backup": entry_of(vault.verify_backup(name_in_path(name)))})


@blueprint.route("/<backup_name:name>/pin", methods=["PUT"])
@blueprint.doc(summary="Keep a backup from rotation")
@blueprint.response(200, schemas.OneBackupSchema)
@takes()
def pin_backup(name: str) -> Response:
    return _pinned(name, pinned=True)


@blueprint.route("/<backup_name:name>/pin", methods=["DELETE"])
@blueprint.doc(summary="Give a backup back to rotation")
@blueprint.response(200, schemas.OneBackupSchema)
@takes()
def unpin_backup(name: str) -> Response:
    return _pinned(name, pinned=False)


def _pinned(name: str, *, pinned: bool) -> Response:
    entry = store().pin_backup(name_in_path(name), pinned=pinned)
    return reply({"success": True, "backup": entry_of(entry)})


def _entry(name: str) -> BackupEntry:
    for entry in store().list_backups():
        if entry.name == name:
            return entry
    raise BackupNotFound(f"there is no backup {name!r}", hint="GET /api/backup/list names those there are")
