"""The log format of all processes: text on a terminal, JSON elsewhere, on standard error.

Every line has the logger's name, so that `Select-String "BackupManager"` finds the lines of the backup manager.
"""

from __future__ import annotations

import logging
import sys

import structlog

from eventvault.printable import printable
from eventvault.settings import Settings

_SHARED: list[structlog.typing.Processor] = [
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def setup(settings: Settings) -> logging.Formatter:
    """Send this process's log to standard error in the format of LOG_FORMAT; return its formatter."""
    form = settings.log_format or ("text" if sys.stderr.isatty() else "json")
    handler = logging.StreamHandler(sys.stderr)
    formatter = _formatter(form)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for chatty in ("apscheduler", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return formatter


def _on_one_line(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape control characters, so that the name of a file cannot look like a line of the log."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _formatter(form: str) -> logging.Formatter:
    if form == "text":
        final: list[structlog.typing.Processor] = [
            _on_one_line,
            # The default traceback has all local variables, so events and secrets, and takes 0.4 s.
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    else:
        final = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
    )
