"""Gathers all facts, each part in a thread of its own, because a disk may not answer at all: it then has a deadline."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from eventvault import clock, small_files
from eventvault import settings as all_settings
from eventvault.clock_guard import ClockGuard
from eventvault.doctor import folders, running_store
from eventvault.doctor.backups_on_disk import look_at_backups
from eventvault.doctor.database_files import look_at_database
from eventvault.doctor.facts import Clock, Facts, StoreAnswer
from eventvault.doctor.next_start import look_at_next_start
from eventvault.errors import EventVaultError, Forbidden, InvalidSettings
from eventvault.rehearsals.results import RehearsalHistory
from eventvault.settings import Settings
from eventvault.system_errors import reason_of

GATHER_SECONDS = 12.0
"""How long everything may take together; what has not ended then is named as not answering."""
USER_SECONDS = 3.0
BROKER_SECONDS = 2.0
_FEW_BROKERS = 5


def load_settings(environment: Mapping[str, str] | None = None) -> tuple[Settings | None, tuple[str, ...]]:
    """Return the settings, and what in them is not allowed. A setting that is not allowed counts as unset.

    There are none if a folder is not known.
    """
    variables = dict(os.environ if environment is None else environment)
    try:
        return all_settings.load(variables), ()
    except InvalidSettings as error:
        problems = tuple(error.details["problems"])
    wrong = {problem.split()[0] for problem in problems}
    if wrong & set(folders.SETTINGS):
        return None, problems
    try:
        return all_settings.load({name: text for name, text in variables.items() if name not in wrong}), problems
    except InvalidSettings:
        return None, problems


def gather(
    settings: Settings,
    problems: tuple[str, ...] = (),
    *,
    check_user: Callable[[], None] = lambda: None,
    seconds: float = GATHER_SECONDS,
) -> Facts:
    """Return the facts of an installation.

    problems: of the settings. check_user: comes first; it may become the user who may look, and raises Forbidden, which
    ends this, if nobody may. seconds: for everything together.
    """
    for setting in folders.SETTINGS:
        small_files.leave_untouched(getattr(settings, setting.lower()))
    parts = _Parts(time.monotonic() + seconds)
    parts.begin("user", check_user)
    parts.end("user", USER_SECONDS)
    parts.begin("store", lambda: running_store.ask_store(settings))
    parts.begin("lock", lambda: running_store.look_at_lock(settings))
    for setting in folders.SETTINGS:
        parts.begin(setting, partial(folders.look_at_folder, settings, setting))
    parts.begin("backups", lambda: look_at_backups(settings))
    parts.begin("start", lambda: look_at_next_start(settings))
    parts.begin("rehearsal", lambda: _newest_rehearsal(settings))
    parts.begin("clock", lambda: _look_at_clock(settings))
    parts.begin("brokers", lambda: _look_at_brokers(settings))
    parts.begin("last_words", lambda: running_store.look_at_last_words(settings))
    parts.begin("sizes", lambda: _sizes(settings))
    store, lock = parts.end("store") or StoreAnswer(), parts.end("lock")
    is_open = store.state != "none" or (lock is not None and lock.held)
    parts.begin("database", lambda: look_at_database(settings, is_open=is_open))
    found = {name: parts.end(name) for name in ("database", "backups", "start", "rehearsal", "clock")}
    return Facts(
        at=clock.system_now(), settings=settings, settings_problems=problems, store=store, lock=lock,
        folders=tuple(filter(None, map(parts.end, folders.SETTINGS))), brokers=parts.end("brokers") or {},
        last_words=parts.end("last_words") or "", sizes=parts.end("sizes") or {}, unanswered=tuple(parts.unanswered),
        failed=parts.failed, **found,
    )  # fmt: skip


class _Parts:
    """Looks that run at the same time. One that raises Forbidden ends all; another error is noted."""

    def __init__(self, deadline: float) -> None:
        self.unanswered: list[str] = []
        self.failed: dict[str, str] = {}
        self._deadline = deadline
        self._threads: dict[str, threading.Thread] = {}
        self._found: dict[str, Any] = {}
        self._raised: dict[str, Exception] = {}

    def begin(self, name: str, look: Callable[[], Any]) -> None:
        def run() -> None:
            try:
                self._found[name] = look()
            except Exception as error:  # noqa: BLE001 - a check says what it was
                self._raised[name] = error

        self._threads[name] = threading.Thread(target=run, name=f"doctor-{name}", daemon=True)
        self._threads[name].start()

    def end(self, name: str, seconds: float = math.inf) -> Any:
        """Return what a look found; None if it failed or does not end in time. seconds: at most until then."""
        self._threads[name].join(max(0.0, min(seconds, self._deadline - time.monotonic())))
        if name not in self._found and name not in self._raised:
            self.unanswered.append(name)
            return None
        error = self._raised.get(name)
        if isinstance(error, Forbidden):
            raise error
        if error is not None:
            self.failed[name] = _reason(error)
        return self._found.get(name)


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


def _look_at_brokers(settings: Settings) -> dict[str, str | None]:
    """Return for each broker why it takes no connection; None if it takes one."""
    servers = (settings.kafka_bootstrap_servers or "").split(",")
    return {server: _broker_problem(server) for server in servers[:_FEW_BROKERS] if server}


def _broker_problem(server: str) -> str | None:
    host, _, port = server.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), BROKER_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return None
