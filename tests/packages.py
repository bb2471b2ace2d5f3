"""Gets packages of other languages for the tests that use them, below `tests/target`; skips tests where it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

TARGET = Path(__file__).parent / "target"
BUILT_WITHIN = 240


def need(*commands: str) -> None:
    """Skip the test if a command is missing."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        pytest.skip(f"there is no {', '.join(missing)}")


def prepare(command: Sequence[str], folder: Path) -> None:
    """Run a command that gets packages or builds. Skip the test if it fails, as without a network."""
    environment = {**os.environ, "GOMODCACHE": str(TARGET / "go-modules"), "GOTOOLCHAIN": "local"}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=BUILT_WITHIN, check=False
    )
    if ended.returncode:
        pytest.skip(f"{command[0]} failed: {(ended.stderr or ended.stdout)[-500:]}")
