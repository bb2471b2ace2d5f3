"""The schemas of `/api/backup`. The guide fixes the names of the members."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from app.events.schemas import InstantField
from app.replies import ReplySchema
from eventvault import clock
from eventvault.backups import names
from eventvault.errors import InvalidInput


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


def megabytes(size: int) -> str:
    """Return a size in units of 2^20 bytes, with two decimals."""
    return f"{size / 2**20:.2f}"


class TimestampField(fields.String):
    """An instant, in microseconds since the epoch, as ISO 8601 with milliseconds and Z."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **_: Any) -> Any:
        return None if value is None else clock.format_milliseconds(value)


class PinSchema(ReplySchema):
    """Why a backup is pinned, and until when."""

    reason = fields.String(required=True, allow_none=True)
    until = TimestampField(required=True, allow_none=True, metadata={"format": "date-time"})


ADDED = "What the archive took on the disk when it was made."
SHARED = "What it shared with earlier archives then."
UNIQUE = "What its deletion frees on the disk."


def _disk_bytes(description: str, attribute: str | None = None) -> fields.Integer:
    metadata = {"description": f"Bytes. {description}"}
    return fields.Integer(attribute=attribute, required=True, allow_none=True, metadata=metadata)


class BackupSchema(ReplySchema):
    """One archive in `backups/`. Unknown values are null."""

    name = fields.String(required=True, metadata={"example": "backup_2024-12-27_120000.tar.gz"})
    path = fields.String(required=True)
    size = fields.Integer(required=True, metadata={"description": "Bytes."})
    sizeMB = fields.Function(  # noqa: N815  # the guide's name
        lambda entry: megabytes(_member(entry, "size")), metadata={"type": "string", "example": "0.01"}
    )
    created = TimestampField(required=True, metadata={"format": "date-time"})
    label = fields.String(required=True, allow_none=True)
    events = fields.Integer(required=True, allow_none=True)
    sequence = fields.Integer(required=True, allow_none=True)
    generation = fields.String(required=True, allow_none=True)
    verified = TimestampField(required=True, allow_none=True, metadata={"format": "date-time"})
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
    proven = fields.Boolean(
        attribute="origin_proven",
        required=True,
        metadata={"description": "This installation made it: its catalogue says so, or the seal fits its key."},
    )
    addedBytes = _disk_bytes(ADDED, "added_bytes")  # noqa: N815
    sharedBytes = _disk_bytes(SHARED, "shared_bytes")  # noqa: N815
    uniqueBytes = _disk_bytes(UNIQUE, "unique_bytes")  # noqa: N815
    problem = fields.String(required=True, allow_none=True)


def _member(entry: Any, name: str) -> Any:
    return entry[name] if isinstance(entry, dict) else getattr(entry, name)


_ENTRY = BackupSchema()


def backup_json(entry: Any) -> dict[str, Any]:
    """entry: a BackupEntry, or a dictionary with the same members."""
    dumped: dict[str, Any] = _ENTRY.dump(entry)
    return dumped


class CreateSchema(Schema):
    label = fields.String(allow_none=True, validate=validate.Length(max=1000), metadata={"example": "manual-backup"})


class PinRequestSchema(Schema):
    reason = fields.String(
        load_default=None, allow_none=True, validate=validate.Length(max=1000), metadata={"example": "audit 2026"}
    )
    until = InstantField(
        load_default=None,
        allow_none=True,
        metadata={"format": "date-time", "description": "The pin ends then. RFC 3339 with an offset."},
    )


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


class BackupListSchema(ReplySchema):
    success = fields.Boolean(required=True)
    backups = fields.List(fields.Nested(BackupSchema), required=True)


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


class VerifyQuerySchema(Schema):
    records = fields.Boolean(
        load_default=False, metadata={"description": "Read every record, even of a backup that was made here."}
    )

    class Meta:
        include = {"async": fields.String()}  # noqa: RUF012  # a keyword of Python; accepted and ignored


class DeleteQuerySchema(Schema):
    force = fields.Boolean(
        load_default=False, metadata={"description": "Delete even a pinned backup or the last good one."}
    )
