"""The core of EventVault, a plain library: events, checkpoint, archive, catalogue, retention, restore.

It may import neither Flask nor gunicorn, neither `app` nor `worker`: everything here works, and is tested,
without an HTTP server. What needs a framework stands behind a port that the core declares.
"""

__version__ = "0.1.0"
