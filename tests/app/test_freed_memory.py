"""What a worker gives back to the system, measured in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
ANSWER_IN_MANY_THREADS = """
import threading
from app import freed_memory
from tests.processes import own_memory

THREADS = 28

def answer():
    events = [b"x" * 8_100 for _ in range(1000)]
    b",".join(events)

def serve():
    for _ in range(3):
        answer()
    answered.wait()
    measured.wait()

freed_memory.bound_freed_memory()
before = own_memory("self")
answered, measured = (threading.Barrier(THREADS + 1) for _ in range(2))
threads = [threading.Thread(target=serve) for _ in range(THREADS)]
for thread in threads:
    thread.start()
answered.wait()
freed_memory.return_freed_memory()
print(own_memory("self") - before)
measured.wait()
for thread in threads:
    thread.join()
"""


def output_of(script: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.slow
def test_after_large_answers_many_threads_hold_little_memory() -> None:
    """Without bounds, they held some 200 MB, however often `malloc_trim` was called."""
    assert int(output_of(ANSWER_IN_MANY_THREADS)) < 40 * 2**20


@pytest.mark.parametrize("function", ["bound_freed_memory", "return_freed_memory"])
def test_a_c_library_without_the_functions_is_no_error(function: str) -> None:
    script = f"from app import freed_memory; freed_memory._C_LIBRARY = object(); freed_memory.{function}(); print('ok')"
    assert output_of(script) == "ok\n"
