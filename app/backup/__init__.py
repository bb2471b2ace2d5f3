"""`/api/backup`: create, list, download, upload, verify, restore, undo and delete. A backup's name is never a path."""
