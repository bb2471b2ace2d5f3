"""What a process loads before it knows what it is asked for: each start of a service pays for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[1]
NEEDED_BY_FEW = {
    "app.dispatcher.__main__": {"confluent_kafka", "eventvault.archive", "eventvault.store.ports", "flask", "ssl"},
    "app.store.__main__": {"apscheduler", "asyncio", "confluent_kafka", "flask", "marshmallow", "ssl"},
    "worker.__main__": {"apispec", "asyncio", "confluent_kafka", "marshmallow", "prometheus_client", "ssl"},
}
"""Module of a process → modules that most of its starts do without."""


@pytest.mark.parametrize("module", NEEDED_BY_FEW)
def test_a_process_loads_no_module_that_most_of_its_starts_do_without(module: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True
    )
    assert NEEDED_BY_FEW[module] & set(done.stdout.split()) == set()
