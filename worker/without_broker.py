"""A worker without a broker: it joins the dispatcher in STORAGE_DIR, over its socket."""

from __future__ import annotations

from collections.abc import Sequence

from eventvault import data_folders
from eventvault.jobs.socket_worker_transport import SocketWorkerTransport
from eventvault.settings import Settings
from worker.composed import supervisor_for
from worker.supervisor import Supervisor

BUILT_IN = "app.builtin_jobs"
"""The jobs that come with the service. The nursery imports them by name, as it does the modules of WORKER_JOBS."""


def has_dispatcher(settings: Settings) -> bool:
    """Return whether a dispatcher has its socket in STORAGE_DIR; it need not answer now."""
    return (settings.storage_dir / data_folders.JOBS_SOCKET).is_socket()


def joined(settings: Settings, modules: Sequence[str], *, is_own: bool) -> Supervisor:
    """Return a supervisor over the socket. is_own: it is the service's own, which has the built-in jobs too."""
    transport = SocketWorkerTransport(settings.storage_dir)
    return supervisor_for(
        settings, transport, [*([BUILT_IN] if is_own else []), *modules], is_local=True, is_own=is_own
    )
