"""The schemas of `/api/backup`."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from app.events.schemas import InstantField
from app.replies import ReplySchema, RequestSchema
from eventvault.backups import names
from eventvault.errors import InvalidInput

MOST_LISTED = 1000
"""Backups on one page of the list."""


NAME = r"^[^./\\\u0000-\u001f\u007f-\u009f\u2028\u2029][^/\\\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
"""The form of a file name in `backups/`, for the OpenAPI document; `eventvault.backups.names` decides."""


def check_name(name: str) -> str:
    """Return `name` if it may be a file in `backups/`. Raises ValidationError for a path or a hidden file."""
    problem = names.file_problem(name) if name else "is empty"
    if problem:
        raise ValidationError(f"Not a backup's name: it {problem}.")
    return name


def name_in_path(name: str, hint: str = "GET /api/backup/list lists the backups") -> str:
    """Check a name in an address as `check_name` does. Raises InvalidInput."""
    try:
        return check_name(name)
    except ValidationError as error:
        raise InvalidInput(
            f"{name[:80]!r} is not a backup's name",
            hint=hint,
            fields={"name": error.messages},
        ) from None


def upload_name(name: str | None) -> str:
    """Check the name of an archive to upload. Raises InvalidInput."""
    if not name:
        raise InvalidInput(
            "the archive has no name",
            hint="add ?name=backup_….tar.gz to the address",
            fields={"name": ["Missing."]},
        )
    return names.check_name(name_in_path(name, "choose another file name that ends in .tar.gz"))


class PinSchema(ReplySchema):
    """Why a backup is pinned, and until when."""

    reason = fields.String(required=True, allow_none=True)
    until = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})


ADDED = "What the archive took on the disk when it was made."
SHARED = "What it shared with earlier archives then."
UNIQUE = "What its deletion frees on the disk."


def _disk_bytes(description: str) -> fields.Integer:
    return fields.Integer(required=True, allow_none=True, metadata={"description": f"Bytes. {description}"})


def _timestamp(*, allow_none: bool = False) -> fields.String:
    return fields.String(required=True, allow_none=allow_none, metadata={"format": "date-time"})


class BackupSchema(ReplySchema):
    """One archive in `backups/`, as `backup_json` describes it. Unknown values are null."""

    name = fields.String(required=True, metadata={"example": "backup_2024-12-27_120000.tar.gz"})
    path = fields.String(required=True)
    size = fields.Integer(required=True, metadata={"description": "Bytes."})
    sizeMB = fields.String(required=True, metadata={"example": "0.01"})  # noqa: N815
    created = _timestamp()
    label = fields.String(required=True, allow_none=True)
    events = fields.Integer(required=True, allow_none=True)
    sequence = fields.Integer(required=True, allow_none=True)
    generation = fields.String(required=True, allow_none=True)
    verified = _timestamp(allow_none=True)
    checked = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "How it was checked at `verified`: `digests` or `records`."},
    )
    pinned = fields.Boolean(required=True)
    pin = fields.Nested(PinSchema, required=True, allow_none=True, metadata={"description": "Null if not pinned."})
    encrypted = fields.Boolean(required=True)
    offsite = fields.Boolean(required=True)
    digest = fields.String(required=True, allow_none=True, metadata={"example": "blake3:<64 hex digits>"})
    sha256 = fields.String(required=True, allow_none=True)
    origin = fields.String(required=True, metadata={"description": "created, uploaded, or found in the folder"})
    trigger = fields.String(
        required=True, allow_none=True, metadata={"description": "Who asked for it: `schedule` or `request`."}
    )
    durationMs = fields.Integer(  # noqa: N815
        required=True, allow_none=True, metadata={"description": "How long it took to make."}
    )
    proven = fields.Boolean(
        required=True,
        metadata={"description": "This installation made it: its catalogue says so, or the seal fits its key."},
    )
    addedBytes = _disk_bytes(ADDED)  # noqa: N815
    sharedBytes = _disk_bytes(SHARED)  # noqa: N815
    uniqueBytes = _disk_bytes(UNIQUE)  # noqa: N815
    kafkaReplayable = fields.Boolean(  # noqa: N815
        required=True,
        allow_none=True,
        metadata={"description": "Whether Kafka still holds all messages after it; null if that is not known."},
    )
    rehearsal = fields.Dict(
        required=True, allow_none=True, metadata={"description": "The result of its newest rehearsal."}
    )
    problem = fields.String(required=True, allow_none=True)
    unreadable = fields.Boolean(
        required=True, metadata={"description": "With `problem`: it cannot be read now, and may be good."}
    )

    class Meta(ReplySchema.Meta):
        include = {  # noqa: RUF012
            "keptBy": fields.List(
                fields.String(),
                required=True,
                metadata={"description": "The rules that keep it; empty if the next backup, or a prune, removes it."},
            )
        }


class CreateSchema(RequestSchema):
    label = fields.String(allow_none=True, validate=validate.Length(max=1000), metadata={"example": "manual-backup"})


class PinRequestSchema(RequestSchema):
    reason = fields.String(
        load_default=None, allow_none=True, validate=validate.Length(max=1000), metadata={"example": "audit 2026"}
    )
    until = InstantField(
        load_default=None,
        allow_none=True,
        metadata={"format": "date-time", "description": "The pin ends then. RFC 3339 with an offset."},
    )


class StrictBoolean(fields.Boolean):
    """Takes JSON's `true` and `false`, and no text or number that may mean one of them."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class PruneSchema(RequestSchema):
    dryRun = StrictBoolean(  # noqa: N815
        load_default=False, metadata={"description": "Remove nothing, and answer with `plan`."}
    )


