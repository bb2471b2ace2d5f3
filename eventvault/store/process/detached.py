"""Starts a program that outlives this process, with the same settings. It can report why it ends during its start.

The dispatcher of jobs starts its worker so, too.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from eventvault import environment
from eventvault.settings import PROJECT, Settings

FAILURE_VARIABLE = "EVENTVAULT_FAILURE"
"""Environment variable of such a process: the descriptor of a pipe, which it closes once it listens.

Before that it may write into the pipe why it cannot serve.
"""
MAX_FAILURE_BYTES = 4096


def start_detached(
    settings: Settings,
    command: Sequence[str],
    variables: Mapping[str, str],
    errors: int | None,
    *,
    pass_fds: Sequence[int] = (),
    with_secrets: bool = True,
) -> subprocess.Popen[bytes]:
    """Start a program with a session of its own and with these settings; the secret ones are not in its environment.

    variables: of its environment, besides the settings. errors: descriptor of its standard output and error.
    with_secrets: it gets the secret settings, too.
    """
    secret = {**(settings.secrets() if with_secrets else {}), **environment.proxies(), **_for_handlers(settings)}
    with environment.hand_over(secret) as secrets:
        own = {**variables, environment.SECRETS_VARIABLE: str(secrets)}
        return subprocess.Popen(  # nosec B603  # no shell, and no word of a client
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            cwd=PROJECT,
            env=environment.for_child({**settings.to_environment(), **own}),
            pass_fds=[*pass_fds, secrets],
            start_new_session=True,
        )


def _for_handlers(settings: Settings) -> dict[str, str]:
    """Return the environment variables that WORKER_ENV names: the local worker of jobs passes them on to handlers."""
    return {name: os.environ[name] for name in settings.worker_env if name in os.environ}


def own_errors() -> int | None:
    """Return the standard error of this process; None if it has none."""
    return sys.__stderr__.fileno() if sys.__stderr__ else None


def report_listening() -> None:
    """Tell the parent process that this one listens."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        os.close(int(os.environ.pop(FAILURE_VARIABLE)))


def report_failure(reason: str) -> None:
    """Tell the parent process why this one ends before it listens."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        os.write(int(os.environ[FAILURE_VARIABLE]), reason.encode(errors="replace")[:MAX_FAILURE_BYTES])
