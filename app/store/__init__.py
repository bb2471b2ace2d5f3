"""The store process, `python -m app.store`: joins the core with Flask-APScheduler.

It serves no HTTP. Of the rest of `app` it imports only the command of a dispatcher, and how freed memory is returned.
"""

import sys

COMMAND = (sys.executable, "-m", "app.store")
"""Starts a store process."""
