"""Replacing the live database while the service runs, undoing it, and finishing it after a kill."""
