"""`docs/jobs.md`: from nothing to a cron job, as the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.pages import PROJECT, own_registry, run_page
from tests.service import Service

PAGE = "docs/jobs.md"
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks() -> list[str]:
    """The module with the handler, and the test of it."""
    return _PYTHON.findall((PROJECT / PAGE).read_text())


def test_the_examples_do_what_the_page_says(service: Callable[..., Service], tmp_path: Path) -> None:
    (tmp_path / "reports.py").write_text(blocks()[0])
    own = {**own_registry(PAGE, tmp_path), "JOBS_ENABLED": "true", "PYTHONPATH": str(tmp_path)}
    assert own["WORKER_JOBS"] == "reports"
    run_page(PAGE, service(workers=1, environment=own).port, **own)


def test_the_handler_is_tested_as_the_page_says(tmp_path: Path) -> None:
    module, test = blocks()
    (tmp_path / "reports.py").write_text(module)
    (tmp_path / "test_reports.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "test_reports.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": f"{PROJECT}:{tmp_path}", "PATH": "/usr/bin:/bin"}, timeout=120,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
