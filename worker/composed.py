"""Puts a supervisor together: settings, transport, executors, and heartbeat."""

from __future__ import annotations

import os
import selectors
from collections.abc import Mapping, Sequence
from math import inf

from eventvault import __version__, data_folders
from eventvault.errors import InvalidSettings
from eventvault.jobs.socket_worker_transport import SocketWorkerTransport
from eventvault.jobs.transport import WorkerTransport
from eventvault.settings import DECLARATIONS, Address, Settings
from worker.heartbeat import Heartbeat
from worker.pool import Pool
from worker.supervisor import Options, Supervisor

UNREACHABLE_SECONDS = 10.0
"""The service's own worker ends if no dispatcher has answered for this long: the service is gone."""
BUILT_IN = "app.builtin_jobs"
"""The module of the built-in jobs. The nursery imports it by name, like the modules of WORKER_JOBS."""
_ALWAYS_PASSED = ("PATH", "HOME", "LANG", "TZ")


def has_dispatcher(settings: Settings) -> bool:
    """Return whether a dispatcher has its socket in STORAGE_DIR, even if it does not answer now."""
    return (settings.storage_dir / data_folders.JOBS_SOCKET).is_socket()


def without_broker(settings: Settings, modules: Sequence[str], *, is_own: bool) -> Supervisor:
    """Return a supervisor over the socket. is_own: it is the service's own, which also has the built-in jobs."""
    transport = SocketWorkerTransport(settings.storage_dir)
    return supervisor_for(
        settings, transport, [*([BUILT_IN] if is_own else []), *modules], is_local=True, is_own=is_own
    )


def supervisor_for(
    settings: Settings,
    transport: WorkerTransport,
    modules: Sequence[str],
    *,
    is_local: bool = False,
    is_own: bool = False,
) -> Supervisor:
    """Return a supervisor that is not started.

    is_local: it runs beside the data folders. is_own: it is the service's own; its jobs need the service's settings.
    """
    concurrency = concurrency_of(settings, is_own=is_own)
    variables = variables_of_handlers(settings, os.environ, is_own=is_own)

    def make_pool(selector: selectors.BaseSelector, supervisor: Supervisor) -> Pool:
        return Pool(
            selector, supervisor, size=concurrency, jobs_per_process=settings.worker_jobs_per_process,
            memory=settings.worker_job_memory, modules=modules, variables=variables, log_level=settings.log_level,
        )  # fmt: skip

    heartbeat = Heartbeat()
    supervisor = Supervisor(
        transport,
        make_pool,
        Options(
            concurrency, settings.worker_drain_seconds, version=__version__, is_local=is_local,
            unreachable_seconds=UNREACHABLE_SECONDS if is_own else inf,
        ),
        on_turn=lambda running: heartbeat.beat(kafka_answers=running.transport.is_open()),
        on_end=heartbeat.close,
    )  # fmt: skip
    if settings.worker_metrics_address is not None and not is_own:
        _serve_metrics(supervisor, settings.worker_metrics_address)
    return supervisor


def _serve_metrics(supervisor: Supervisor, address: Address) -> None:
    from worker import metrics  # here: Prometheus' client loads slowly, and most workers serve no metrics

    try:
        metrics.serve(supervisor, address.host, address.port)
    except OSError as error:
        raise InvalidSettings(
            f"WORKER_METRICS_ADDRESS is {address.text!r}, where nothing can be served: {error.strerror}",
            hint="name an address of this machine whose port is free",
        ) from error


def concurrency_of(settings: Settings, *, is_own: bool) -> int:
    if is_own:
        return settings.jobs_local_concurrency
    return settings.worker_concurrency or len(os.sched_getaffinity(0))


def variables_of_handlers(settings: Settings, environment: Mapping[str, str], *, is_own: bool) -> dict[str, str]:
    """Return the environment of the handlers, without secrets of the service."""
    names = [*_ALWAYS_PASSED, *settings.worker_env]
    if is_own:
        names += [declaration.name for declaration in DECLARATIONS if not declaration.secret]
    return {name: environment[name] for name in names if name in environment}
