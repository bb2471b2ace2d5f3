"""The log format of all processes: text on a terminal, JSON elsewhere, on standard error.

Every line has the logger's name, so that `Select-String "BackupManager"` finds the lines of the backup manager.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from eventvault.printable import printable
from eventvault.settings import Settings


def setup(settings: Settings) -> logging.Formatter:
    """Send this process's log to standard error in the format of LOG_FORMAT; return its formatter."""
    form = settings.log_format or ("text" if sys.stderr.isatty() else "json")
    handler = logging.StreamHandler(sys.stderr)
    formatter = _TextFormatter() if form == "text" else _JsonFormatter()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    return formatter


class _Formatter(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - of logging
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class _TextFormatter(_Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - of logging
        """Return one line: control characters are escaped, so the name of a file cannot look like a line of the log."""
        level = record.levelname.lower()
        return f"{self.formatTime(record)} [{level:8}] {printable(record.getMessage())} [{record.name}]"

    def formatException(self, ei: Any) -> str:  # noqa: N802 - of logging
        """Return the traceback with its lines indented, so that no text in it looks like a line of the log."""
        return "\n".join(f"  | {printable(line)}" for line in super().formatException(ei).split("\n"))


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "event": record.getMessage(),
            "logger": record.name,
            "level": record.levelname.lower(),
            "timestamp": self.formatTime(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
