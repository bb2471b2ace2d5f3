"""The command line for a test: in this process on a store of the test, or as a process of its own."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest
from click.testing import CliRunner, Result

from app.cli.connection import Connection
from app.cli.root import root
from eventvault.jobs.port import Jobs
from eventvault.settings import Settings
from eventvault.store.ports.store import Store
from tests import processes
from tests.service import PROJECT, service_environment

Command = Callable[..., "subprocess.CompletedProcess[str]"]
EVENTVAULT = (sys.executable, "-m", "app.cli")
FLASK = (sys.executable, "-m", "flask", "--app", "wsgi")


def in_process(
    settings: Settings, store: Store, *, called: str = "flask", jobs: Jobs | None = None
) -> Callable[..., Result]:
    """Return what runs a command on that store and these jobs, as if it was called by that name."""

    def run(*arguments: str, **more: object) -> Result:
        return CliRunner().invoke(
            root(), list(arguments), obj=Connection(settings, store, jobs), prog_name=called, **more
        )

    return run


@pytest.fixture
def flask(settings_environment: dict[str, str]) -> Command:
    """Call it to run `flask --app wsgi …` to its end; nothing of it may be left."""
    return _running(FLASK, settings_environment)


@pytest.fixture
def eventvault(settings_environment: dict[str, str]) -> Command:
    """As `flask`, for `eventvault …`."""
    return _running(EVENTVAULT, settings_environment)


def _running(program: Sequence[str], settings_environment: dict[str, str]) -> Command:
    def run(*arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        mark = secrets.token_hex(8)
        done = subprocess.run(
            [*program, *arguments],
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
