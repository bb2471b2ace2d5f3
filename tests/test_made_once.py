"""What a test process makes once is gone when it ends, also of one that a test forks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service import PROJECT

pytestmark = pytest.mark.slow

MAKERS = {
    "a clock": "from tests.clock_shim import SettableClock; SettableClock(folder)",
    "failing calls": "from tests.failing_calls import FailingCalls; FailingCalls(folder, folder)",
    "a filled database": "from tests.filled import fill; fill(folder / 'database', 100_000)",
}
FORKS = "if os.fork() == 0: sys.exit()\nassert not os.wait()[1] and os.listdir(os.environ['TMPDIR'])"


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler is installed")
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_nothing_stays_in_the_temporary_folder(make: str, tmp_path: Path) -> None:
    for name in ("own", "temporary"):
        (tmp_path / name).mkdir()
    program = f"import os, pathlib, sys\nfolder = pathlib.Path(sys.argv[1])\n{make}\n{FORKS}"
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-c", program, str(tmp_path / "own")]
    subprocess.run(command, env=environment, cwd=PROJECT, check=True, timeout=120)
    assert not list((tmp_path / "temporary").iterdir())
