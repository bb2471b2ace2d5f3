"""`python -m tests.states.held_chores NAME …`: a store whose chores of these names stop before they begin."""

from __future__ import annotations

import sys

from app.store.__main__ import main
from tests.held_chores import hold

if __name__ == "__main__":
    at = sys.argv.index("--")
    names = sys.argv[1:at]
    hold(names.__contains__)
    sys.argv[1:] = sys.argv[at + 1 :]
    sys.exit(main())
