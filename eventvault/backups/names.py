"""Says what an archive's name may be, and names new ones: `backup_YYYY-MM-DD_HHMMSS[_label][_number].tar.gz` in UTC.

A name is never a path: each name from outside goes through `check_name` before it meets a folder.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime

from eventvault import clock
from eventvault.errors import InvalidInput

SUFFIX = ".tar.gz"
KNOWN_SUFFIXES = (SUFFIX, ".tar.gz.age")
"""How names end that mean an archive and nothing else; the second one is for encrypted archives."""
MAX_NAME_BYTES = 255
"""Bytes that file systems allow for a name."""
MAX_SLUG_LENGTH = 60

_INSTANT = re.compile(r"backup_([0-9]{4}-[0-9]{2}-[0-9]{2}_[0-9]{6})(?:_.+)?\.tar\.gz")


def slug(label: str | None) -> str:
    """The label in `[a-z0-9-]`, at most 60 characters; accents are dropped, all else becomes a hyphen. May be empty."""
    plain = unicodedata.normalize("NFKD", label or "").encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_SLUG_LENGTH].rstrip("-")


def candidates(instant: int, label: str | None = None) -> Iterator[str]:
    """Names for an archive made at `instant` (microseconds), in the order in which they are to be tried; endless."""
    stem = f"backup_{clock.from_microseconds(instant):%Y-%m-%d_%H%M%S}"
    if text := slug(label):
        stem += f"_{text}"
    yield stem + SUFFIX
    for number in itertools.count(2):
        yield f"{stem}_{number}{SUFFIX}"


def instant_of(name: str) -> int | None:
    """The instant that a name gives, in microseconds and to the second; None where it gives none."""
    found = _INSTANT.fullmatch(name)
    if not found:
        return None
    try:
        instant = datetime.strptime(found[1], "%Y-%m-%d_%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return clock.to_microseconds(instant)


def looks_like_archive(name: str) -> bool:
    """Whether the file's name ends as an archive's does and is not hidden: copying programs and macOS hide theirs."""
    return name.endswith(SUFFIX) and not name.startswith(".")


def is_name(name: str) -> bool:
    """Whether an archive may have this name."""
    return _problem(name) is None


def check_name(name: object) -> str:
    """The name, if it may be an archive's. Raises InvalidInput that says what is wrong with it."""
    problem = _problem(name)
    if problem is not None or not isinstance(name, str):
        raise InvalidInput(
            f"{name!r:.300} is not a backup's name: it {problem}",
            hint=f"give the name alone, as the list of backups shows it; it ends in {SUFFIX}",
            fields={"name": [f"it {problem}"]},
        )
    return name


def file_problem(name: str) -> str | None:
    """Why no visible file of the backup folder may have this name; None if one may. The suffix does not matter."""
    if "/" in name or "\\" in name:
        return "holds a path"
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        return "holds control characters"
    if name.startswith("."):
        return "begins with a dot"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    return None


def _problem(name: object) -> str | None:
    if not isinstance(name, str):
        return "is not a string"
    problem = file_problem(name)
    return problem if problem or name.endswith(SUFFIX) else f"does not end in {SUFFIX}"
