"""The types of jobs that come with the service: `verify`, `rehearse`, `export`, `prune` and `webhook`.

The dispatcher's own worker imports this package, like the modules of WORKER_JOBS. It is the only package of `app` that
imports `worker`. Its handlers ask the store through its ports, and never start a store.
"""

from __future__ import annotations

from app.builtin_jobs import operations, webhook

__all__ = ["operations", "webhook"]
