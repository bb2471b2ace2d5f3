"""The store process, `python -m app.store`: joins the core with Flask-APScheduler.

It serves no HTTP, and it imports nothing else of `app` but how to start a dispatcher.
"""

import sys

COMMAND = (sys.executable, "-m", "app.store")
"""Starts a store process."""
