"""Events on standard output: as stored, or for people on one line, harmless to a terminal whatever a sender wrote."""

from __future__ import annotations

import re
import shutil
import sys

from app.cli import text
from app.cli.group import drop_output
from eventvault import clock
from eventvault.damage import as_answer
from eventvault.events.event import indexed_of, raw_attributes, recorded_of, sequence_of
from eventvault.exit_statuses import FAILED
from eventvault.printable import printable

_TYPE_WIDTH, _SUBJECT_WIDTH, _SEQUENCE_WIDTH = 20, 18, 6
_NARROWEST = 20
"""The data get at least this many characters."""
_NOT_ASCII = re.compile(r"[^\x20-\x7e]")


def one_line(value: bytes, times: text.Times) -> str:
    """Return time, sequence, type, subject and data. On a terminal the data end at its edge."""
    attributes = indexed_of(value)
    cells = (
        _time(recorded_of(value), times),
        f"{sequence_of(value):>{_SEQUENCE_WIDTH}}",
        f"{printable(attributes.type):{_TYPE_WIDTH}}",
        f"{printable(attributes.subject or ''):{_SUBJECT_WIDTH}}",
    )
    line, data = "  ".join(cells), _data(value)
    if _is_terminal():
        data = data[: max(_NARROWEST, shutil.get_terminal_size().columns - len(line) - 3)]
    return f"{line}  {data}".rstrip()


def _time(instant: int, times: text.Times) -> str:
    """Return the time of an instant, with the date unless it is today."""
    second, today = times.second(instant), times.second(clock.now())[:10]
    return second[11:] if second.startswith(today) else second


def _data(value: bytes) -> str:
    attributes = raw_attributes(value)
    data = attributes.get("data", attributes.get("data_base64"))
    return "" if data is None else printable(bytes(data).decode())


def json_line(value: bytes) -> bytes:
    r"""Return an event as stored. On a terminal, characters that would control it are escaped, as `\u202e`."""
    return escaped(value) if _is_terminal() else value


def escaped(value: bytes) -> bytes:
    """Return JSON without characters that would control a terminal: they can only be in texts, where JSON escapes."""
    decoded = value.decode()
    return value if decoded.isprintable() else _NOT_ASCII.sub(lambda found: _escaped(found[0]), decoded).encode()


def _escaped(character: str) -> str:
    if character == "\n" or printable(character) == character:
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def write(piece: bytes) -> None:
    """Write to standard output. A closed pipe ends the command silently. Raises NoSpace or DiskFailed."""
    try:
        sys.stdout.buffer.write(piece)
    except OSError as error:
        _fail(error)


def flush() -> None:
    """Flush standard output. Ends the command and raises as `write` does."""
    try:
        sys.stdout.buffer.flush()
    except OSError as error:
        _fail(error)


def _fail(error: OSError) -> None:
    drop_output()
    if isinstance(error, BrokenPipeError):
        sys.exit(FAILED)
    raise as_answer("writing to standard output", error) from error
