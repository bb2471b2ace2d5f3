"""Writes entries to the audit until it is killed: `python -m tests.crash.audit_writer FOLDER FIRST`.

Prints the number of each entry once it is written. Every third one comes from another thread.
"""

from __future__ import annotations

import itertools
import sys
import threading
from pathlib import Path

from eventvault.audit.lines import entry_now
from eventvault.audit.log import AuditLog


def main(folder: Path, first: int) -> None:
    log = AuditLog(folder / "storage", folder / "backups")
    printing = threading.Lock()

    def write(numbers: range | itertools.count[int]) -> None:
        for number in numbers:
            log.write(entry_now(operation=f"{number:016x}", state="ended", action="pin", who="tester", result="done"))
            log.each_second()
            with printing:
                print(number, flush=True)

    threading.Thread(target=write, args=(itertools.count(first, 3),), daemon=True).start()
    write(itertools.count(first + 1, 3))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
