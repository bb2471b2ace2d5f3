"""What `gunicorn.conf.py` does around the application: settings, addresses, the workers' metrics and the store.

It knows only the values that gunicorn's hooks pass, so it can be tested without a server.
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
from typing import IO, Any

import app.worker_memory  # noqa: F401  # the memory of all workers has to be there before the fork
from app.access.origin import is_loopback
from eventvault import environment, file_modes, folder_abilities, logs
from eventvault.access.changes import TokenChanges
from eventvault.access.configured import ConfiguredTokens
from eventvault.access.problems import token_problems
from eventvault.errors import InvalidSettings
from eventvault.events.cloudevents_http import REPEATED
from eventvault.exit_statuses import INVALID_SETTINGS
from eventvault.kafka.start_check import check_kafka_settings
from eventvault.regular_files import open_file, raise_limit
from eventvault.settings import SECRETS, Settings, load
from eventvault.store.process import MASTER_VARIABLE, SERVICE_VARIABLE

FIRST_TOKEN = f"{os.environ.get('EVENTVAULT_FLASK', 'flask')} tokens create admin --scope admin"
_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "eventvault-metrics-"
_LOCK = "lock"

_metrics_locks: list[IO[bytes]] = []


def load_settings(prepare: Callable[[Settings], None] = lambda _: None) -> Settings:
    """Return the environment's settings after making their folders. Raises InvalidSettings.

    From then on this process makes files that other users cannot read, and /proc shows no secret settings in the
    environment of this process and its workers. prepare: called before any file is made.
    """
    settings = load()
    environment.hide(SECRETS)
    check_kafka_settings(settings)
    prepare(settings)
    raise_limit()
    file_modes.restrict_new_files(settings)
    folder_abilities.prepare_folders(settings)
    return settings


def load_settings_or_exit(prepare: Callable[[Settings], None] = lambda _: None) -> Settings:
    """Return `load_settings(prepare)`. If settings are invalid, print them all and exit 78."""
    try:
        return load_settings(prepare)
    except InvalidSettings as error:
        print_lines(*error.details.get("problems", [error.message]), error.hint)
        raise SystemExit(INVALID_SETTINGS) from None


def print_lines(*lines: str) -> None:
    for line in lines:
        print(f"EventVault: {line}", file=sys.stderr, flush=True)


def configure_logging(settings: Settings, handlers: Iterable[logging.Handler]) -> None:
    """Set up the log, and give gunicorn's handlers the same format."""
    formatter = logs.setup(settings)
    for handler in handlers:
        handler.setFormatter(formatter)


