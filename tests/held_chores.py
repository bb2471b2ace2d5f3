"""Chores that stop before they begin, so that a test meets one that is under way however busy the machine is.

`python -m tests.held_chores MODULE …` runs a store, `MODULE`, whose chores stop if the file that HELD_CHORES names has
their name in it. `gunicorn tests.held_chores_wsgi:app` is the service with such a store.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from eventvault import chores
from tests import processes

if TYPE_CHECKING:
    from tests.service import Service  # a store need not load it

HELD_CHORES = "EVENTVAULT_TEST_HELD_CHORES"
_HOLD = 'kill -STOP $$; exec "$@"'


class HeldChores:
    """What the chores of a service wait for. Start it with `command` and `environment`."""

    command = (sys.executable, "-m", "gunicorn", "tests.held_chores_wsgi:app")

    def __init__(self, folder: Path) -> None:
        self._file = folder / "held_chores"
        self.environment = {HELD_CHORES: str(self._file)}

    def hold(self, name: str) -> None:
        """From now on, each chore of that name stops before it begins."""
        self._file.write_text(name)

    def wait_for_one(self, running: Service) -> int:
        """Wait until a chore is stopped, and return its process id."""
        processes.wait_until(lambda: any(map(_is_stopped, _held(running))), "no chore is begun")
        return next(filter(_is_stopped, _held(running)))

    def hold_no_more(self) -> None:
        """Let those that are not stopped yet begin at once."""
        self._file.unlink(missing_ok=True)

    def go_on(self, running: Service) -> None:
        """Let all chores begin."""
        self.hold_no_more()
        for pid in _held(running):
            processes.wait_until(lambda pid=pid: _is_stopped(pid) or pid not in _held(running), "it does not stop")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _held(running: Service) -> list[int]:
    return [pid for pid, command in running.processes().items() if _HOLD in command]


def _is_stopped(pid: int) -> bool:
    return processes.states(pid) == ["T"]


def hold(is_held: Callable[[str], bool]) -> None:
    """Let the chores that this process starts stop before they begin. is_held: whether one of that name does."""
    started = subprocess.Popen

    def start(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        held = command[1:3] == ["-m", "eventvault.chores"] and is_held(command[3])
        return started(["sh", "-c", _HOLD, "sh", *command] if held else command, **options)  # type: ignore[call-overload, no-any-return]

    chores.subprocess.Popen = start  # type: ignore[misc, assignment]


def _is_named(name: str) -> bool:
    with suppress(FileNotFoundError):
        return Path(os.environ[HELD_CHORES]).read_text() == name
    return False


if __name__ == "__main__":
    hold(_is_named)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
