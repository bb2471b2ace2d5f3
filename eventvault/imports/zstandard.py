"""The module for zstd: the standard library's since Python 3.14, before that its backport."""

from __future__ import annotations

import sys
from typing import Any


def zstd() -> Any:
    """Return the module. Few imports and exports need it, so that it is loaded only then."""
    if sys.version_info >= (3, 14):
        from compression import zstd as module
    else:
        from backports import zstd as module
    return module
