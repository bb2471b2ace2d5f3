"""`python -m app.store` that is killed once.

EVENTVAULT_TEST_KILL_AT is `before` or `after`, and a function as `module:Class.name`.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from app.store.__main__ import main

MARK = "killed"
"""A file in STORAGE_DIR: the kill is done."""


def arm(when: str, function: str) -> None:
    """Replace the function by one that kills this process, unless a store was killed before."""
    module, _, path = function.partition(":")
    class_name, _, name = path.partition(".")
    owner = getattr(importlib.import_module(module), class_name)
    original = getattr(owner, name)
    mark = Path(os.environ["STORAGE_DIR"]) / MARK

    @functools.wraps(original)
    def killing(*arguments: Any, **named: Any) -> Any:
        result = None if when == "before" else original(*arguments, **named)
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named) if when == "before" else result

    setattr(owner, name, killing)


if __name__ == "__main__":
    arm(*os.environ["EVENTVAULT_TEST_KILL_AT"].split())
    sys.exit(main())
