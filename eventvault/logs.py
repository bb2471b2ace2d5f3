"""Log lines of every process: text on a terminal, JSON elsewhere, on standard error.

The logger's name is in each line, so that `Select-String "BackupManager"` finds what the backup manager says.
"""

from __future__ import annotations

import logging
import sys

import structlog

from eventvault.settings import Settings

_SHARED: list[structlog.typing.Processor] = [
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def setup(settings: Settings) -> None:
    """Send what this process logs to standard error, in the form that LOG_FORMAT says."""
    form = settings.log_format or ("text" if sys.stderr.isatty() else "json")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(form))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for chatty in ("apscheduler", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def formatter(form: str) -> logging.Formatter:
    """form: `text` or `json`."""
    if form == "text":
        final: list[structlog.typing.Processor] = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    else:
        final = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
    )
