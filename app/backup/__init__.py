"""`/api/backup`: make, list, send, take in, restore and remove archives. A backup's name is a name, never a path."""
