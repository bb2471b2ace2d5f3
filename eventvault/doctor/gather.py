"""Gathers all facts. Each part has its own thread and a deadline, because a disk may not answer at all."""

from __future__ import annotations

import dataclasses
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from eventvault import clock, small_files
from eventvault import settings as all_settings
from eventvault.access.changes import TokenChanges
from eventvault.access.problems import token_problems
from eventvault.clock_guard import ClockGuard
from eventvault.doctor import folders, running_store
from eventvault.doctor.backups_on_disk import look_at_backups
from eventvault.doctor.database_files import look_at_database, look_at_jobs
from eventvault.doctor.facts import Access, Brokers, Clock, Facts, StoreAnswer
from eventvault.doctor.next_start import look_at_next_start
from eventvault.errors import EventVaultError, Forbidden, InvalidSettings, KafkaRefused, KafkaUnreachable
from eventvault.files import is_there
from eventvault.kafka import connection
from eventvault.kafka.start_check import check_kafka_settings
from eventvault.rehearsals.results import RehearsalHistory
from eventvault.settings import PROJECT, Settings
from eventvault.system_errors import reason_of

GATHER_SECONDS = 10.0
"""How long everything may take together; parts that have not ended by then are listed as unanswered."""
PROBE_SECONDS = 2.0
"""How long a disk has to tell whether a folder exists."""
HANGING_SECONDS = 5.0
"""How long everything may take if a disk does not answer: parts that need that disk will not end."""
USER_SECONDS = 3.0
BROKER_SECONDS = 2.0
_FEW_BROKERS = 5


class LoadedSettings(NamedTuple):
    """The settings, and which of them are invalid; an invalid setting counts as unset.

    settings: None if a folder is unknown. hanging: the settings of folders whose disk does not answer.
    """

    settings: Settings | None
    problems: tuple[str, ...] = ()
    hanging: tuple[str, ...] = ()


def load_settings(environment: Mapping[str, str] | None = None) -> LoadedSettings:
    """Read the settings, even if some are invalid or a disk does not answer."""
    variables = dict(os.environ if environment is None else environment)
    paths = {setting: _path_of(setting, variables) for setting in folders.SETTINGS}
    hanging = _hanging(paths)
    variables |= {setting: f"/proc/self/{setting.lower()}" for setting in hanging}  # resolving the real path would wait
    loaded = _load(variables)
    if loaded.settings is None:
        return loaded._replace(hanging=hanging)
    real_paths: dict[str, Any] = {setting.lower(): paths[setting] for setting in hanging}
    return LoadedSettings(dataclasses.replace(loaded.settings, **real_paths), loaded.problems, hanging)


def _load(variables: dict[str, str]) -> LoadedSettings:
    try:
        return LoadedSettings(all_settings.load(variables))
    except InvalidSettings as error:
        problems = tuple(error.details["problems"])
    invalid = {problem.split()[0] for problem in problems}
    if invalid & set(folders.SETTINGS):
        return LoadedSettings(None, problems)
    try:
        valid = {name: text for name, text in variables.items() if name not in invalid}
        return LoadedSettings(all_settings.load(valid), problems)
    except InvalidSettings:
        return LoadedSettings(None, problems)


def _path_of(setting: str, variables: Mapping[str, str]) -> Path:
    """Return the absolute path that a setting names, without reading the disk."""
    default = next(declaration.default for declaration in all_settings.DECLARATIONS if declaration.name == setting)
    path = Path(variables.get(setting, "").strip() or default)
    with suppress(RuntimeError):  # the home of an unknown user: the setting is invalid
        path = path.expanduser()
    return PROJECT / path


def _hanging(paths: Mapping[str, Path]) -> tuple[str, ...]:
    parts = _Parts(time.monotonic() + PROBE_SECONDS)
    for setting, path in paths.items():
        parts.begin(setting, partial(is_there, path))
    for setting in paths:
        parts.end(setting)
    return tuple(parts.unanswered)


