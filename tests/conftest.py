"""Fixtures that every part of the tests may use; the larger ones stand in plugins of their own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.schedule",
    "tests.stores",
    "tests.copies",
    "tests.service",
    "tests.command_line",
    "tests.kafka_broker",
    "tests.nginx",
    "tests.upstream",
    "tests.mounts",
]

# The tests start hundreds of processes: none shall compile its modules anew, whatever the environment says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Hypothesis takes an example that needs more than 0.2 s for a failure; on a busy machine any example may.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("fast", settings.get_profile("tests"), max_examples=20)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """What a test starts in this process may set the umask, as each process of EventVault does."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def pytest_configure() -> None:
    """Of `make test &` a shell has SIGINT ignored, and the services that the tests interrupt would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
