"""The store process from outside: starts it, notices that it died or hangs, and owns the database."""
