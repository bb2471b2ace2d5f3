"""`python -m tests.states.quick_chores …`: a store whose chores are forks of a process that has their modules loaded.

A store of a state begins two dozen chores, and none of them is what the table is about.
"""

from __future__ import annotations

import sys

from app.store.__main__ import main
from eventvault import chores
from tests.chore_processes import ChoreServer

if __name__ == "__main__":
    chores.start_process = ChoreServer().start_process  # type: ignore[assignment]
    sys.exit(main())
