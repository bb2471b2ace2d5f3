"""Reaches other machines through a child process with a deadline, which reads the addresses from a pipe."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eventvault import environment, progress
from eventvault.child_input import send_input
from eventvault.errors import InvalidSettings
from eventvault.notify_addresses import mask
from eventvault.settings import Settings

log = logging.getLogger("BackupManager")

CHECK_SECONDS = 30.0
"""How long a start of the service waits for the check whether Apprise knows the addresses."""
START_SECONDS = 30.0
"""How long the child process may take to load Apprise, on a machine that is busy."""
_KILLED_SECONDS = 5.0
_STEP_SECONDS = 1.0
_PROJECT = Path(__file__).resolve().parent.parent.parent


class Result(NamedTuple):
    """The outcome for one address. problem: None if it succeeded."""

    problem: str | None
    seconds: float


class Receivers:
    """Runs the child processes. After `stop` none runs."""

    def __init__(self) -> None:
        self.is_stopped = False
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def ask(self, kind: str, addresses: Mapping[int, str], seconds: float, **request: Any) -> dict[int, Result]:
        """Return the outcome for each address, by its place.

        kind: as in `eventvault.notifications.child`. seconds: how long all of them have together.
        """
        ordered = list(addresses.items())
        document = {"addresses": ordered, "seconds": seconds, "proxies": environment.proxies(), **request}
        output = self._run(kind, json.dumps(document).encode(), seconds + START_SECONDS)
        results = {line["place"]: Result(line["problem"], line["seconds"]) for line in _lines(output)}
        missing = Result(f"no answer within {seconds:.0f} s", seconds)
        return {place: results.get(place, missing) for place in addresses}

    def stop(self) -> None:
        """Kill the running processes, and start no more."""
        with self._lock:
            self.is_stopped = True
            for child in self._running:
                child.kill()

    def _run(self, kind: str, request: bytes, seconds: float) -> bytes:
        child = subprocess.Popen(  # nosec B603  # no shell; the message goes through a pipe
            [sys.executable, "-m", "eventvault.notifications.child", kind, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a plug-in could print a secret
            cwd=_PROJECT,
            env=environment.for_child({}),
        )
        try:
            with self._lock:
                self._running.add(child)
                if self.is_stopped:
                    child.kill()
            return _output_of(child, request, time.monotonic() + seconds)
        finally:
            with self._lock:
                self._running.discard(child)


def _output_of(child: subprocess.Popen[bytes], request: bytes, deadline: float) -> bytes:
    """Return what the child writes until its end, or until the deadline (monotonic), at which it is killed."""
    send_input(child, request)
    while True:
        try:
            return child.communicate(timeout=_STEP_SECONDS)[0]
        except subprocess.TimeoutExpired:
            progress.step()
        if time.monotonic() >= deadline:
            child.kill()
        if time.monotonic() >= deadline + _KILLED_SECONDS:
            return b""


def check_addresses(settings: Settings, seconds: float = CHECK_SECONDS) -> None:
    """Raise InvalidSettings for addresses that Apprise does not know. Costs nothing without NOTIFY_URLS.

    If the check itself fails, no address is refused: the first message will show whether it works.
    """
    if not settings.notify_urls:
        return
    addresses = dict(enumerate(settings.notify_urls))
    try:
        results = Receivers().ask("check", addresses, seconds)
    except OSError as error:
        log.warning("it cannot be checked whether Apprise knows the addresses of NOTIFY_URLS: %s", error)
        return
    unknown = [mask(addresses[place]) for place, result in results.items() if result.problem == "unknown"]
    if unknown:
        problem = f"NOTIFY_URLS is {' '.join(unknown)!r}; allowed: addresses of Apprise, separated by blanks"
        hint = (
            "Apprise does not know such an address, or a part of it is missing: https://github.com/caronc/apprise/wiki"
        )
        raise InvalidSettings(problem, hint=hint, problems=[problem])


def _lines(output: bytes) -> Iterator[dict[str, Any]]:
    """Yield the results. The last line is incomplete if the process was killed."""
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)
