"""Prometheus's own checker, `promtool`, of Debian's package `prometheus`."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def promtool(*arguments: str, text: str = "", status: int = 0) -> str:
    """Run it with `text` as its input, and return what it says. status: that it shall end with.

    Where it is not installed, the test is skipped with the reason; with CI=true that is a failure.
    """
    program = shutil.which("promtool")
    if program is None:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail("CI=true does not allow to skip: there is no promtool (Debian's package prometheus)")
        pytest.skip("there is no promtool (Debian's package prometheus)")
    command = [program, *arguments]
    ran = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)
    said = ran.stdout + ran.stderr
    assert ran.returncode == status, said
    return said
