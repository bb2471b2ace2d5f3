"""The environment variables that child processes get: a list, so that a secret of the service's environment is in none.

Settings are not in it. Whoever starts a process that needs settings adds them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_PASSED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TZDIR"),
        *("TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD", "GLIBC_TUNABLES"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF", "KRB5_CONFIG", "KRB5CCNAME"),
    }
)
_PASSED_PREFIXES = ("EVENTVAULT_", "PYTHON", "LC_", "MALLOC_")


def for_child(more: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a child process: those of the list that this process has, and `more`."""
    return {name: text for name, text in os.environ.items() if _is_passed(name)} | dict(more)


def _is_passed(name: str) -> bool:
    return name in _PASSED or name.startswith(_PASSED_PREFIXES)
