"""Backups: checkpoints become archives in `BACKUP_DIR`, are read back, listed, kept and rotated.

The folder is the truth: what is copied into it is a backup, what is deleted from it is none. Nothing here opens the
live database; it imports neither the restore nor a framework.
"""
