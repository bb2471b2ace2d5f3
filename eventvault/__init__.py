"""The core of EventVault, a plain library: events, backups, the journal and restores.

It imports neither a web framework nor `app` or `worker`, so everything here works, and is tested, without an HTTP
server. Inside the core a folder imports only from the layers below its own; `docs/architecture.md` draws them.
"""

__version__ = "0.1.0"
