"""The environment variables that child processes get: only listed ones, so that no secret of the service is among them.

Settings are not in it. Whoever starts a process that needs settings adds them. Secret settings go through a file in
memory, because every process of the same user can read the environment of another in /proc.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

SECRETS_VARIABLE = "EVENTVAULT_SECRETS"
"""Environment variable of a store: the descriptor of a file in memory that has further variables, as JSON."""
_MAX_SECRETS_BYTES = 2**20
_PASSED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TZDIR"),
        *("TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD", "GLIBC_TUNABLES"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF", "KRB5_CONFIG", "KRB5CCNAME"),
    }
)
_PASSED_PREFIXES = ("EVENTVAULT_", "PYTHON", "LC_", "MALLOC_")
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
"""In capital or small letters. They may hold passwords."""
_ENVIRONMENT_BEGIN, _ENVIRONMENT_END = 47, 48
"""Places in /proc/self/stat, counted after the name of the program."""


def for_child(more: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a child process: those of the list that this process has, and `more`."""
    return {name: text for name, text in os.environ.items() if _is_passed(name)} | dict(more)


def proxies() -> dict[str, str]:
    """Return the variables that name a proxy for requests to other machines."""
    return {name: text for name, text in os.environ.items() if name.upper() in _PROXIES}


@contextmanager
def hand_over(variables: Mapping[str, str]) -> Iterator[int]:
    """Yield a descriptor that a child inherits, for `receive` there: the variables are not in its environment."""
    descriptor = os.memfd_create("secrets")
    try:
        os.write(descriptor, json.dumps(dict(variables)).encode())
        yield descriptor
    finally:
        os.close(descriptor)


def receive() -> None:
    """Add to `os.environ` the variables that the parent process handed over, if it did."""
    number = os.environ.pop(SECRETS_VARIABLE, "")
    if not number.isdigit():
        return
    with suppress(OSError, ValueError):
        os.environ.update(json.loads(os.pread(int(number), _MAX_SECRETS_BYTES, 0)))
        os.close(int(number))


def hide(names: Iterable[str]) -> None:
    """Overwrite these variables in /proc/<pid>/environ of this process and of those that it forks from now on.

    `os.environ` keeps them, and so does a program that this process becomes by exec.
    """
    present = [name for name in names if os.environ.get(name)]
    for name in present:
        os.environ[name] = os.environ[name]  # from now on the C library uses a copy of its own
    with suppress(OSError, ValueError, IndexError):
        _overwrite([os.fsencode(name) for name in present])


def _overwrite(names: list[bytes]) -> None:
    numbers = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    begin, end = int(numbers[_ENVIRONMENT_BEGIN]), int(numbers[_ENVIRONMENT_END])
    memory = os.open("/proc/self/mem", os.O_RDWR)
    try:
        block = os.pread(memory, end - begin, begin)
        for name in names:
            for match in re.finditer(rb"(?:^|\0)" + re.escape(name) + rb"=([^\0]*)", block):
                os.pwrite(memory, b"*" * len(match[1]), begin + match.start(1))
    finally:
        os.close(memory)


def _is_passed(name: str) -> bool:
    return name in _PASSED or name.startswith(_PASSED_PREFIXES)
