"""The routes of `/api/backup`."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_smorest import Blueprint
from marshmallow import RAISE

from app.backup import schemas
from app.backup.answers import (
    backup_json,
    created_json,
    one_backup_json,
    previous_database_json,
    pruned_json,
    rehearsed_json,
    restored_json,
    undone_json,
)
from app.backup.download import download
from app.backup.moment_schemas import (
    RESTORE_BODY,
    RestoreAnswerSchema,
    RestoreSchema,
    TimelineQuerySchema,
    TimelineSchema,
    restore_target,
)
from app.backup.past import diff_reply, selective_restore_reply
from app.backup.past_schemas import SELECTIVE_RESTORE_BODY, CopyResultSchema, DiffQuerySchema, SelectiveRestoreSchema
from app.backup.rehearsal_schemas import REHEARSE_BODY, RehearsalListSchema, RehearsedSchema, RehearseSchema, moment_of
from app.backup.schemas import name_in_path
from app.backup.undo_schemas import UndoListSchema, UndoneSchema, UndoSchema
from app.backup.upload import receive_upload
from app.edge import current_edge, current_store, store_for_long_call
from app.operations.asynchronous import ASYNC, begins_operation
from app.query import accepts_parameters, reject_repeated_parameters
from app.replies import JSON, json_body, reply, shared_reply, takes_no_body, validated, validated_body
from app.streaming import NDJSON
from eventvault.restore.values import Moment

blueprint = Blueprint("backup", __name__, url_prefix="/api/backup", description="Backups and restores.")
blueprint.before_request(reject_repeated_parameters)

GZIP = "application/gzip"

_create, _pin, _restore, _undo = schemas.CreateSchema(), schemas.PinRequestSchema(), RestoreSchema(), UndoSchema()
_prune, _selective_restore, _rehearse = schemas.PruneSchema(), SelectiveRestoreSchema(), RehearseSchema()
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


def _body(schema: type | dict[str, Any], *, required: bool) -> dict[str, Any]:
    return {"required": required, "content": {JSON: {"schema": schema}}}


@blueprint.route("/create", methods=["POST"])
@blueprint.doc(summary="Back up now", requestBody=_body(schemas.CreateSchema, required=False))
@blueprint.response(200, schemas.CreatedSchema)
@accepts_parameters(ASYNC, body=True)
@begins_operation
def create_backup() -> Response:
    """The backup has every event acknowledged before this request. Writers are not blocked."""
    body = validated_body(_create)
    with store_for_long_call() as store:
        return reply(created_json(store.create_backup(body.get("label"))))


@blueprint.route("/list", methods=["GET"])
@blueprint.doc(summary="List the backups, newest first")
@blueprint.arguments(schemas.ListQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, schemas.BackupListSchema)
@blueprint.alt_response(304, description="The answer is as `If-None-Match` says.", success=True)
def list_backups(parameters: dict[str, Any]) -> Response:
    """Answers with all backups, or page by page. With `If-None-Match` it answers 304 if nothing has changed."""
    limit, before = parameters.get("limit"), parameters.get("before")
    return shared_reply(("list", limit, before), lambda: _page_of_backups(limit, before), of_events=False)


def _page_of_backups(limit: int | None, before: str | None) -> dict[str, Any]:
    entries = current_store().list_backups(limit=None if limit is None else limit + 1, before=before)
    page = entries[:limit]
    is_last = len(page) == len(entries)
    return {
        "success": True,
        "backups": [backup_json(entry) for entry in page],
        "next": None if is_last else page[-1].name,
    }


@blueprint.route("/restore", methods=["POST"])
@blueprint.doc(
    summary="Restore a backup, or part of the past",
    requestBody={"required": True, "content": {JSON: {"schema": {"anyOf": [RESTORE_BODY, SELECTIVE_RESTORE_BODY]}}}},
    responses={
        "200": {
            "description": "What was restored; with `into`: `export` the events, one per line.",
            "content": {
                JSON: {"schema": {"anyOf": [RestoreAnswerSchema, CopyResultSchema]}},
                NDJSON: {"schema": {"type": "string"}},
            },
        }
    },
)
@blueprint.response(200, {"anyOf": [RestoreAnswerSchema, CopyResultSchema]})
@accepts_parameters(ASYNC, body=True)
@begins_operation
def restore_backup() -> Response:
    """Restores an archive or any moment: send one of `backupName`, `pointInTime` and `sequence`.

    The restore is live when this answers, without a restart; with `"apply": "restart"` the next start of the service
    applies it. With `dryRun` nothing changes, and `plan` describes the restore. No restore changes a job, unless
    `cancelJobs` is `true`; `unfinishedJobs` says how many unfinished ones were created after the moment. A restore of a
    backup reads Kafka's topics again from there on; one to a moment does so with `replay`. The plan's `kafka` says how
    many messages come again, and whether the brokers still hold all of them.

    With `into`, only the events of that moment that match `filter` are copied: `present` appends them as new events and
    changes no existing one; `export` answers with them as NDJSON.
    """
    body = json_body()
    if "into" in body:
        return selective_restore_reply(validated(_selective_restore, body))
    options = validated(_restore, body)
    target = restore_target(options)
    how = {"staged": options["apply"] == "restart", "cancel_jobs": options["cancelJobs"]}
    replay = options["replay"] and isinstance(target, Moment)
    with store_for_long_call() as store:
        if options["dryRun"]:
            return reply({"success": True, "dryRun": True, "plan": store.plan_restore(target, replay=replay)})
        if isinstance(target, str):
            return reply(restored_json(store.restore(target, **how)))
        return reply(restored_json(store.restore_moment(target, **how, replay=replay)))


@blueprint.route("/timeline", methods=["GET"])
@blueprint.doc(summary="List what can be restored")
@blueprint.arguments(TimelineQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, TimelineSchema)
@blueprint.alt_response(304, description="The answer is as `If-None-Match` says.", success=True)
def get_timeline(parameters: dict[str, Any]) -> Response:
    """Answers with the window, generations with their forks, archives, segments of the journal, and gaps.

    With `buckets` it has at most 40 kB, however many archives, segments and generations there are: `marks` instead of
    archives, no segments, and only the newest generations that hold events which the current one lacks.
    """
    buckets = parameters.get("buckets")
    return shared_reply(("timeline", buckets), lambda: {"success": True, **current_store().timeline(buckets=buckets)})


@blueprint.route("/diff", methods=["GET"])
@blueprint.doc(summary="Compare two moments")
@blueprint.arguments(DiffQuerySchema, location="query", unknown=RAISE)
@blueprint.response(
    200, {"type": "string"}, content_type=NDJSON, description="One difference per line, a summary last."
)
def diff_moments(parameters: dict[str, Any]) -> Response:
    """Each line has `in`: `from`, `to`, or `both` if an event differs. The last line is the `summary`."""
    return diff_reply(parameters["one"], parameters["other"])


@blueprint.route("/undo", methods=["POST"])
@blueprint.doc(summary="Undo the newest restore", requestBody=_body(UndoSchema, required=False))
@blueprint.response(200, UndoneSchema)
@accepts_parameters(ASYNC, body=True)
@begins_operation
def undo_restore() -> Response:
    """Brings back the previous database of the newest restore, or with `name` that of an earlier one.

    `leftBehind` describes the events posted since the restore. They are not lost: an undo can be undone.
    """
    body = validated_body(_undo)
    with store_for_long_call() as store:
        return reply(undone_json(store.undo(body.get("name"))))


@blueprint.route("/undo", methods=["GET"])
@blueprint.doc(summary="List what an undo can bring back, newest first")
@blueprint.response(200, UndoListSchema)
@accepts_parameters()
def list_undo() -> Response:
    return reply({"success": True, "undo": [previous_database_json(entry) for entry in current_store().list_undo()]})


@blueprint.route("/rehearse", methods=["POST"])
@blueprint.doc(summary="Rehearse a restore", requestBody=_body(REHEARSE_BODY, required=False))
@blueprint.response(200, RehearsedSchema)
@accepts_parameters(ASYNC, body=True)
@begins_operation
def rehearse() -> Response:
    """Restores into a scratch folder, compares every event with the live ones, measures, and removes what it restored.

    Without a body: the newest state that archives and journal hold, as after a loss of `storage/`. With `pointInTime`
    or `sequence`: that moment. If it cannot be restored, the request still succeeds: `ok` is false, and `problem` says
    why. 507 with `needed` if there is no room.
    """
    return _rehearsed(moment_of(validated_body(_rehearse)))


@blueprint.route("/<backup_name:name>/rehearse", methods=["POST"])
@blueprint.doc(summary="Rehearse a restore of one backup")
@blueprint.response(200, RehearsedSchema)
@accepts_parameters(ASYNC)
@begins_operation
@takes_no_body
def rehearse_backup(name: str) -> Response:
    """Like `POST /api/backup/rehearse`, with one archive alone, without the journal."""
    return _rehearsed(name_in_path(name))


@blueprint.route("/rehearsals", methods=["GET"])
@blueprint.doc(summary="List the newest 100 rehearsals, newest first")
@blueprint.response(200, RehearsalListSchema)
@accepts_parameters()
def list_rehearsals() -> Response:
    results = current_store().list_rehearsals()
    return reply({"success": True, "rehearsals": [result.describe() for result in results]})


def _rehearsed(target: Moment | str | None) -> Response:
    with store_for_long_call() as store:
        return reply(rehearsed_json(store.rehearse(target)))


@blueprint.route("/export-metadata", methods=["GET"])
@blueprint.doc(summary="List the backups for a migration")
@blueprint.response(200, schemas.ExportedMetadataSchema)
@accepts_parameters()
def export_metadata() -> Response:
    backups = [backup_json(entry) for entry in current_store().list_backups()]
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
@blueprint.doc(summary="Upload an archive", requestBody=_UPLOAD, parameters=[_NAME_QUERY])
@blueprint.response(201, schemas.OneBackupSchema)
@accepts_parameters(ASYNC, "name")
@begins_operation
def upload_backup() -> Response:
    """Send the archive as the body with `?name=`, or as multipart with a field `file`. 409 if the name exists."""
    received = receive_upload(current_edge())
    return received if isinstance(received, Response) else reply(one_backup_json(received), 201)


@blueprint.route("/prune", methods=["POST"])
@blueprint.doc(summary="Remove the backups that no rule keeps", requestBody=_body(schemas.PruneSchema, required=False))
@blueprint.response(200, schemas.PrunedSchema)
@accepts_parameters(ASYNC, body=True)
@begins_operation
def prune_backups() -> Response:
    """Rotation does the same after each backup. With `dryRun` nothing is removed.

    `plan` says which backup goes and which stays, by which rules, and how many bytes become free. `window` is what
    `BACKUP_DIR` alone can restore, before and after.
    """
    body = validated_body(_prune)
    with store_for_long_call() as store:
        if body["dryRun"]:
            return reply({"success": True, "dryRun": True, "plan": store.plan_prune()})
        return reply(pruned_json(store.prune_backups()))


@blueprint.route("/<backup_name:name>", methods=["GET"])
@blueprint.doc(summary="Get a backup with its manifest, or what its deletion would do")
@blueprint.arguments(schemas.GetQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, {"anyOf": [schemas.ManifestSchema, schemas.DeletionSchema]})
def get_backup(parameters: dict[str, Any], name: str) -> Response:
    if "dryRun" in parameters:
        return _plan_of_deletion(name)
    manifest = current_store().backup_manifest(name_in_path(name))
    return reply({"success": True, "backup": backup_json(current_store().backup_entry(name)), "manifest": manifest})


@blueprint.route("/<backup_name:name>/download", methods=["GET"])
@blueprint.doc(summary="Download a backup")
@blueprint.response(200, _BINARY, content_type=GZIP, description="The archive.")
@blueprint.alt_response(206, schema=_BINARY, content_type=GZIP, description="The requested range.", success=True)
@blueprint.alt_response(304, description="The archive is as `If-None-Match` says.", success=True)
@accepts_parameters()
def download_backup(name: str) -> Response:
    """Supports `Range`, `If-Range` and `If-None-Match`. The ETag is the archive's SHA-256 if it is known."""
    return download(current_edge(), name_in_path(name))