class PrunedSchema(ReplySchema):
    """With `dryRun` there is only `plan`."""

    success = fields.Boolean(required=True)
    dryRun = fields.Boolean(required=True)  # noqa: N815
    plan = fields.Dict(
        required=True, metadata={"description": "keep, remove, freesBytes, goodLeft, window, lost, journal, notes, …"}
    )
    removed = fields.List(fields.String(), metadata={"description": "The names of the backups that are gone."})
    freedBytes = fields.Integer()  # noqa: N815


class CreatedSchema(ReplySchema):
    success = fields.Boolean(required=True)
    backupPath = fields.String(required=True)  # noqa: N815
    size = fields.Integer(required=True)
    name = fields.String(required=True)
    label = fields.String(required=True, allow_none=True)
    events = fields.Integer(required=True, allow_none=True)
    sequence = fields.Integer(required=True, allow_none=True)
    digest = fields.String(required=True, allow_none=True, metadata={"example": "blake3:<64 hex digits>"})
    sha256 = fields.String(required=True, allow_none=True)
    addedBytes = _disk_bytes(ADDED)  # noqa: N815
    sharedBytes = _disk_bytes(SHARED)  # noqa: N815
    uniqueBytes = _disk_bytes(UNIQUE)  # noqa: N815
    durationMs = fields.Integer(required=True)  # noqa: N815


class UndoOfSchema(ReplySchema):
    """The previous database, which an undo brings back."""

    name = fields.String(required=True)
    generation = fields.String(required=True)
    events = fields.Integer(required=True, allow_none=True)


class RestoredSchema(ReplySchema):
    success = fields.Boolean(required=True)
    message = fields.String(required=True)
    restartRequired = fields.Boolean(required=True)  # noqa: N815
    restartCommand = fields.String(required=True, allow_none=True)  # noqa: N815
    backupName = fields.String(required=True)  # noqa: N815
    events = fields.Integer(required=True)
    notJson = fields.Integer(required=True)  # noqa: N815
    generation = fields.String(required=True, allow_none=True)
    checked = fields.String(
        required=True, allow_none=True, metadata={"description": "`digests` or `records`; null for an undo."}
    )
    proven = fields.Boolean(
        required=True,
        metadata={"description": "False: the archive is not proven to be made here, so only its events were restored."},
    )
    durationMs = fields.Integer(required=True)  # noqa: N815
    notes = fields.List(fields.String(), required=True)
    undo = fields.Nested(
        UndoOfSchema, required=True, allow_none=True, metadata={"description": "The previous database."}
    )
    unfinishedJobs = fields.Integer(  # noqa: N815
        required=True,
        allow_none=True,
        metadata={"description": "Unfinished jobs that were created after the moment; null if that is unknown."},
    )
    cancelledJobs = fields.Integer(  # noqa: N815
        required=True, allow_none=True, metadata={"description": "How many `cancelJobs` cancelled."}
    )
    replay = fields.Boolean(
        required=True, metadata={"description": "Of a moment: Kafka's topics are read again from there on."}
    )


