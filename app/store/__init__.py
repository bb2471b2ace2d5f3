"""The store process, `python -m app.store`: the one place that joins the core with Flask-APScheduler.

It serves no HTTP. It may import the core and the scheduler, and nothing else of `app`.
"""

import sys

COMMAND = (sys.executable, "-m", "app.store")
"""Starts a store process."""
