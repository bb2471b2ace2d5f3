"""Fixtures that every part of the tests may use; the larger ones stand in plugins of their own."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

pytest_plugins = ["tests.service", "tests.stores", "tests.kafka_broker", "tests.nginx"]

# The tests start hundreds of processes: none shall compile its modules anew, whatever the environment says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_configure() -> None:
    """Of `make test &` a shell has SIGINT ignored, and the services that the tests interrupt would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def settings_environment(tmp_path: Path) -> dict[str, str]:
    """Environment variables that keep the three data folders beneath `tmp_path`; all else is left at its default."""
    folders = {"STORAGE_DIR": "storage", "BACKUP_DIR": "backups", "RESTORE_DIR": "restore"}
    return {name: str(tmp_path / folder) for name, folder in folders.items()}
