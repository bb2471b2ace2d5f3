"""`python -m app.store` whose chores have their modules loaded: see `tests/chore_processes.py`."""

from __future__ import annotations

import sys

from app.store.__main__ import main
from eventvault import chores
from tests.chore_processes import ChoreServer

if __name__ == "__main__":
    chores.start_process = ChoreServer().start_process  # type: ignore[assignment]
    sys.exit(main())
