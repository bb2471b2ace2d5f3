"""Signals that end a worker of real gunicorn."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests import processes
from tests.app.test_gunicorn import PROJECT, Serve, serve, workers

__all__ = ["serve"]

CONFIGURATION = """\
import os
import runpy
from pathlib import Path

globals().update(runpy.run_path({ours!r}))
first = Path({first!r})


def post_fork(server, worker):
    if not first.exists():
        first.write_text(str(os.getpid()))
        os.kill(os.getpid(), {number})
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_ends_a_worker_that_is_still_starting(serve: Serve, tmp_path: Path, number: signal.Signals) -> None:
    first, configuration = tmp_path / "first", tmp_path / "configuration.py"
    ours = str(PROJECT / "gunicorn.conf.py")
    configuration.write_text(CONFIGURATION.format(ours=ours, first=str(first), number=int(number)))

    running = serve("--config", str(configuration), WEB_CONCURRENCY="1")

    processes.wait_until(running.ready, "gunicorn does not answer")
    processes.wait_until(lambda: workers(running) and first.read_text() not in map(str, workers(running)),
                         "the worker lives on")  # fmt: skip
    assert running.stop() == 0
