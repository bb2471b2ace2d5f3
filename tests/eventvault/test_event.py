"""What an event takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.processes import own_memory

EVENTS = 20_000
PROJECT = Path(__file__).resolve().parents[2]
KEEP_DRAFTS = f"""
import sys
from eventvault import event
drafts = [event.draft({{"type": "t", "id": str(n), "data": "x" * 100}}, 0) for n in range({EVENTS})]
print("kept", flush=True)
sys.stdin.read()
"""


def test_many_drafts_take_about_as_much_memory_as_their_text() -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [sys.executable, "-c", KEEP_DRAFTS], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as keeping:
        assert keeping.stdout is not None
        assert keeping.stdout.readline() == b"kept\n"
        taken = own_memory(keeping.pid)
        keeping.communicate()
    assert taken < 40 * 2**20, f"{taken / EVENTS:,.0f} bytes each, of about 230 characters"
