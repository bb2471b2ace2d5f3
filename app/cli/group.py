"""The groups of commands, and the behaviour that all commands in them share."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from app.cli.meta import CA_FILE, INSECURE, JSON, URL, UTC
from app.cli.program import in_words_of_program
from eventvault.errors import EventVaultError
from eventvault.exit_statuses import INTERRUPTED

_CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_GAP = "  "


def is_json(context: click.Context | None, arguments: Sequence[str]) -> bool:
    """Return whether `--json` was given, before or after the command."""
    is_set = context is not None and (context.meta.get(JSON) or context.params.get("as_json"))
    return "--json" in arguments or bool(is_set)


class _Formatter(click.HelpFormatter):
    """Names commands as they were called: the texts of help have them as `flask …`."""

    def write_text(self, text: str) -> None:
        super().write_text(in_words_of_program(text))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl([(name, in_words_of_program(what)) for name, what in rows], col_max, col_spacing)


class _Context(click.Context):
    formatter_class = _Formatter


class _Reporting(click.Command):
    """Reports a wrong command line, with `--json` as an object, and an output that cannot be written completely."""

    context_class: type[click.Context] = _Context

    def __init__(self, name: str | None, **attributes: Any) -> None:
        settings = {**_CONTEXT, **(attributes.pop("context_settings", None) or {})}
        super().__init__(name, context_settings=settings, **attributes)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _usage_errors_reported(as_json=is_json(parent, args)):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        replace_closed_streams()
        write_whole_texts()
        as_json = is_json(ctx, ctx.args)
        with _usage_errors_reported(as_json=as_json):
            try:
                return super().invoke(ctx)
            except EventVaultError as error:  # settings or a store that cannot be used
                _exit_with_error(error, as_json=as_json)
            except BrokenPipeError:
                raise  # click ends the command silently, as the reader has closed the pipe
            except OSError as error:  # the command itself reports the errors of its work
                _exit_unwritten(error)
            except KeyboardInterrupt:
                _exit_interrupted()
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
                _exit_unreadable(ctx, error)


class Command(_Reporting):
    """A command that is in no group, such as `doctor`."""


class Deferred(click.Command):
    """A command whose module is imported once somebody calls it or asks for its help.

    where: `module:attribute`. summary: its line in the help of its group.
    """

    def __init__(self, name: str, where: str, summary: str, *, hidden: bool = False) -> None:
        super().__init__(name, help=summary, hidden=hidden, add_help_option=False)
        self._where = where

    def load(self) -> click.Command:
        module, _, attribute = self._where.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return as_member(command)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        return self.load().make_context(info_name, args, parent, **extra)

    def get_short_help_str(self, limit: int = 45) -> str:
        return self.help or ""


class Group(_Reporting, click.Group):
    """A group of commands; `--json` and `--utc` may come before or after the command."""

    def __init__(
        self, name: str | None = None, commands: Mapping[str, click.Command] | None = None, **attributes: Any
    ) -> None:
        params = [*(attributes.pop("params", None) or []), *_options_for_all()]
        super().__init__(name, commands=dict(commands or {}), params=params, **attributes)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        super().add_command(as_member(cmd), name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = self.summaries()
        formatter.write_paragraph()
        for line in in_two_columns(rows, formatter.width) or in_one_column(rows):
            formatter.write(f"  {line}\n")

    def summaries(self) -> list[tuple[str, str]]:
        """Return the name and the summary of each command that help shows."""
        visible = [(name, command) for name, command in self.commands.items() if not command.hidden]
        return [(name, command.get_short_help_str(200)) for name, command in visible]


def _options_for_all() -> list[click.Parameter]:
    return [
        _option_for_all("--json", JSON, "One JSON object instead of text.", is_flag=True),
        _option_for_all("--utc", UTC, "Times in UTC instead of the local zone.", is_flag=True),
        *_address_options(hidden=False),
    ]


def _address_options(*, hidden: bool) -> list[click.Parameter]:
    return [
        _option_for_all("--url", URL, "Of a service on another machine; also EVENTVAULT_URL.", hidden=hidden),
        _option_for_all("--insecure", INSECURE, "Allow plain HTTP to it.", is_flag=True, hidden=hidden),
        _option_for_all("--ca-file", CA_FILE, "Whose certificates are trusted.", metavar="FILE", hidden=hidden),
    ]


def as_member(command: click.Command) -> click.Command:
    """Return a command that takes `--url` and what belongs to it after its name too; help names it as it was called.

    Its options for help do not depend on the group, because click makes them only once, when they are first needed.
    """
    if not isinstance(command, Deferred | Group) and all(option.name != "url" for option in command.params):
        command.params.extend(_address_options(hidden=True))
        command.context_class = _Context
        command.context_settings = {**_CONTEXT, **command.context_settings}
    return command


def _option_for_all(name: str, key: str, what: str, **options: Any) -> click.Option:
    def note(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            context.meta[key] = value

    return click.Option([name], expose_value=False, callback=note, help=what, **options)


def in_one_column(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0)
    return [f"{name:{width}}{_GAP}{summary}".rstrip() for name, summary in rows]


def in_two_columns(rows: Sequence[tuple[str, str]], room: int) -> list[str]:
    """Return the rows two by two; an empty list if there is no room for that."""
    lines = in_one_column(rows)
    first, second = lines[::2], lines[1::2]
    width = max(map(len, first), default=0)
    if len(lines) < 4 or 2 + width + len(_GAP) + max(map(len, second)) > room:
        return []
    pairs = zip(first, [*second, ""], strict=False)
    return [f"{one:{width}}{_GAP}{other}".rstrip() for one, other in pairs]


class _Messages(io.TextIOWrapper):
    """Standard error. A message that cannot be written does not end the work."""

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

    Without one, Python drops what the system does not take at once, such as the end of a text on a full disk. What the
    encoding of a stream lacks is escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        encoding, errors = sys.stdout.encoding, sys.stdout.errors
        sys.stdout = open(sys.stdout.fileno(), "w", encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115


def drop_output() -> None:
    """Let nothing be written at the exit, which would fail again and print a traceback."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _exit_with_error(error: EventVaultError, *, as_json: bool) -> NoReturn:
    from app.cli import exits  # help and completion do not need it

    exits.exit_with_error(error, as_json=as_json)


def _exit_unwritten(error: OSError) -> NoReturn:
    from eventvault.damage import as_answer

    drop_output()
    _exit_with_error(as_answer("writing to standard output", error), as_json=False)


def _exit_interrupted() -> NoReturn:
    click.echo("", err=True)
    sys.exit(INTERRUPTED)


def _exit_unreadable(context: click.Context, error: Exception) -> None:
    """Exit because another machine's answer lacks what the command prints. Raise the error if this machine answered."""
    from app.cli.connection import current_connection

    if current_connection(context).is_here:
        raise error
    from app.cli import exits
    from app.cli.remote.errors import unreadable

    exits.exit_with_error(unreadable("the command", repr(error)), as_json=is_json(context, context.args))


@contextmanager
def _usage_errors_reported(*, as_json: bool) -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        if not as_json:
            raise
        from app.cli import exits

        exits.exit_with_usage_error(error)
