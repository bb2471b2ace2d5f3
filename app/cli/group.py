"""The groups of commands: what holds for each command in them, whatever it does."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from flask.cli import AppGroup

from app.cli import exits
from eventvault.damage import as_answer


class Group(AppGroup):
    """With `--json` a wrong command line is an object too, and an output that cannot be written whole is an error."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> click.Context:
        with _usage_errors_reported(list(args)):
            return super().make_context(info_name, args, *rest, **more)

    def invoke(self, ctx: click.Context) -> Any:
        replace_closed_streams()
        write_whole_texts()
        with _usage_errors_reported(ctx.args):
            try:
                return super().invoke(ctx)
            except BrokenPipeError:
                raise  # click ends the command without a word: whoever reads has seen enough
            except OSError as error:  # the command reports those of its work itself
                drop_output()
                exits.exit_with_error(as_answer("writing to standard output", error), as_json=False)


class _Messages(io.TextIOWrapper):
    """Standard error: what is said beside the result does not end the work if nobody can write it."""

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def replace_closed_streams() -> None:
    """Open `/dev/null` for each standard stream that the caller closed, as cron may do; Python has None for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
    if sys.stderr is sys.__stderr__ and sys.stderr is not None:
        raw = io.FileIO(sys.stderr.fileno(), "w", closefd=False)
        sys.stderr = _Messages(io.BufferedWriter(raw), sys.stderr.encoding, sys.stderr.errors, line_buffering=True)


def write_whole_texts() -> None:
    """Put a buffer before standard output where `PYTHONUNBUFFERED` took it away.

    Without one, Python drops what the system does not take at once, such as the end of a text on a full disk.
    """
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        encoding, errors = sys.stdout.encoding, sys.stdout.errors
        sys.stdout = open(sys.stdout.fileno(), "w", encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115


def drop_output() -> None:
    """Let nothing be written at the exit, which would fail again and print a traceback."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


@contextmanager
def _usage_errors_reported(arguments: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        if "--json" not in arguments:
            raise
        exits.exit_with_usage_error(error)
