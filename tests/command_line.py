"""The command line for a test: `flask --app wsgi …` as a process of its own."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests import processes
from tests.service import PROJECT, service_environment

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def flask(settings_environment: dict[str, str]) -> Command:
    """Call it to run `flask --app wsgi …` to its end; nothing of it may be left."""

    def run(*arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        mark = secrets.token_hex(8)
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", *arguments],
            env=service_environment({**settings_environment, **environment}, 0, mark),
            cwd=PROJECT,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        processes.wait_until(lambda: not processes.marked(mark), f"left over: {processes.marked(mark)}")
        return done

    return run