def gather(
    loaded: LoadedSettings, *, check_user: Callable[[], None] = lambda: None, seconds: float = GATHER_SECONDS
) -> Facts:
    """Return the facts of an installation.

    check_user: called first; it may change this process's user to one that may read the folders, and raises Forbidden,
    which this passes on, if there is none. seconds: for everything together; less if a disk hangs.
    """
    settings = loaded.settings
    if settings is None:
        return Facts(at=clock.system_now(), settings_problems=loaded.problems)
    for setting in folders.SETTINGS:
        small_files.leave_untouched(getattr(settings, setting.lower()))
    parts = _Parts(time.monotonic() + (min(seconds, HANGING_SECONDS) if loaded.hanging else seconds))
    if "BACKUP_DIR" not in loaded.hanging:
        parts.begin("user", check_user)
        parts.end("user", USER_SECONDS)
    parts.begin("store", lambda: running_store.ask_store(settings))
    parts.begin("lock", lambda: running_store.look_at_lock(settings))
    for setting in folders.SETTINGS:
        examine = folders.describe_hanging_folder if setting in loaded.hanging else folders.look_at_folder
        parts.begin(setting, partial(examine, settings, setting))
    parts.begin("backups", lambda: look_at_backups(settings))
    parts.begin("jobs", lambda: look_at_jobs(settings))
    parts.begin("start", lambda: look_at_next_start(settings))
    parts.begin("rehearsal", lambda: _newest_rehearsal(settings))
    parts.begin("clock", lambda: _look_at_clock(settings))
    parts.begin("access", lambda: _look_at_access(settings))
    parts.begin("brokers", lambda: _look_at_brokers(settings))
    parts.begin("last_words", lambda: running_store.look_at_last_words(settings))
    parts.begin("sizes", lambda: _sizes(settings))
    store, lock = parts.end("store") or StoreAnswer(), parts.end("lock")
    is_open = store.state != "none" or (lock is not None and lock.held)
    parts.begin("database", lambda: look_at_database(settings, is_open=is_open))
    facts = {name: parts.end(name) for name in ("database", "jobs", "backups", "start", "rehearsal", "clock", "access")}
    return Facts(
        at=clock.system_now(), settings=settings, settings_problems=loaded.problems, store=store, lock=lock,
        folders=tuple(filter(None, map(parts.end, folders.SETTINGS))), brokers=parts.end("brokers") or Brokers(),
        last_words=parts.end("last_words") or "", sizes=parts.end("sizes") or {}, unanswered=tuple(parts.unanswered),
        failed=parts.failed, **facts,
    )  # fmt: skip


class _Parts:
    """The parts, which are gathered at the same time. Forbidden is passed on; any other error is noted in `failed`."""

    def __init__(self, deadline: float) -> None:
        self.unanswered: list[str] = []
        self.failed: dict[str, str] = {}
        self._deadline = deadline
        self._threads: dict[str, threading.Thread] = {}
        self._results: dict[str, Any] = {}
        self._raised: dict[str, Exception] = {}

    def begin(self, name: str, work: Callable[[], Any]) -> None:
        def run() -> None:
            try:
                self._results[name] = work()
            except Exception as error:  # noqa: BLE001 - `end` notes or raises it
                self._raised[name] = error

        self._threads[name] = threading.Thread(target=run, name=f"doctor-{name}", daemon=True)
        self._threads[name].start()

    def end(self, name: str, seconds: float = math.inf) -> Any:
        """Return the result of a part; None if it failed or does not end in time. seconds: how long to wait at most."""
        self._threads[name].join(max(0.0, min(seconds, self._deadline - time.monotonic())))
        if name not in self._results and name not in self._raised:
            self.unanswered.append(name)
            return None
        error = self._raised.get(name)
        if isinstance(error, Forbidden):
            raise error
        if error is not None:
            self.failed[name] = _reason(error)
        return self._results.get(name)


def _reason(error: Exception) -> str:
    if isinstance(error, EventVaultError):
        return error.message
    return reason_of(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def _sizes(settings: Settings) -> dict[str, int]:
    return {setting: folders.size_of(getattr(settings, setting.lower())) for setting in folders.SETTINGS}


def _newest_rehearsal(settings: Settings) -> dict[str, Any] | None:
    newest = RehearsalHistory(settings.storage_dir).newest()
    return None if newest is None else newest.describe()


def _look_at_clock(settings: Settings) -> Clock:
    guard = ClockGuard(settings.storage_dir)
    guard.now()
    before, monotonic = clock.system_now(), time.monotonic_ns()
    time.sleep(0.02)
    now = clock.system_now()
    drift = (now - before) - (time.monotonic_ns() - monotonic) // 1000
    return Clock(now, abs(drift) < 1_000_000, guard.lead if guard.held_since is not None else None)


def _look_at_access(settings: Settings) -> Access:
    tokens = TokenChanges(settings)
    valid = sum(not token["expired"] for token in tokens.list_tokens())
    return Access(tokens.is_closed(), valid, tuple(token_problems(settings)))


def _look_at_brokers(settings: Settings) -> Brokers:
    """Connect to each broker, and log in if a login or TLS is set."""
    servers = (settings.kafka_bootstrap_servers or "").split(",")
    reached = {server: _broker_problem(server) for server in servers[:_FEW_BROKERS] if server}
    readable = tuple(connection.readable_by_others(settings)) if reached else ()
    try:
        check_kafka_settings(settings)
        if None in reached.values() and connection.properties(settings):
            _log_in(settings)
    except (InvalidSettings, KafkaRefused) as error:
        return Brokers(reached, error.message, error.hint, readable)
    except KafkaUnreachable as error:
        reached = {server: problem or error.message for server, problem in reached.items()}
    return Brokers(reached, readable=readable)


def _log_in(settings: Settings) -> None:
    # Imported where it is needed: it takes a while to load.
    from eventvault.kafka import topics
    from eventvault.kafka.clients import Admin

    topics.describe_cluster(Admin(settings))


def _broker_problem(server: str) -> str | None:
    host, _, port = server.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), BROKER_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return None
