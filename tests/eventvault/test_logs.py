"""The log tells what failed and where, and never the values that a failing function had."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest

from eventvault import logs
from eventvault.settings import Settings

SECRET = "never-to-be-logged"


@pytest.fixture(params=["text", "json"])
def formatter(request: pytest.FixtureRequest, settings_with: Callable[..., Settings]) -> logging.Formatter:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    formatter = logs.setup(settings_with({"LOG_FORMAT": request.param}))
    root.handlers = handlers
    root.setLevel(level)
    return formatter


def test_a_traceback_has_no_values_and_costs_little(
    formatter: logging.Formatter, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(payload: dict[str, list[str]]) -> None:
        token = SECRET + str(len(payload))
        raise RuntimeError(f"what failed: {len(token)}")

    try:
        failing({SECRET: [SECRET] * 1000})
    except RuntimeError:
        logging.getLogger("BackupManager").exception("it failed")
    began = time.process_time()
    line = formatter.format(caplog.records[-1])
    assert time.process_time() - began < 0.2
    assert "RuntimeError: what failed" in line
    assert "in failing" in line
    assert "it failed" in line
    assert SECRET not in line
