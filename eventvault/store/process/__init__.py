"""The store process from outside: starts it, notices that it died or hangs, and owns the database."""

SERVICE_VARIABLE = "EVENTVAULT_SERVICE"
"""Environment variable with the identity of this start of the service; all of its processes inherit it."""
MASTER_VARIABLE = "EVENTVAULT_MASTER"
"""Environment variable with the process id of gunicorn's master, which forks and so starts no thread."""
