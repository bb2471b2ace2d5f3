"""Loads the module for zstd: from the standard library since Python 3.14, before that its backport."""

from __future__ import annotations

import sys
from typing import Any


def zstd() -> Any:
    """Return the module, which is loaded only here because few imports and exports need it."""
    if sys.version_info >= (3, 14):
        from compression import zstd as module
    else:
        from backports import zstd as module
    return module
