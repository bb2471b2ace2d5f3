"""Backups: a checkpoint becomes an archive in `BACKUP_DIR`, enters the catalogue and leaves it by retention.

The folder decides which archives exist: a file copied into it is a backup, a deleted one is not. Nothing here opens
the live database or imports the journal, a restore or the past.
"""