class ListQuerySchema(Schema):
    limit = fields.Integer(
        validate=validate.Range(1, MOST_LISTED),
        metadata={"description": "At most so many backups. Default: all.", "example": 100},
    )
    before = fields.String(
        validate=check_name,
        metadata={
            "pattern": NAME,
            "description": "Only backups that follow this one in the list: the `next` of the previous page.",
        },
    )


class BackupListSchema(ReplySchema):
    success = fields.Boolean(required=True)
    backups = fields.List(fields.Nested(BackupSchema), required=True)
    next = fields.String(
        required=True, allow_none=True, metadata={"description": "`before` of the next page; null on the last one."}
    )


class MetadataSchema(ReplySchema):
    backupCount = fields.Integer(required=True)  # noqa: N815
    totalSize = fields.Integer(required=True)  # noqa: N815
    oldestBackup = fields.String(required=True, allow_none=True)  # noqa: N815
    newestBackup = fields.String(required=True, allow_none=True)  # noqa: N815
    backups = fields.List(fields.Nested(BackupSchema), required=True)


class ExportedMetadataSchema(ReplySchema):
    success = fields.Boolean(required=True)
    metadata = fields.Nested(MetadataSchema, required=True)


class OneBackupSchema(ReplySchema):
    success = fields.Boolean(required=True)
    backup = fields.Nested(BackupSchema, required=True)


class ManifestSchema(OneBackupSchema):
    manifest = fields.Dict(required=True, metadata={"description": "Empty for a foreign archive."})


class DeletedSchema(ReplySchema):
    success = fields.Boolean(required=True)
    name = fields.String(required=True)


class GetQuerySchema(Schema):
    dryRun = fields.String(  # noqa: N815
        validate=validate.OneOf(["delete"]), metadata={"description": "`delete`: answer with the plan of a deletion."}
    )


class DeletionPlanSchema(ReplySchema):
    freesBytes = _disk_bytes(UNIQUE)  # noqa: N815
    good_backups = fields.Integer(
        data_key="goodLeft",
        required=True,
        metadata={"description": "How many good backups of this installation would stay."},
    )
    protectedBy = fields.String(  # noqa: N815
        required=True,
        allow_none=True,
        metadata={"description": "`pinned` or `last-good`: why it is deleted with `?force=true` only. Else null."},
    )
    window = fields.Dict(
        required=True, metadata={"description": "`before` and `after`: what `backups/` alone could restore."}
    )
    lost = fields.List(
        fields.Dict(),
        required=True,
        metadata={"description": "The generations of which less could be restored then."},
    )


class DeletionSchema(DeletedSchema):
    dryRun = fields.Boolean(required=True)  # noqa: N815
    plan = fields.Nested(DeletionPlanSchema, required=True)


class VerifyQuerySchema(Schema):
    records = fields.Boolean(
        load_default=False, metadata={"description": "Read every record, even of a backup that was made here."}
    )

    class Meta:
        include = {"async": fields.String()}  # noqa: RUF012  # a keyword of Python; see `app.operations.asynchronous`


class DeleteQuerySchema(Schema):
    force = fields.Boolean(
        load_default=False, metadata={"description": "Delete even a pinned backup or the last good one."}
    )
    dryRun = fields.Boolean(  # noqa: N815
        load_default=False, metadata={"description": "Delete nothing, and answer with `plan`."}
    )
