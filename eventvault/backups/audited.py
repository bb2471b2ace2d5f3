"""The audit of this installation, for the store and for commands that work without a store."""

from __future__ import annotations

from functools import partial

from eventvault.audit.deeds import Deeds
from eventvault.audit.log import AuditLog
from eventvault.backups.installation_folder import check_unchanged
from eventvault.settings import Settings


def audit_of(settings: Settings) -> AuditLog:
    return AuditLog(settings.storage_dir, settings.backup_dir, partial(check_unchanged, settings))


def deeds_of(settings: Settings) -> Deeds:
    """Return the deeds of a command that works without a store, such as changes of tokens."""
    return Deeds(audit_of(settings).write)
