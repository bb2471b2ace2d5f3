"""`python -m tests.states.held_chores NAME …`: a store whose chores of these names stop before they begin."""

from __future__ import annotations

import subprocess
import sys

from app.store.__main__ import main
from eventvault import chores

HOLD = 'kill -STOP $$; exec "$@"'


def hold(names: list[str]) -> None:
    started = subprocess.Popen

    def start(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        held = command[1:3] == ["-m", "eventvault.chores"] and command[3] in names
        return started(["sh", "-c", HOLD, "sh", *command] if held else command, **options)  # type: ignore[call-overload, no-any-return]

    chores.subprocess.Popen = start  # type: ignore[misc, assignment]


if __name__ == "__main__":
    at = sys.argv.index("--")
    hold(sys.argv[1:at])
    sys.argv[1:] = sys.argv[at + 1 :]
    sys.exit(main())
