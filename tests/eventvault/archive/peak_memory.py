"""How much memory a process takes to look at an archive."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from tests.service import PROJECT

LOOK = textwrap.dedent("""
    import sys
    from pathlib import Path
    from eventvault.archive import reader
    from eventvault.errors import ArchiveError

    def peak():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

    began = peak()
    try:
        getattr(reader, sys.argv[1])(Path(sys.argv[2]))
    except ArchiveError:
        pass
    print(peak() - began)
""")


def grown_by(how: str, path: Path) -> int:
    """Return by how many bytes `eventvault.archive.reader.<how>` grows a process of its own at most."""
    command = [sys.executable, "-c", LOOK, how, path]
    return int(subprocess.run(command, cwd=PROJECT, capture_output=True, check=True).stdout)