def bind_address(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{settings.port}"


def prepare_service() -> None:
    """Set this start's id, and make the folder for its workers' metrics. Runs once in each master.

    A master started by SIGUSR2 inherits the environment of the previous one, so the process id is stored too.
    """
    if os.environ.get(MASTER_VARIABLE) == str(os.getpid()):
        return
    inherited = MASTER_VARIABLE in os.environ
    os.environ[MASTER_VARIABLE] = str(os.getpid())
    os.environ[SERVICE_VARIABLE] = str(uuid.uuid4())
    if inherited or not os.environ.get(_METRICS):
        os.environ[_METRICS] = _metrics_folder()


def _metrics_folder() -> str:
    """Make a folder that stays locked while a process of this start lives, and remove those that nobody locks."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            _remove_if_unlocked(folder)
    hidden = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
    lock = open_file(hidden / _LOCK, "wb")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _metrics_locks.append(lock)
    folder = hidden.rename(hidden.with_name(hidden.name[1:]))
    atexit.register(_remove_own_folder, folder, os.getpid())
    return str(folder)


def _remove_own_folder(folder: Path, master: int) -> None:
    """Remove the folder, in the master only: the workers inherit its exit handlers."""
    if os.getpid() == master:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_unlocked(folder: Path) -> None:
    with open_file(folder / _LOCK, "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)


def join_repeated_event_headers(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers with each `CE-` header once. gunicorn would join the values of a repeated one with a comma.

    headers: names in upper case, as gunicorn has them.
    """
    values_by_name: dict[str, list[str]] = {}
    for name, value in headers:
        if name.startswith("CE-"):
            values_by_name.setdefault(name, []).append(value)
    others = [header for header in headers if header[0] not in values_by_name]
    return others + [(name, REPEATED.join(values)) for name, values in values_by_name.items()]


def drop_worker_metrics(pid: int) -> None:
    """Drop the gauges of a worker that ended. Its counters stay in the sums."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


def remove_orphaned_metrics() -> None:
    """Remove the metrics folder if the master was killed and this is its last worker.

    All workers share the master's lock, so only the last one can lock the folder again.
    """
    folder = Path(os.environ.get(_METRICS, ""))
    if os.environ.get(MASTER_VARIABLE) == str(os.getppid()) or not folder.name.startswith(_PREFIX):
        return
    for lock in _metrics_locks:
        lock.close()
    with contextlib.suppress(OSError):
        _remove_if_unlocked(folder)


def configured_addresses(addresses: Iterable[Any]) -> list[str]:
    """Return the hosts of gunicorn's configured addresses. Socket paths and descriptors have none."""
    return [str(address[0]) for address in addresses if isinstance(address, tuple)]


def socket_addresses(sockets: Iterable[socket.socket]) -> list[str]:
    """Return the hosts that these sockets listen on, including those from systemd or an earlier master."""
    families = (socket.AF_INET, socket.AF_INET6)
    return [str(listener.getsockname()[0]) for listener in sockets if listener.family in families]


def exit_if_unprotected(settings: Settings, hosts: Iterable[str]) -> None:
    """Exit 78 if other machines could reach the service without authentication."""
    opened = [host or "every address" for host in hosts if not _is_loopback_only(host)]
    if not opened or settings.allow_unauthenticated or TokenChanges(settings).is_closed():
        return
    print_lines(
        f"it would listen on {', '.join(opened)} without authentication: "
        "whoever reaches it may read, restore and delete everything",
        f"make a token, which closes the service: {FIRST_TOKEN}",
        "or listen on a loopback address (HOST=127.0.0.1), or set ALLOW_UNAUTHENTICATED=true",
    )
    raise SystemExit(INVALID_SETTINGS)


def exit_if_tokens_are_invalid(settings: Settings) -> None:
    """Exit 78 if an entry of API_TOKENS_FILE is not a token."""
    try:
        ConfiguredTokens(settings).read()
    except InvalidSettings as error:
        print_lines(error.message, error.hint)
        raise SystemExit(INVALID_SETTINGS) from None


def exit_if_addresses_are_unknown(settings: Settings) -> None:
    """Exit 78 if Apprise does not know an address of NOTIFY_URLS."""
    from eventvault.notifications.receivers import check_addresses

    try:
        check_addresses(settings)
    except InvalidSettings as error:
        print_lines(error.message, error.hint)
        raise SystemExit(INVALID_SETTINGS) from None


def _is_loopback_only(host: str) -> bool:
    """Return whether a host is, or resolves to, loopback addresses only."""
    if is_loopback(host):
        return True
    try:
        addresses = socket.getaddrinfo(host, None) if host else []
    except OSError:
        return False
    return bool(addresses) and all(is_loopback(str(address[4][0])) for address in addresses)


def warn_who_has_access(settings: Settings, hosts: Iterable[str], warn: Callable[[str], None]) -> None:
    """Log at each start who can use the service, unless it is closed and somebody has a valid token."""
    tokens, reach = TokenChanges(settings), sorted(set(hosts))
    for problem in token_problems(settings):
        warn(f"{problem.message}; {problem.hint}")
    if tokens.is_closed():
        if not tokens.has_valid():
            warn(f"EventVault is closed, and no token is valid. This makes one: {FIRST_TOKEN}")
    elif all(is_loopback(host) for host in reach):
        warn("EventVault is open: without tokens, every program of this machine may read and restore everything")
    elif settings.allow_unauthenticated:
        warn(
            f"EventVault is open: ALLOW_UNAUTHENTICATED=true, so whoever reaches {', '.join(reach)} may read and "
            "restore everything"
        )


def connect_worker_to_store() -> None:
    """Connect this worker to the store. It runs after the fork, so threads and sockets may start."""
    from eventvault.store.process import lifeline

    lifeline.start_all(parent=int(os.environ.get(MASTER_VARIABLE) or os.getppid()))


def load_tokens(app: Any) -> None:
    """Read the tokens before the first request. app: the worker's; nothing happens if it could not be loaded."""
    edge = getattr(app, "extensions", {}).get("eventvault")
    if edge is not None:
        edge.tokens.current()


def end_store_of_service(settings: Settings) -> None:
    """Ask the store of this start to end at once, because the master ends."""
    from eventvault.store.process import lifeline

    lifeline.end_store(settings, os.environ.get(SERVICE_VARIABLE, ""))