@blueprint.route("/<backup_name:name>", methods=["DELETE"])
@blueprint.doc(summary="Delete a backup")
@blueprint.arguments(schemas.DeleteQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, {"anyOf": [schemas.DeletedSchema, schemas.DeletionSchema]})
@takes_no_body
def delete_backup(parameters: dict[str, Any], name: str) -> Response:
    """409 for a pinned backup or the last good one without `?force=true`, and always while it is being read.

    With `?dryRun=true` nothing is deleted, and `plan` says what a deletion would free, how many good backups would be
    left, and what they could restore.
    """
    if parameters["dryRun"]:
        return _plan_of_deletion(name)
    current_store().delete_backup(name_in_path(name), force=parameters["force"])
    return reply({"success": True, "name": name})


def _plan_of_deletion(name: str) -> Response:
    plan = current_store().plan_deletion(name_in_path(name))
    return reply({"success": True, "dryRun": True, "name": name, "plan": plan})


@blueprint.route("/<backup_name:name>/verify", methods=["POST"])
@blueprint.doc(summary="Verify a backup completely")
@blueprint.arguments(schemas.VerifyQuerySchema, location="query", unknown=RAISE)
@blueprint.response(200, schemas.OneBackupSchema)
@begins_operation
@takes_no_body
def verify_backup(parameters: dict[str, Any], name: str) -> Response:
    """Compares a backup that was made and checked here with its digests.

    Of any other backup, and of every one with `?records=true`, it checks every checksum, including LevelDB's, every
    record, the sequence for gaps, and the number of events. `checked` says what was done: `digests` or `records`.
    422 says what is damaged and where. From then on the backup does not count as good.
    """
    with store_for_long_call() as store:
        return reply(one_backup_json(store.verify_backup(name_in_path(name), records=parameters["records"])))


@blueprint.route("/<backup_name:name>/pin", methods=["PUT"])
@blueprint.doc(summary="Exclude a backup from rotation", requestBody=_body(schemas.PinRequestSchema, required=False))
@blueprint.response(200, schemas.OneBackupSchema)
@accepts_parameters(body=True)
def pin_backup(name: str) -> Response:
    """Rotation does not remove the backup, and a delete needs `force`. A pin ends at `until`, if that is given.

    A second pin replaces the first one, with its reason and its end.
    """
    name, body = name_in_path(name), validated_body(_pin)
    entry = current_store().pin_backup(name, pinned=True, reason=body["reason"], until=body["until"])
    return reply({"success": True, "backup": backup_json(entry)})


@blueprint.route("/<backup_name:name>/pin", methods=["DELETE"])
@blueprint.doc(summary="Return a backup to rotation")
@blueprint.response(200, schemas.OneBackupSchema)
@accepts_parameters()
@takes_no_body
def unpin_backup(name: str) -> Response:
    return reply(one_backup_json(current_store().pin_backup(name_in_path(name), pinned=False)))
