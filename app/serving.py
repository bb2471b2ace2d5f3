"""What `gunicorn.conf.py` does around the application: settings before the fork, the addresses, the workers' metrics.

It knows nothing of gunicorn but the values that the hooks pass on, so it can be tested without a server.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import os
import shutil
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from app.access import is_loopback
from eventvault import logs
from eventvault.errors import InvalidSettings
from eventvault.settings import Settings, load, make_folders

EXIT_BAD_SETTINGS = 78
"""sysexits.h: EX_CONFIG."""

SERVICE = "EVENTVAULT_SERVICE"
"""Names this start of the service, for all of its processes."""
_MASTER = "EVENTVAULT_MASTER"
_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "eventvault-metrics-"
_LOCK = "lock"

_metrics_locks: list[TextIO] = []


def load_settings() -> Settings:
    """The environment's settings, with their folders made. Raises InvalidSettings."""
    settings = load()
    make_folders(settings)
    return settings


def load_settings_or_exit() -> Settings:
    """`load_settings`; every bad one is printed, and the process exits 78."""
    try:
        return load_settings()
    except InvalidSettings as error:
        print_lines(*error.details.get("problems", [error.message]), error.hint)
        raise SystemExit(EXIT_BAD_SETTINGS) from None


def print_lines(*lines: str) -> None:
    for line in lines:
        print(f"EventVault: {line}", file=sys.stderr, flush=True)


def configure_logging(settings: Settings, handlers: Iterable[logging.Handler]) -> None:
    """gunicorn's own lines look like those of the application and of the backup manager, and go where they go."""
    logs.setup(settings)
    format_name = settings.log_format or ("text" if sys.stderr.isatty() else "json")
    for handler in handlers:
        handler.setFormatter(logs.formatter(format_name))


def bind_address(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{settings.port}"


def prepare_service() -> None:
    """Give this start of the service its name, and its workers a folder for their metrics; once in each master.

    A master that SIGUSR2 started inherits the environment of the one before it: hence the process id beside it.
    """
    if os.environ.get(_MASTER) == str(os.getpid()):
        return
    inherited = _MASTER in os.environ
    os.environ[_MASTER] = str(os.getpid())
    os.environ[SERVICE] = str(uuid.uuid4())
    if inherited or not os.environ.get(_METRICS):
        os.environ[_METRICS] = _metrics_folder()


def _metrics_folder() -> str:
    """A new folder under a lock that lives as long as any process of this start does; those without one are swept."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            _remove_if_unlocked(folder)
    hidden = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
    lock = (hidden / _LOCK).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    _metrics_locks.append(lock)
    folder = hidden.rename(hidden.with_name(hidden.name[1:]))
    atexit.register(_remove_own_folder, folder, os.getpid())
    return str(folder)


def _remove_own_folder(folder: Path, master: int) -> None:
    """The workers inherit what is registered to happen at exit: only the master removes, as the last to leave."""
    if os.getpid() == master:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_unlocked(folder: Path) -> None:
    with (folder / _LOCK).open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)


def drop_worker_metrics(pid: int) -> None:
    """A worker is gone: what it counted stays in the sums, what it showed as its present state does not."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


def remove_orphaned_metrics() -> None:
    """Of workers that outlived their master, which was killed, the last removes what the master would have removed.

    The lock is shared with the others for as long as they live: it can be taken anew by the last one only.
    """
    folder = Path(os.environ.get(_METRICS, ""))
    if os.environ.get(_MASTER) == str(os.getppid()) or not folder.name.startswith(_PREFIX):
        return
    for lock in _metrics_locks:
        lock.close()
    with contextlib.suppress(OSError):
        _remove_if_unlocked(folder)


def configured_addresses(addresses: Iterable[Any]) -> list[str]:
    """gunicorn's (host, port), socket paths and file descriptors to host names; only TCP listens to others."""
    return [str(address[0]) for address in addresses if isinstance(address, tuple)]


def socket_addresses(sockets: Iterable[socket.socket]) -> list[str]:
    """The hosts that these sockets really listen on, wherever they come from (systemd, an earlier master)."""
    families = (socket.AF_INET, socket.AF_INET6)
    return [str(listener.getsockname()[0]) for listener in sockets if listener.family in families]


def exit_if_unprotected(settings: Settings, hosts: Iterable[str]) -> None:
    """Exit 78 where others could reach a service that nothing protects."""
    opened = [host or "every address" for host in hosts if not _is_loopback_only(host)]
    if not opened or settings.allow_unauthenticated:
        return
    print_lines(
        f"it would listen on {', '.join(opened)}, where others can reach it, and nothing protects it: "
        "whoever does may read, restore and delete everything",
        "listen on a loopback address (HOST=127.0.0.1), or say ALLOW_UNAUTHENTICATED=true",
    )
    raise SystemExit(EXIT_BAD_SETTINGS)


def _is_loopback_only(host: str) -> bool:
    """Whether a host is, or resolves to, loopback addresses only."""
    if is_loopback(host):
        return True
    try:
        addresses = socket.getaddrinfo(host, None) if host else []
    except OSError:
        return False
    return bool(addresses) and all(is_loopback(str(address[4][0])) for address in addresses)


def warn_who_has_access(settings: Settings, hosts: Iterable[str], warn: Callable[[str], None]) -> None:
    """Say at each start who can use the service, as there are no tokens."""
    reach = sorted(set(hosts))
    if all(is_loopback(host) for host in reach):
        warn("EventVault is open: without tokens, every program of this machine may read and restore everything")
    elif settings.allow_unauthenticated:
        warn(
            f"EventVault is open: ALLOW_UNAUTHENTICATED=true, so whoever reaches {', '.join(reach)} may read and "
            "restore everything"
        )


def connect_worker_to_store() -> None:
    """Hold the store from now on: this process is born after the fork, threads and sockets begin here."""
    from eventvault.store.process import lifeline

    lifeline.start_all(parent=int(os.environ.get(_MASTER) or os.getppid()))


def end_store_of_service(settings: Settings) -> None:
    """The master ends: the store of this start is asked to end at once."""
    from eventvault.store.process import lifeline

    lifeline.end_store(settings, os.environ.get(SERVICE, ""))
