"""The types of jobs that come with the service: `verify`, `rehearse`, `export`, `prune` and `webhook`.

The worker that the dispatcher starts imports this package, as it imports the modules of WORKER_JOBS: it is the one
place of `app` that knows the worker. Its handlers ask the store through its ports, and never start a store.
"""

from __future__ import annotations

from app.builtin_jobs import operations, webhook

__all__ = ["operations", "webhook"]
