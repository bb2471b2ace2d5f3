"""The log tells what failed and where, and never the values that a failing function had."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable

import pytest

from eventvault import logs
from eventvault.printable import printable
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


@pytest.mark.parametrize("name", ["kept.tar.gz", "naïve.tar.gz", "two\nlines", "not UTF-8 \udcff"])
def test_a_line_has_the_logger_the_level_and_the_time_in_utc(
    formatter: logging.Formatter, request: pytest.FixtureRequest, name: str
) -> None:
    record = logging.LogRecord("BackupManager", logging.WARNING, __file__, 1, "%s is damaged", (name,), None)
    record.created = 1_769_860_800.25
    line = formatter.format(record)
    if request.node.callspec.params["formatter"] == "json":
        assert "\n" not in line
        assert json.loads(line) == {
            "event": f"{name} is damaged",
            "logger": "BackupManager",
            "level": "warning",
            "timestamp": "2026-01-31T12:00:00.250000Z",
        }
    else:
        assert line == f"2026-01-31T12:00:00.250000Z [warning ] {printable(name)} is damaged [BackupManager]"


@pytest.mark.parametrize("name", ["a\nb", "a\r\nb", "a\x1b[2Jb", "a\x85b", "a\u2028b", "a\x7fb", "a\tb"])
def test_a_name_with_control_characters_forges_no_line(
    formatter: logging.Formatter, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    try:
        raise OSError(f"cannot read {name}\n2026-01-01 [info] forged")
    except OSError:
        logging.getLogger("BackupManager").exception("reading %s failed", name)
    caplog.records[-1].exc_text = None  # of pytest's own formatter
    first, *others = formatter.format(caplog.records[-1]).split("\n")
    assert "reading a" in first
    assert all(line.startswith("  | ") for line in others)
    assert all(sign.isprintable() for line in (first, *others) for sign in line)
